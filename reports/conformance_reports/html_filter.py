"""What the page's filter works with: the values to choose from, and the cases that have no line of their own."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass

from conformance.result import STATUSES, Case, Run
from conformance_reports.matrix import Cell
from conformance_reports.wording import LEFT_OUT, visible

_GROUPS = (("status", "Status"), ("adapter", "Adapter"), ("mode", "Mode"), ("dtype", "Dtype"))


@dataclass(frozen=True)
class Group:
    """A field of the cases with its values and how many cases have each."""

    field: str
    title: str
    counts: dict[str, int]


def groups(run: Run) -> list[Group]:
    """The fields that tell cases apart: those of which more than one value occurs."""
    counted = [(field, title, Counter(getattr(c, field) for c in run.cases)) for field, title in _GROUPS]
    return [Group(field, title, _sorted(field, counts)) for field, title, counts in counted if len(counts) > 1]


def _sorted(field: str, counts: Counter[str]) -> dict[str, int]:
    names = (s for s in STATUSES if s in counts) if field == "status" else sorted(counts)
    return {name: counts[name] for name in names}


def left(cell: Cell) -> str:
    """The cases of a cell that were not run, as JSON: their fields and their text to search in."""
    return json.dumps([_fields(c) for c in cell.cases if c.status in LEFT_OUT], separators=(",", ":"))


def _fields(case: Case) -> dict[str, str]:
    fields = {field: visible(getattr(case, field)) for field, _ in _GROUPS}
    words = (case.status, case.fixture.partition("/")[2], case.subject, case.dtype, case.mode, case.device)
    return {**fields, "text": visible(" ".join(words))}
