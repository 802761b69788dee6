"""A problem in sentences, as the terminal, JUnit and Markdown tell it; what stands between backticks is a name."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from conformance.result import Finding
from conformance_reports.problem import Problem
from conformance_reports.wording import cause, culprit, culprit_sentence, found_sentence, listed, remark, rerun, visible

HEADINGS = {
    "diverges": "DIVERGES",
    "stale-divergence": "STALE",
    "crashed": "CRASHED",
    "timeout": "TIMED OUT",
    "error": "ERROR",
}
"""The statuses that are problems, and what a problem's first line says."""


LABEL = "the layer: "
"""The longest label of a formula: the others are filled up to it, so that formulas stand below one another."""


@dataclass(frozen=True)
class Line:
    """A sentence, or a detail of the one before it; one with a label is a formula, and no words."""

    text: str
    detail: bool = False
    label: str = ""


def formats(problem: Problem) -> str:
    """The dtypes in which it shows, and the execution modes where they are not eager alone."""
    word = "mode" if len(problem.modes) == 1 else "modes"
    modes = "" if problem.modes == ["eager"] else f", {word} {listed(problem.modes)}"
    return f"{listed(problem.dtypes)}{modes}"


def where(problem: Problem) -> str:
    """The adapter, the dtypes and the modes in which it shows, and what a subject of no fixture was asked to be."""
    case = problem.worst
    asked = "" if case.fixture else f", asked to be {case.layer}"
    return f"on {case.adapter}, {formats(problem)}{asked}"


def sentences(problem: Problem) -> Iterator[Line]:
    """Which step, by how much, and why."""
    case = problem.worst
    if case.subject and case.fixture:
        yield Line(f"subject: {case.subject}")
    if case.status == "diverges":
        yield Line(culprit_sentence(case, problem.told_dtype))
        step = culprit(case)
        if step is not None:
            yield Line(found_sentence(step))
    if case.message:
        yield Line(case.message)
    if case.status != "diverges":
        return
    if not case.diagnosis:
        yield Line("unexplained: no known convention gives these values")
    for finding in case.diagnosis:
        yield from _explained(finding)


def _explained(finding: Finding) -> Iterator[Line]:
    how = "because" if finding.explains else "not explained; a hint:"
    yield Line(f"{how} `{cause(finding)}`, where the layer has {finding.canonical}")
    if finding.formula and finding.explains:
        yield Line(finding.formula, True, "here: ")
        if finding.canonical_formula:
            yield Line(finding.canonical_formula, True, LABEL)
    if said := remark(finding):
        yield Line(said, True)
    if finding.equivalent:
        yield Line(f"no value here tells it from {' or '.join(finding.equivalent)}", True)


def commands(problem: Problem) -> list[list[str]]:
    """What to do next: commands, each in words that a shell takes."""
    explain = ["conformance explain", shlex.quote(visible(problem.worst.layer))]
    return [
        words for words in ([explain] if problem.worst.status == "diverges" else []) + [rerun(problem.cases)] if words
    ]
