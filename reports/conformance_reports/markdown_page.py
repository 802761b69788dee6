"""A run or a diff as GitHub's Markdown, for a comment on a pull request or the summary of a job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from conformance.difference import Difference, Side
from conformance.gated import Gated
from conformance.result import Case, Deviation, Run, StepResult
from conformance_reports import difference_wording, gate_wording, wording
from conformance_reports.gate_wording import Row
from conformance_reports.markdown_text import block, cell, code, prose, summary
from conformance_reports.matrix import cell_text, matrix
from conformance_reports.problem import Problem, problems
from conformance_reports.problem_wording import HEADINGS, commands, formats, sentences, where
from conformance_reports.wording import cause, counts, figure, tolerances

LIMIT = 65_536
"""The characters of which GitHub takes fewer for a comment. Bytes are counted here: there are never fewer of them."""
_CUT = "*This is cut to what GitHub takes, 65,536 characters: the JSON and the HTML report have everything.*\n\n"
_PROBLEM = ("what", "step", "error in tolerances", "cause")
_MOST = 100  # rows of a folded table
_VERSIONS = 40


def render(run: Run | Difference) -> str:
    """`run` as Markdown of less than 65,536 characters: the outcome, what diverges, and the rest folded."""
    if isinstance(run, Difference):
        return _difference(run)
    if isinstance(run, Gated):
        return _gate(run)
    judged, left = counts(run)
    head = f"### {prose(wording.outcome(run))}\n\n{judged} in {figure(run.seconds)} s"
    head += f"; left out: {left}.\n\n" if left else ".\n\n"
    found = problems(run, HEADINGS)
    parts = [_problem(problem) for problem in found]
    if any(c.fixture for c in run.cases):
        parts.append(_matrix(run))
    elif len(run.cases) == 1:
        parts.append(_steps(run.cases[0]))
    else:
        parts.append(_layers(run))
    parts += [_known(run), _left_out(run)]
    return _fitted(head, [_row(problem) for problem in found], parts, _versions(run))


def _fitted(head: str, rows: list[str], parts: list[str], tail: str, columns: Sequence[str] = _PROBLEM) -> str:
    """All of it; or the rows (in half of the room) and the parts for which there is room, and that it is cut."""
    table = _table(columns)
    room = LIMIT - 1 - sum(_size(text) for text in (head, table, "\n", _CUT, tail))
    kept = _taken(rows, room // 2)
    told = _taken(parts, room - sum(map(_size, kept)))
    cut = len(kept) < len(rows) or len(told) < len(parts)
    return "".join([head, *([table, *kept, "\n"] if kept else []), *told, _CUT if cut else "", tail])


def _taken(texts: list[str], room: int) -> list[str]:
    kept = []
    for text in texts:
        room -= (size := _size(text))
        if room >= 0:
            kept.append(text)
        else:
            room += size
    return kept


def _size(text: str) -> int:
    return len(text.encode())


# -- tables and folds --------------------------------------------------------------------------------------------------


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]] = ()) -> str:
    """A table of Markdown: its head, and as many rows as a reader may want."""
    lines = [columns, ["---"] * len(columns), *rows[:_MOST]]
    left = len(rows) - _MOST
    return "".join(_line(line) for line in lines) + (f"\nand {left} more\n" if left > 0 else "")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell(text) for text in cells)} |\n"


def _fold(title: str, content: str) -> str:
    """What is shown when the title is clicked; the empty lines are where GitHub reads Markdown again."""
    return f"<details>{title}\n\n{content}\n</details>\n\n"


def _items(lines: Iterator[str] | Sequence[str]) -> str:
    return "".join(f"- {line}\n" for line in lines)


# -- runs --------------------------------------------------------------------------------------------------------------


def _row(problem: Problem) -> str:
    """What diverges, at which step, by how much and why."""
    case = problem.worst
    asked = "" if case.fixture else f", asked to be {code(case.layer)}"
    what = f"{code(case.fixture or case.subject)} on {code(case.adapter)}, {prose(formats(problem), 200)}{asked}"
    if case.status != "diverges":
        return _line([what, HEADINGS[case.status].lower(), "", prose(case.message or "", 200)])
    step = wording.culprit(case)
    told = None if step is None else wording.told_deviation(step)
    return _line([what, code(case.culprit or ""), _error(told), _causes(case) or "unexplained"])


def _causes(case: Case) -> str:
    """The conventions that explain it; hints as such."""
    return ", ".join(code(cause(f)) + ("" if f.explains else " (a hint)") for f in case.diagnosis[:5])


def _error(told: Deviation | float | None) -> str:
    if told is None:
        return ""
    return tolerances(told.tolerances if isinstance(told, Deviation) else told)


def _problem(problem: Problem) -> str:
    """A problem as a fold: what the terminal says of it."""
    case = problem.worst
    lines = "".join(
        f"{'  ' if line.detail else ''}- {line.label}{code(line.text) if line.label else prose(line.text)}\n"
        for line in sentences(problem)
    )
    told = "\n".join(" ".join(words) for words in commands(problem))
    title = summary(f"{case.fixture or case.subject} {where(problem)}", HEADINGS[case.status].lower())
    return _fold(title, lines + (f"\n{block(told)}" if told else ""))


def _matrix(run: Run) -> str:
    """A row per fixture, a column per adapter, as the terminal has it."""
    made = matrix(run)
    rows = [[code(row.folder), *(cell_text(c) for c in row.cells)] for row in made.rows]
    return _fold(summary("", "Every fixture"), _table(["", *(code(c.name) for c in made.columns)], rows) + _LEGEND)


_LEGEND = "\nA number is the worst error, in tolerances: up to 1, rounding explains it; `*`: known divergences apart.\n"


def _steps(case: Case) -> str:
    """The steps of the one layer that was checked."""
    rows = [
        [code(s.name), s.status if s.isolated is None else _error(s.isolated), _error(s.accumulated), _found(s)]
        for s in case.steps
    ]
    return (
        _fold(summary("", "Steps"), _table(["step", "by itself", "from the inputs", "found as"], rows)) if rows else ""
    )


def _found(step: StepResult) -> str:
    if step.found is None:
        return ""
    return "the output" if step.found.position < 0 else ", ".join(filter(None, map(code, _held(step))))


def _held(step: StepResult) -> tuple[str, str]:
    assert step.found is not None
    return step.found.operation, step.found.axes


def _layers(run: Run) -> str:
    """The layers of the model that was checked."""
    rows = [[code(c.subject), code(c.layer), prose(c.status), _error(c.ratio)] for c in run.cases]
    return _fold(summary("", "Every layer"), _table(["", "layer", "", "worst error"], rows)) if rows else ""


def _known(run: Run) -> str:
    """Known divergences, with their reasons."""
    rows = []
    for problem in problems(run, ["known-divergence"]):
        case = problem.worst
        first, count = problem.fixtures[0], len(problem.fixtures)
        on = code(first or case.subject) + (f" and {count - 1} more" if count > 1 else "")
        rows.append([on, f"{code(case.adapter)} {code(case.subject)}", code(case.culprit or ""), _causes(case),
                     prose(case.message or "", 200)])  # fmt: skip
    return _fold(summary("", "Known divergences"), _table(["", "on", "step", "cause", "reason"], rows)) if rows else ""


def _left_out(run: Run) -> str:
    """What was not run, and why."""
    reasons: dict[tuple[str, str, str], int] = {}
    for case in run.cases:
        if case.status in wording.LEFT_OUT:
            key = (case.adapter, case.status, case.message or "")
            reasons[key] = reasons.get(key, 0) + 1
    rows = [[code(a), status, str(n), prose(message, 200)] for (a, status, message), n in sorted(reasons.items())]
    return _fold(summary("", "Left out"), _table(["", "", "cases", "reason"], rows)) if rows else ""


def _versions(run: Run | Difference) -> str:
    """The versions, last."""
    told = {"conformance": run.conformance, **run.environment}
    some = [f"{code(name, 80)} {code(version, 80)}" for name, version in list(told.items())[:_VERSIONS]]
    left = len(told) - _VERSIONS
    return f"Versions: {', '.join(some)}{f' and {left} more' if left > 0 else ''}\n"


# -- gates -------------------------------------------------------------------------------------------------------------


def _gate(run: Gated) -> str:
    """What does not pass, in a table; what else changed, folded."""
    head = f"### {prose(gate_wording.outcome(run), 600)}\n\n{gate_wording.counts(run)}.\n\n"
    rows = gate_wording.rows(run)
    changed = [prose(line) for line in gate_wording.versions(run)]
    failing = [_gate_row(row) for row in rows if row.worst.fails]
    others = [_cells(row) for row in rows if not row.worst.fails]
    parts = [_fold(summary("", "What else changed"), _table(_GATE, others))] if others else []
    parts += [_fold(summary("", "Versions that changed"), _items(changed))] if changed else []
    return _fitted(head, failing, parts, _versions(run), _GATE)


_GATE = ("change", "what", "cases", "how")


def _gate_row(row: Row) -> str:
    return _line(_cells(row))


def _cells(row: Row) -> list[str]:
    case = row.worst
    what = f"{code(case.subject or case.layer)} on {code(case.adapter)}"
    return [case.change, what, prose(row.where, 200), prose("; ".join(gate_wording.sentences(case)), 400)]


# -- diffs -------------------------------------------------------------------------------------------------------------


def _difference(found: Difference) -> str:
    head = f"### {prose(difference_wording.outcome(found), 600)}\n\n" + _table(
        ["", "model", "adapter", "dtype", "parts at"], [_side("A", found, found.a), _side("B", found, found.b)]
    )
    details = _fold(summary("", "What was found"), _items([prose(line) for line in difference_wording.details(found)]))
    pairs = [
        [prose(a), prose(b), code(view), error] for a, b, view, error in map(difference_wording.pair_row, found.pairs)
    ]
    common = _fold(summary("", "Common tensors"), _table(["in A", "in B", "axes", "error"], pairs)) if pairs else ""
    return _fitted(head + "\n", [], [details, common], _versions(found))


def _side(letter: str, found: Difference, side: Side) -> list[str]:
    place = None if found.first is None else (found.first.a if letter == "A" else found.first.b)
    at = (
        "" if place is None else " in ".join(filter(None, (code(place.operation.partition(":")[0]), code(place.scope))))
    )
    return [letter, code(side.name), code(side.adapter), code(side.dtype), at]
