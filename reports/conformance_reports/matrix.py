"""The matrix of a run: a row per fixture folder, a column per adapter."""

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
class Cell:
    """The cases of one adapter on the forms of one fixture, in all dtypes and with all subjects."""

    folder: str
    adapter: str
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
class Matrix:
    """All cells: `rows` maps a folder to its cells, in the order of `adapters`."""

    adapters: tuple[str, ...]
    rows: dict[str, tuple[Cell, ...]]


def folder(case: Case) -> str:
    """The fixture without its form; the layer, where a case has no fixture."""
    return case.fixture.partition("/")[0] or case.layer


def matrix(run: Run) -> Matrix:
    """The matrix of `run`: folders in the order of its cases, adapters by name."""
    adapters = tuple(sorted({c.adapter for c in run.cases}))
    sorted_in: dict[str, dict[str, list[Case]]] = {}
    for case in run.cases:
        sorted_in.setdefault(folder(case), {}).setdefault(case.adapter, []).append(case)
    return Matrix(
        adapters,
        {name: tuple(Cell(name, a, tuple(row.get(a, ()))) for a in adapters) for name, row in sorted_in.items()},
    )
