"""A gate on a terminal: the versions, what changed, the gravest first, and the counts."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from conformance.gated import Gated
from conformance_reports import gate_wording
from conformance_reports.gate_wording import Row
from conformance_reports.wording import figure, visible

_STYLES = {
    "regressed": "bold red",
    "changed-default": "bold red",
    "crashed": "bold red",
    "gone": "red",
    "changed-divergence": "red",
    "improved": "green",
    "drift": "green",
    "new": "cyan",
}
_MOST = 40
"""The rows that are shown: the gravest."""


def show(run: Gated, console: Console) -> None:
    """Print `run`, in as many columns as `console` has."""
    for line in gate_wording.versions(run):
        _print(console, Text(visible(line), style="dim"))
    if run.versions:
        console.print()
    rows = gate_wording.rows(run)
    for row in rows[:_MOST]:
        _show(row, console)
    left = sum(len(row.cases) for row in rows[_MOST:])
    if left:
        console.print(Text(f"and {left} more cases: --html and --json have them all", style="dim"))
    if rows:
        console.print()
    _print(console, Text(gate_wording.outcome(run), style="bold"))
    _print(console, Text(f"{gate_wording.counts(run)} in {figure(run.seconds)} s", style="dim"))


def _show(row: Row, console: Console) -> None:
    case = row.worst
    heading = Text(f"{case.change}{'' if case.fails else ' (passes)'}", style=_STYLES.get(case.change, ""))
    heading.append(f"  {visible(case.adapter)} {visible(case.subject)}: {visible(row.where)}", style="not bold default")
    _print(console, heading)
    for sentence in gate_wording.sentences(case):
        _print(console, Text(visible(" ".join(sentence.replace("`", "").split()))), 2)


def _print(console: Console, text: Text, indent: int = 0) -> None:
    for line in text.wrap(console, console.width - indent):
        line.rstrip()
        console.print(Text(" " * indent).append_text(line), highlight=False)
