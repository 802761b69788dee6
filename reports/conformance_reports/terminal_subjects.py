"""What was checked, rather than run on fixtures, as tables of text: the layers of a model, the steps of one layer."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from conformance.result import Case, Run, StepResult
from conformance_reports.wording import cause, counted, tolerances, visible

_MOST = 24  # rows of a model's table: the worst ones
_STYLES = {"conforms": "green", "diverges": "bold red", "error": "red", "crashed": "red"}
_STEP_STYLES = {"conforms": "green", "diverges": "bold red", "propagated": "yellow", "not-observed": "dim"}


def of_subjects(run: Run) -> bool:
    """Whether the run's cases are of subjects that someone handed over, and not of fixtures."""
    return bool(run.cases) and not any(c.fixture for c in run.cases)


def subjects(run: Run) -> Iterable[RenderableType]:
    """A row for each layer, in the order of the run; and for a single layer its steps."""
    if len(run.cases) == 1:
        if run.cases[0].steps:
            yield steps(run.cases[0])
        return
    table = _table("", "layer", "worst error", "")
    for case in run.cases[:_MOST]:
        style = _STYLES.get(case.status, "dim")
        why = ", ".join(cause(f) for f in case.diagnosis) or (case.message or "")
        at = f"at {case.culprit}" + (": " if why else "") if case.culprit else ""
        table.add_row(
            Text(visible(case.subject), overflow="fold"), case.layer, Text(_figure(case), style), visible(at + why)
        )
    yield table
    left = run.cases[_MOST:]
    if left:
        counts = {s: sum(c.status == s for c in left) for s in dict.fromkeys(c.status for c in left)}
        said = ", ".join(counted(s, n) for s, n in counts.items())
        yield Text(f"and {len(left)} more ({said}): --json and --html have them all", style="dim")
    yield Text("errors are in tolerances: up to 1, rounding explains them", style="dim")


def _figure(case: Case) -> str:
    if case.status not in ("conforms", "diverges"):
        return case.status
    said = "" if case.ratio is None else tolerances(case.ratio)
    return f"DIVERGES {said}".strip() if case.status == "diverges" else said or "conforms"


def steps(case: Case) -> RenderableType:
    """The steps of one layer: how each compares by itself and from the inputs on, and where it was found."""
    table = _table("step", "by itself", "from the inputs", "found as")
    for step in case.steps:
        style = _STEP_STYLES.get(step.status, "magenta")
        name = Text(step.name, style="bold red" if step.name == case.culprit else "")
        if step.status == "not-observed":
            table.add_row(name, "", "", Text("not observed", "dim"))
            continue
        alone, all_the_way = (_ratio(step, which) for which in ("isolated", "accumulated"))
        table.add_row(name, Text(alone, style), Text(all_the_way, style), Text(_where(step), "dim"))
    return table


def _ratio(step: StepResult, which: str) -> str:
    deviation = getattr(step, which)
    return "" if deviation is None else tolerances(deviation.tolerances)


def _where(step: StepResult) -> str:
    if step.found is None:
        return "nothing on the tape"
    if step.found.position < 0:
        return "the output"
    return visible(f"{step.found.operation}, {step.found.axes}" if step.found.axes else step.found.operation)


def _table(*columns: str) -> Table:
    table = Table(box=None, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for number, column in enumerate(columns):
        figures = "error" in column or "itself" in column or "inputs" in column
        table.add_column(
            column, justify="right" if figures else "left", overflow="fold", no_wrap=number == 0 and figures
        )
    return table
