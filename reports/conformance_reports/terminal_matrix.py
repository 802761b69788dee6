"""The matrix as a table of text that fits a terminal's width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from conformance_reports.matrix import Cell, Column, Matrix
from conformance_reports.wording import figure, tolerances, visible

_WORDS = {
    "diverges": ("DIVERGES", "DIV", "beyond what rounding explains"),
    "stale-divergence": ("STALE", "STALE", "listed as diverging, and conforms"),
    "crashed": ("crash", "crash", "the worker died"),
    "timeout": ("time", "time", "no answer in time"),
    "error": ("error", "error", "the framework failed"),
    "known-divergence": ("known", "known", "known divergences only"),
    "inconclusive": ("inconcl", "incon", "rounding or a fault: it cannot be told"),
    "uninformative": ("uninf", "uninf", "tolerances too wide to say anything"),
    "unavailable": ("absent", "absnt", "not installed"),
    "unsupported": ("-", "-", "unsupported"),
}
_STYLES = {
    "conforms": "green",
    "diverges": "bold red",
    "stale-divergence": "bold red",
    "crashed": "red",
    "timeout": "red",
    "error": "red",
    "known-divergence": "yellow",
    "inconclusive": "magenta",
    "uninformative": "magenta",
}
_KNOWN, _VAGUE = "*", "?"
_FOLD = 7  # the width to which a part of an adapter's name is folded where room is short
_CUT = 10  # the width to which the fixtures' names may be cut
_PARTS = {"tensorflow": ("tensor", "flow"), "onnxruntime": ("onnx", "runtime")}  # read better than a blind fold


@dataclass(frozen=True)
class _Style:
    """One way to draw the table: from generous to tight."""

    gap: int
    folded: bool
    short: bool


_WAYS = (
    _Style(2, False, False),
    _Style(1, False, False),
    _Style(2, True, False),
    _Style(1, True, False),
    _Style(1, True, True),
)


def drawn(matrix: Matrix, width: int) -> list[RenderableType]:
    """The table and its legend: the most generous way that fits `width` columns.

    Where none fits, even with the fixtures' names cut, there are several tables, each of whole adapters.
    """
    way = next((w for w in _WAYS if _width(matrix, w) <= width), _WAYS[-1])
    parts = [matrix]
    if _width(matrix, way, _CUT) > width:
        way = _WAYS[-2]
        parts = list(_split(matrix, width, way))
    tables: list[RenderableType] = []
    for part in parts:
        tables += ["", _table(part, way)] if tables else [_table(part, way)]
    return [*tables, *_legend(matrix, way, width)]


def _split(matrix: Matrix, width: int, way: _Style) -> Iterator[Matrix]:
    """The matrix in parts that fit, if an adapter by itself does."""
    taken: list[int] = []
    for _, group in groupby(range(len(matrix.columns)), key=lambda i: matrix.columns[i].adapter):
        more = list(group)
        if taken and _width(_of(matrix, taken + more), way) > width:
            yield _of(matrix, taken)
            taken = []
        taken += more
    if taken:
        yield _of(matrix, taken)


def _of(matrix: Matrix, positions: Sequence[int]) -> Matrix:
    """The matrix of some of its columns."""
    rows = [replace(row, cells=tuple(row.cells[i] for i in positions)) for row in matrix.rows]
    return replace(matrix, columns=tuple(matrix.columns[i] for i in positions), rows=tuple(rows))


def _table(matrix: Matrix, way: _Style) -> Table:
    table = Table(box=None, show_edge=False, pad_edge=False, padding=(0, 0, 0, way.gap), header_style="bold")
    table.add_column("", no_wrap=False)
    for column in matrix.columns:
        header = Text("\n".join(_header(column, way)), justify="right")
        table.add_column(header, justify="right", vertical="bottom")
    for row in matrix.rows:
        table.add_row(Text(visible(row.folder)), *(_cell(c, way) for c in row.cells))
    return table


def _width(matrix: Matrix, way: _Style, most: int | None = None) -> int:
    """How wide the table is, its first column no wider than `most`."""
    first = max((cell_len(visible(row.folder)) for row in matrix.rows), default=0)
    first = first if most is None else min(first, most)
    columns = zip(matrix.columns, zip(*(row.cells for row in matrix.rows), strict=True), strict=True)
    return first + sum(way.gap + _column_width(column, cells, way) for column, cells in columns)


def _column_width(column: Column, cells: Sequence[Cell], way: _Style) -> int:
    return max(*(cell_len(line) for line in _header(column, way)), *(_cell(c, way).cell_len for c in cells))


def _header(column: Column, way: _Style) -> list[str]:
    """A column's name in lines: `keras` over `jax`, its mode below; long parts are folded where room is short."""
    lines: list[str] = []
    for part in [*visible(column.adapter).split("-"), *filter(None, [visible(column.told)])]:
        if not way.folded or cell_len(part) <= _FOLD:
            lines.append(part)
        else:
            lines += _PARTS.get(part, [part[i : i + _FOLD] for i in range(0, len(part), _FOLD)])
    return lines


def _cell(cell: Cell, way: _Style) -> Text:
    if not cell.status:
        return Text("")
    style = _STYLES.get(cell.status, "dim")
    if cell.status != "conforms":
        return Text(_WORDS[cell.status][1 if way.short else 0], style=style)
    marks = _marks(cell)
    text = Text(_ratio(cell, way.short), style="yellow" if (cell.ratio or 0) > 1 else style)
    return text.append(marks[:1] if way.short else marks, style="yellow")


def _ratio(cell: Cell, short: bool) -> str:
    if cell.ratio is None:
        return "ok"
    if short and cell.ratio < 0.1:
        return "<.01" if 0 < cell.ratio < 0.01 else f"{cell.ratio:.2f}"
    return figure(cell.ratio, 1) if short and cell.ratio >= 1000 else tolerances(cell.ratio)


def _marks(cell: Cell) -> str:
    known = _KNOWN if cell.has("known-divergence") else ""
    return known + (_VAGUE if cell.has("inconclusive", "uninformative") else "")


def _legend(matrix: Matrix, way: _Style, width: int) -> list[Text]:
    """What the words in the table mean, in lines: only those that occur."""
    present = {c.status for c in matrix.cells}
    conforming = [c for c in matrix.cells if c.status == "conforms"]
    entries: list[tuple[str, str, str]] = []
    if conforming:
        entries.append(("number", "green", "worst error, in tolerances"))
    if any((c.ratio or 0) > 1 for c in conforming):
        entries.append((">1", "yellow", "conforms: rounding that lines up"))
    marks = "".join(_cell(c, way).plain for c in conforming)
    if _KNOWN in marks:
        entries.append((_KNOWN, "yellow", "besides known divergences"))
    if _VAGUE in marks:
        entries.append((_VAGUE, "yellow", "besides cases of which nothing can be said"))
    for status, words in _WORDS.items():
        if status in present:
            entries.append((words[1 if way.short else 0], _STYLES.get(status, "dim"), words[2]))
    lines: list[Text] = []
    for sign, style, meaning in entries:
        entry = Text(sign, style=style).append(f" {meaning}", style="dim")
        if lines and lines[-1].cell_len + 3 + entry.cell_len <= width:
            lines[-1].append("   ").append_text(entry)
        else:
            lines.append(Text().append_text(entry))
    return lines
