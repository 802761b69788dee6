"""A diff of two models on a terminal: where they part, and on what that rests."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from conformance.difference import Difference
from conformance_reports.difference_wording import details, outcome, side
from conformance_reports.wording import figure, visible

_STYLES = {"same": "bold green", "parts": "bold red"}


def show(found: Difference, console: Console) -> None:
    """Print `found`: it fits the console's width."""
    _print(outcome(found), console, 0, _STYLES.get(found.status, "bold yellow"))
    _print(side("A", found.a), console)
    _print(side("B", found.b), console)
    for sentence in details(found):
        _print(sentence, console)
    _print(f"compared in {figure(found.seconds)} s", console, 0)


def _print(sentence: str, console: Console, indent: int = 2, style: str = "") -> None:
    """A sentence, wrapped and indented; what stands between backticks is bold."""
    pieces = visible(sentence).split("`")
    line = Text(style=style)
    for number, piece in enumerate(pieces):
        line.append(piece, style="bold" if number % 2 else "")
    for number, part in enumerate(line.wrap(console, console.width - indent - 2)):
        part.rstrip()
        console.print(Text(" " * (indent + 2 * bool(number))).append_text(part), highlight=False)
