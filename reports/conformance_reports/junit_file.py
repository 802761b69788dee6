"""A run or a diff as JUnit XML, for the test panels of CI servers.

The structure is what two published schemas have in common: that of Ant's JUnit task (windyroad's JUnit.xsd) and
that of Jenkins (junit-10.xsd). Ant's asks for a host, a package and two outputs, and knows no time zone.
"""

from __future__ import annotations

from datetime import UTC, datetime
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from conformance.difference import Difference
from conformance.gated import GatedCase
from conformance.result import Case, Run
from conformance_reports import difference_wording, gate_wording
from conformance_reports.problem import Problem
from conformance_reports.problem_wording import HEADINGS, LABEL, commands, sentences, where
from conformance_reports.wording import capital, cause, culprit_sentence, layout_sentence, visible

_OUTCOMES = {
    **dict.fromkeys(("diverges", "stale-divergence"), "failure"),
    **dict.fromkeys(("crashed", "timeout", "error"), "error"),
    **dict.fromkeys(("unsupported", "unavailable", "uninformative", "inconclusive"), "skipped"),
}
"""What a test of this status has; of the others nothing, which is how JUnit says that it passed."""
_ONCE = 1000  # characters of a message: panels show it on a line


def render(run: Run | Difference) -> str:
    """`run` as XML: a suite per adapter, a test per case; a diff is one test.

    A known divergence passes, and is told in its suite's output.
    """
    root = Element("testsuites")
    if isinstance(run, Difference):
        _difference(root, run)
    else:
        for adapter in dict.fromkeys(c.adapter for c in run.cases):
            _adapter(root, run, adapter, [c for c in run.cases if c.adapter == adapter])
    for number, suite in enumerate(root):
        suite.set("id", str(number))
    ElementTree.indent(root, " ")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _adapter(root: Element, run: Run, adapter: str, cases: list[Case]) -> None:
    suite = _suite(root, run, adapter, sum(c.seconds for c in cases))
    for case in cases:
        test = _test(suite, case.layer, _name(case), case.seconds)
        kind = _OUTCOMES.get(case.status)
        if isinstance(case, GatedCase):  # of a gate, what the policy lets pass has passed
            if case.fails:
                changed = f"{case.change}: {'; '.join(gate_wording.sentences(case))}"
                _outcome(test, "failure", case.change, changed, _told(case) if case.status in HEADINGS else "")
        elif kind is not None:
            _outcome(test, kind, case.status, _message(case), _told(case) if case.status in HEADINGS else "")
    _close(suite, [line for case in cases for line in _notes(case)])


def _name(case: Case) -> str:
    """A name that is the same in every run, and no other case's."""
    asked = [case.subject if case.fixture else "", case.dtype]
    asked += [case.mode] if case.mode != "eager" else []
    asked += [case.device] if case.device != "cpu" else []
    return f"{case.fixture or case.subject} [{', '.join(word for word in asked if word)}]"


def _message(case: Case) -> str:
    """One line: the step and by how much it is off, and the cause, or why the case was not judged."""
    if case.status != "diverges":
        return case.message or case.status
    causes = [cause(f) for f in case.diagnosis if f.explains]
    said = culprit_sentence(case) + (f"; because {', '.join(causes)}" if causes else "")
    return said if case.culprit or not case.message else case.message


def _told(case: Case) -> str:
    """What fits on a screen: which step, by how much, why, and what to do next."""
    problem = Problem((case,))
    lines = [f"{HEADINGS[case.status]}  {case.fixture or case.subject} {where(problem)}"]
    for line in sentences(problem):
        label = line.label.ljust(len(LABEL)) if line.label else ""
        lines.append(f"{'    ' if line.detail else '  '}{label}{line.text}")
    lines += [f"  $ {' '.join(words)}" for words in commands(problem)]
    return "\n".join(lines)


def _notes(case: Case) -> list[str]:
    """What is known of a test that passes nevertheless."""
    lines = [f"{_name(case)}: {layout_sentence(case, layout)}" for layout in case.layouts]
    if case.status == "known-divergence":
        causes = ", ".join(cause(f) for f in case.diagnosis)
        reason = " - ".join(word for word in (causes, case.message) if word)
        lines.append(f"{_name(case)}: known divergence at {case.culprit}" + (f": {reason}" if reason else ""))
    return [" ".join(line.split()) for line in lines]


def _difference(root: Element, found: Difference) -> None:
    suite = _suite(root, found, "diff", found.seconds)
    test = _test(suite, "diff", f"{found.a.name} and {found.b.name} [{found.a.dtype}, {found.b.dtype}]", found.seconds)
    lines = [difference_wording.side("A", found.a), difference_wording.side("B", found.b)]
    told = "\n".join([*lines, *difference_wording.details(found)])
    kind = {"parts": "failure", "uninformative": "skipped"}.get(found.status)
    if kind is not None:
        _outcome(test, kind, found.status, difference_wording.outcome(found), told)
    _close(suite, [] if kind else told.splitlines())


def _suite(root: Element, run: Run | Difference, name: str, seconds: float) -> Element:
    suite = SubElement(
        root,
        "testsuite",
        name=_attribute(name),
        package="conformance",
        timestamp=_timestamp(run.started),
        hostname="localhost",  # what Ant's schema says for a host that is not known
        time=_decimal(seconds),
    )
    properties = SubElement(suite, "properties")
    for key, value in {"conformance": run.conformance, **run.environment}.items():
        SubElement(properties, "property", name=_attribute(key), value=_attribute(value))
    return suite


def _test(suite: Element, layer: str, name: str, seconds: float) -> Element:
    return SubElement(suite, "testcase", classname=_attribute(layer), name=_attribute(name), time=_decimal(seconds))


def _outcome(test: Element, kind: str, status: str, message: str, told: str) -> None:
    said = capital(_attribute(message))
    made = SubElement(test, kind, message=said if len(said) <= _ONCE else f"{said[: _ONCE - 1]}…", type=status)
    made.text = visible(told) or None


def _close(suite: Element, output: list[str]) -> None:
    SubElement(suite, "system-out").text = visible("\n".join(output))
    SubElement(suite, "system-err").text = ""
    suite.set("tests", str(len(suite.findall("testcase"))))
    for plural, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(plural, str(len(suite.findall(f"testcase/{kind}"))))


def _attribute(text: str) -> str:
    """Text on one line, of characters that XML can hold; a dash for none, as Ant's schema wants some."""
    return visible(" ".join(text.split())) or "-"


def _decimal(seconds: float) -> str:
    return f"{max(seconds, 0):.3f}"


def _timestamp(started: str) -> str:
    """A time in UTC, to the second; 1970 where `started` is none."""
    try:
        moment = datetime.fromisoformat(started)
        return (moment.astimezone(UTC) if moment.tzinfo else moment).strftime("%Y-%m-%dT%H:%M:%S")
    except (ValueError, OverflowError):
        return "1970-01-01T00:00:00"
