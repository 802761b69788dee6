"""A run's findings in words. Names stand between backticks; what was written elsewhere is made visible first."""

from __future__ import annotations

import math
import re
import shlex
import unicodedata
from collections.abc import Iterable

from conformance.result import Case, Deviation, Finding, LayoutFinding, Run, StepResult

_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_COUNTED = {
    "conforms": ("conforms", "conform"),
    "diverges": ("diverges", "diverge"),
    "known-divergence": ("known divergence", "known divergences"),
    "stale-divergence": ("stale divergence", "stale divergences"),
    "uninformative": ("uninformative", "uninformative"),
    "inconclusive": ("inconclusive", "inconclusive"),
    "unsupported": ("unsupported", "unsupported"),
    "unavailable": ("unavailable", "unavailable"),
    "crashed": ("crashed", "crashed"),
    "timeout": ("timed out", "timed out"),
    "error": ("failed", "failed"),
}
LEFT_OUT = ("unsupported", "unavailable")
"""The statuses of cases that were not run."""


def visible(text: str) -> str:
    """`text` with every character that is not seen, or that reorders its neighbours, as an escape.

    Line feeds stay, tabs become spaces.
    """
    return "".join(
        c if c == "\n" or unicodedata.category(c) not in _UNSEEN else " " if c == "\t" else _escape(c) for c in text
    )


def _escape(character: str) -> str:
    point = ord(character)
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def figure(value: float | str, digits: int = 3) -> str:
    """A number as a person writes it: `2.31`, `1.3e6`, `inf`."""
    number = float(value)
    text = f"{number:.{digits}g}"
    if "e" in text and 1 <= abs(float(text)) < 1000:
        text = f"{float(text):.0f}"
    return re.sub(r"e\+?(-?)0*(?=\d)", r"e\1", text)


def tolerances(value: float) -> str:
    """A ratio with two digits: `0.20`, `1.3e6`; `<0.01` where it is closer than that."""
    if 0 < value < 0.01:
        return "<0.01"
    return f"{value:#.2g}".rstrip(".") if 0.01 <= value < 10 else figure(value, 2)


def place(step: StepResult, at: list[int]) -> str:
    """An index with its axes' names: `batch 0 head 3`; in brackets where the names do not fit it."""
    names = step.axes.split()
    if len(names) != len(at):
        return f"[{', '.join(map(str, at))}]"
    return " ".join(f"{n} {i}" for n, i in zip(names, at, strict=True))


def culprit(case: Case) -> StepResult | None:
    """The step that is at fault, where the case names one that was judged."""
    return next((s for s in case.steps if s.name == case.culprit), None)


def culprit_sentence(case: Case, dtype: str = "") -> str:
    """Which step is off, by how much and where; and as far as which step the fault may lie.

    `dtype` is told where there are several, and these figures are of one of them.
    """
    return f"in {dtype}, {_culprit(case)}" if dtype else _culprit(case)


def _culprit(case: Case) -> str:
    step = culprit(case)
    if step is None:
        return f"step `{case.culprit}` is at fault" if case.culprit else "no step is at fault by itself"
    worst = told_deviation(step)
    if worst is None:
        said = f"step `{step.name}` is at fault, and nothing on the tape holds its values"
    else:
        subject = f"step `{step.name}`" if step.found else f"the tensor closest to step `{step.name}`"
        where = f" at {place(step, worst.at)}" if worst.at else ""
        greatest = f"; the greatest error is {figure(worst.max_abs)} absolute"
        if "another-shape" in step.flags:
            said = f"step `{step.name}` has another shape"
        elif not math.isfinite(float(worst.max_abs)):
            said = f"{subject} has an infinity or NaN that does not belong there, or lacks one that does,{where}"
            said = said if where else said.removesuffix(",")
        elif not math.isfinite(worst.tolerances):
            said = f"{subject} is off{where}, where rounding explains nothing{greatest}"
        else:
            said = f"{subject} is off by {figure(worst.tolerances, 2)} tolerances{where}{greatest}"
        if step.isolated is not None and step.isolated.tolerances <= 1 < worst.tolerances:
            said += "; by itself it conforms, so this adds up over the steps before it"
    if case.culprit_until:
        said += f"; the fault may lie anywhere up to `{case.culprit_until}`, the next step that was found"
    return said


