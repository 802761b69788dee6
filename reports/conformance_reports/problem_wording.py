"""A problem in sentences, as the terminal, JUnit and Markdown tell it; what stands between backticks is a name."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from conformance_reports.problem import Problem
from conformance_reports.wording import cause, culprit, culprit_sentence, found_sentence, listed, rerun, visible

HEADINGS = {
    "diverges": "DIVERGES",
    "stale-divergence": "STALE",
    "crashed": "CRASHED",
    "timeout": "TIMED OUT",
    "error": "ERROR",
}
"""The statuses that are problems, and what a problem's first line says."""


def where(problem: Problem) -> str:
    """The adapter and the dtypes in which it shows, and what a subject of no fixture was asked to be."""
    case = problem.worst
    asked = "" if case.fixture else f", asked to be {case.layer}"
    return f"on {case.adapter}, {listed(problem.dtypes)}{asked}"


def sentences(problem: Problem) -> Iterator[tuple[str, bool]]:
    """Which step, by how much, and why; each with whether it is a detail of the one before it."""
    case = problem.worst
    if case.subject and case.fixture:
        yield f"subject: {case.subject}", False
    if case.status == "diverges":
        yield culprit_sentence(case, problem.told_dtype), False
        step = culprit(case)
        if step is not None:
            yield found_sentence(step), False
    if case.message:
        yield case.message, False
    if case.status != "diverges":
        return
    if not case.diagnosis:
        yield "unexplained: no known convention gives these values", False
    for finding in case.diagnosis:
        how = "because" if finding.explains else "not explained; a hint:"
        yield f"{how} `{cause(finding)}`, where the layer has {finding.canonical}", False
        yield finding.sentence, True
        if finding.equivalent:
            yield f"no value here tells it from {' or '.join(finding.equivalent)}", True


def commands(problem: Problem) -> list[list[str]]:
    """What to do next: commands, each in words that a shell takes."""
    explain = ["conformance explain", shlex.quote(visible(problem.worst.layer))]
    return [
        words for words in ([explain] if problem.worst.status == "diverges" else []) + [rerun(problem.cases)] if words
    ]
