"""The run on a terminal: the matrix, then what diverges or failed, what is known, layouts, and the counts."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from conformance.difference import Difference
from conformance.gated import Gated
from conformance.result import Run
from conformance_reports import terminal_difference, terminal_gate
from conformance_reports.matrix import matrix
from conformance_reports.problem import Problem, problems
from conformance_reports.problem_wording import HEADINGS, LABEL, Line, commands, formats, sentences, where
from conformance_reports.terminal_matrix import drawn
from conformance_reports.terminal_subjects import of_subjects, subjects
from conformance_reports.wording import cause, counts, figure, layout_sentence, visible


def show(run: Run | Difference, console: Console) -> None:
    """Print `run`: it takes the console's width and colours, and fits 80 columns."""
    if isinstance(run, Difference):
        terminal_difference.show(run, console)
        return
    if isinstance(run, Gated):
        failing = msgspec.structs.replace(run, cases=[c for c in run.cases if c.fails and c.change != "gone"])
        for problem in problems(failing, ["diverges"]):
            _show_problem(problem, console)
        terminal_gate.show(run, console)
        return
    if of_subjects(run):
        for part in subjects(run):
            console.print(part, highlight=False)
        console.print()
    elif run.cases:
        console.print(*drawn(matrix(run), console.width), sep="\n", highlight=False)
        console.print()
    for problem in problems(run, HEADINGS):
        _show_problem(problem, console)
    known = problems(run, ["known-divergence"])
    if known:
        console.print(Text("Known divergences", style="bold"))
        for problem in known:
            _show_known(problem, console)
        console.print()
    _show_layouts(run, console)
    _print_wrapped(_summary(run), console)


def _line(console: Console, text: str, indent: int = 2, style: str = "") -> None:
    """Print outside text, indented; what stands between backticks is bold."""
    pieces = visible(" ".join(text.split())).split("`")
    line = Text(style=style)
    for number, piece in enumerate(pieces):
        line.append("`" if number else "").append(piece, style="bold" if number % 2 else "")
    _print_wrapped(line, console, indent)


def _print_wrapped(text: Text, console: Console, indent: int = 0) -> None:
    for line in text.wrap(console, console.width - indent):
        line.rstrip()
        console.print(Text(" " * indent).append_text(line), highlight=False)


def _show_problem(problem: Problem, console: Console) -> None:
    case = problem.worst
    heading = Text(HEADINGS[case.status], style="bold red")
    heading.append(f"  {visible(case.fixture or case.subject)} ", style="default")
    heading.append(visible(where(problem)), style="not bold default")
    _print_wrapped(heading, console)
    for line in sentences(problem):
        if line.label:
            _show_formula(line, console)
        else:
            _line(console, line.text, indent=4 if line.detail else 2, style="dim" if line.detail else "")
    for words in commands(problem):
        _show_command(console, words)
    console.print()


def _show_formula(line: Line, console: Console) -> None:
    """Print a formula after its label; what does not fit on the line stands below it."""
    formula = Text(visible(" ".join(line.text.split())))
    for number, part in enumerate(formula.wrap(console, console.width - 4 - len(LABEL))):
        part.rstrip()
        start = Text(" " * 4 + ("" if number else line.label).ljust(len(LABEL)), style="dim")
        console.print(start.append_text(part), highlight=False)


def _show_command(console: Console, words: list[str]) -> None:
    """Print a command that can be copied: broken between its options, with a backslash."""
    lines: list[str] = []
    for word in words:
        if lines and cell_len(lines[-1]) + cell_len(word) + 1 <= console.width - 8:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    for number, line in enumerate(lines):
        end = " \\" if number < len(lines) - 1 else ""
        console.print(Text(("  $ " if not number else "      ") + line + end, style="cyan"), soft_wrap=True)


def _show_known(problem: Problem, console: Console) -> None:
    """Where, and why: the reason is shortened to what is left of the line."""
    case = problem.worst
    count = len(problem.fixtures)
    where = problem.fixtures[0] or case.layer if count == 1 else f"{count} fixtures"
    at = visible(f"{case.adapter} {case.subject}, {formats(problem)}: {where}, at {case.culprit}")
    causes = visible(", ".join(cause(f) for f in case.diagnosis))
    reason = visible(" ".join((case.message or "").split()))
    why = Text(causes).append(" - " if causes and reason else "", style="dim").append(reason, style="dim")
    _print_wrapped(Text(at), console, 2)
    _print_shortened(Text("    ").append_text(why), console)


def _print_shortened(line: Text, console: Console) -> None:
    line.truncate(console.width, overflow="ellipsis")
    console.print(line, no_wrap=True, highlight=False)


def _show_layouts(run: Run, console: Console) -> None:
    lines = dict.fromkeys(_layout_lines(run))
    if not lines:
        return
    console.print(Text("Layouts: the same numbers with other axes", style="bold"))
    for line in lines:
        _line(console, line)
    console.print()


def _layout_lines(run: Run) -> Iterable[str]:
    for case in run.cases:
        for layout in case.layouts:
            yield f"{case.fixture} {case.adapter}: {layout_sentence(case, layout)}"


def _summary(run: Run) -> Text:
    judged, left = counts(run)
    text = Text(judged, style="bold")
    text.append(f" in {figure(run.seconds)} s", style="not bold")
    if left:
        text.append(f"; left out: {left}", style="not bold dim")
    return text