def told_deviation(step: StepResult) -> Deviation | None:
    """The error of a step that is told: by itself, or from the inputs on where only that is too great."""
    told = [d for d in (step.isolated, step.accumulated) if d is not None]
    return next((d for d in told if not d.tolerances <= 1), told[0] if told else None)


def found_sentence(step: StepResult) -> str:
    """Where on the tape a step was found."""
    if step.found is None:
        return "not found on the tape"
    if step.found.position < 0:
        return "judged on the run's output: no tensor of the tape holds it"
    held = f", held as {step.found.axes}" if step.found.axes else ""
    return f"found on the tape as `{step.found.operation}`, operation {step.found.position}{held}"


def cause(finding: Finding) -> str:
    """A finding as `attention.scale = 1`."""
    return f"{finding.convention} = {finding.value}"


def remark(finding: Finding) -> str:
    """What a finding's values and formulas leave to say: where others have seen it, if anywhere. A finding of no
    formula, or that is but a hint, has its sentence."""
    if finding.formula and finding.explains:
        return f"seen elsewhere: {finding.seen}" if finding.seen else ""
    return finding.sentence


def layout_sentence(case: Case, layout: LayoutFinding) -> str:
    """A layout: `scores` held with other axes."""
    step = next((s for s in case.steps if s.name == layout.step), None)
    held = step.found.axes if step is not None and step.found is not None and step.found.axes else layout.value
    return f"`{layout.step}` held as {held}: {layout.convention} = {layout.value}"


def capital(sentence: str) -> str:
    """`sentence` with a capital, unless a name begins it."""
    return sentence[:1].upper() + sentence[1:]


def listed(words: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def counted(status: str, count: int) -> str:
    """`3 known divergences`."""
    one, many = _COUNTED.get(status, (status, status))
    return f"{count} {one if count == 1 else many}"


def counts(run: Run) -> tuple[str, str]:
    """How many cases have which status: of those that were run, and of those that were not."""
    judged = [counted(s, n) for s, n in run.summary.items() if n and s not in LEFT_OUT]
    left = [counted(s, run.summary[s]) for s in LEFT_OUT if run.summary.get(s)]
    return ", ".join(judged) or "nothing was judged", ", ".join(left)


def outcome(run: Run) -> str:
    """The run in one sentence."""
    summary = run.summary
    judged = sum(n for s, n in summary.items() if s not in LEFT_OUT)
    bad = summary.get("diverges", 0)
    stale = summary.get("stale-divergence", 0)
    failed = [counted(s, summary[s]) for s in ("crashed", "timeout", "error") if summary.get(s)]
    known = summary.get("known-divergence", 0)
    if not judged:
        return "Nothing was judged."
    told = []
    if bad:
        verb = "diverges" if bad == 1 else "diverge"
        told.append(f"The one case {verb}" if judged == 1 else f"{bad} of {judged} cases {verb}")
    if stale:
        told.append(f"{stale} listed as diverging {'conforms' if stale == 1 else 'conform'}")
    if failed:
        many = sum(summary.get(s, 0) for s in ("crashed", "timeout", "error")) > 1
        told.append(f"{listed(failed)} before {'they' if many else 'it'} could be judged")
    if told:
        sentence = "; ".join(told) + "."
        return sentence[0].upper() + sentence[1:]
    unclear = summary.get("uninformative", 0) + summary.get("inconclusive", 0)
    apart = [f"{counted('known-divergence', known)}"] if known else []
    apart += [f"{unclear} that nothing can be said of"] if unclear else []
    every = "The one case conforms" if judged == 1 else f"All {judged} cases conform"
    return every + (f", apart from {listed(apart)}." if apart else ".")


def rerun(cases: Iterable[Case]) -> list[str]:
    """The command that runs these cases again, in words that a shell takes; none for cases of no fixture."""
    chosen = [c for c in cases if c.fixture and c.adapter]
    if not chosen:
        return []
    words = ["conformance run"]
    for option, values in (
        ("--fixture", [c.fixture for c in chosen]),
        ("--adapter", [c.adapter for c in chosen]),
        ("--dtype", sorted({c.dtype for c in chosen})),
        ("--mode", [c.mode for c in chosen if c.mode != "eager"]),
        ("--device", [c.device for c in chosen if c.device != "cpu"]),
    ):
        words += [f"{option} {shlex.quote(visible(v))}" for v in dict.fromkeys(values)]
    return words
