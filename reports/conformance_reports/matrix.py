"""The matrix of a run: a row per layer and fixture folder, a column per adapter and mode."""

from __future__ import annotations

from dataclasses import dataclass

from conformance.result import Case, Run
from conformance_reports.wording import tolerances

PRECEDENCE = (
    "diverges",
    "stale-divergence",
    "crashed",
    "timeout",
    "error",
    "conforms",
    "known-divergence",
    "inconclusive",
    "uninformative",
    "unavailable",
    "unsupported",
)
"""What a cell of several cases shows: the first of these that occurs in it."""


@dataclass(frozen=True)
class Column:
    """An adapter in one mode. `told` is that mode where it has to be told: where it is not eager, and where the
    adapter has cases in several."""

    adapter: str
    mode: str
    told: str

    @property
    def name(self) -> str:
        """`torch`, `torch compiled`."""
        return f"{self.adapter} {self.told}".strip()


@dataclass(frozen=True)
class Cell:
    """The cases of one column on the forms of one fixture, in all dtypes and with all subjects."""

    layer: str
    folder: str
    column: Column
    cases: tuple[Case, ...]

    @property
    def status(self) -> str:
        """The status that stands for the cell; empty where it has no case."""
        present = {c.status for c in self.cases}
        return next((s for s in PRECEDENCE if s in present), "")

    @property
    def ratio(self) -> float | None:
        """The worst ratio of those cases whose status is the cell's."""
        return max((c.ratio for c in self.cases if c.status == self.status and c.ratio is not None), default=None)

    def has(self, *statuses: str) -> bool:
        """Whether a case of one of these statuses is among them."""
        return any(c.status in statuses for c in self.cases)


def cell_text(cell: Cell) -> str:
    """A cell in short: the worst ratio where it conforms, otherwise the status."""
    if cell.status == "conforms":
        text = "conforms" if cell.ratio is None else tolerances(cell.ratio)
        return text + ("*" if cell.has("known-divergence") else "")
    return {"known-divergence": "known", "stale-divergence": "stale"}.get(cell.status, cell.status)


@dataclass(frozen=True)
class Row:
    """The cells of one fixture, in the order of the matrix's columns."""

    layer: str
    folder: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Matrix:
    """All cells."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells, row by row."""
        return tuple(cell for row in self.rows for cell in row.cells)

    @property
    def layers(self) -> dict[str, tuple[Row, ...]]:
        """The rows by layer: layers in the order in which they first occur."""
        sorted_in: dict[str, tuple[Row, ...]] = {}
        for row in self.rows:
            sorted_in[row.layer] = (*sorted_in.get(row.layer, ()), row)
        return sorted_in


def folder(case: Case) -> str:
    """The fixture without its form; the layer, where a case has no fixture."""
    return case.fixture.partition("/")[0] or case.layer


def matrix(run: Run) -> Matrix:
    """The matrix of `run`: rows in the order of its cases, columns by name."""
    sorted_in: dict[tuple[str, str], dict[tuple[str, str], list[Case]]] = {}
    for case in run.cases:
        row = sorted_in.setdefault((case.layer, folder(case)), {})
        row.setdefault((case.adapter, case.mode), []).append(case)
    columns = _columns(run)
    return Matrix(
        columns,
        tuple(
            Row(*key, tuple(Cell(*key, c, tuple(row.get((c.adapter, c.mode), ()))) for c in columns))
            for key, row in sorted_in.items()
        ),
    )


def _columns(run: Run) -> tuple[Column, ...]:
    modes: dict[str, set[str]] = {}
    for case in run.cases:
        modes.setdefault(case.adapter, set()).add(case.mode)
    return tuple(
        Column(adapter, mode, mode if len(modes[adapter]) > 1 or mode != "eager" else "")
        for adapter in sorted(modes)
        for mode in sorted(modes[adapter], key=lambda m: (m != "eager", m))
    )
