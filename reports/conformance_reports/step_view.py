"""What the page shows of a step's values: three maps of each slice (oracle, observed, difference), the numbers around
the worst element, and how the errors are spread."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from conformance.result import Case, Run, Sample, StepResult
from conformance_reports.problem import problems
from conformance_reports.wording import figure, listed

T = TypeVar("T")
ROOM = 8_000_000
"""The bytes that the views of a page may take."""
_OF_A_VIEW, _OF_A_SLICE, _OF_AN_ELEMENT = 8_500, 1_450, 80  # the bytes that each takes: they were measured
_NEAR = 2  # how far the neighbourhood of the worst element goes
_LEGIBLE = 8  # columns
_LEVELS = 10  # shades on either side of zero
_DECADES = (0.1, 1.0, 10.0, 1e3, 1e5)
_OUTLIER = 1e3  # times the median: what is beyond it (a mask's -1e9) does not stretch the scale


@dataclass(frozen=True)
class Place:
    """An element of a map: its number as a person reads it, and the class that colours it."""

    text: str
    shade: str


@dataclass(frozen=True)
class Map:
    """One of the three: the places by row and column."""

    title: str
    rows: tuple[tuple[Place, ...], ...]


@dataclass(frozen=True)
class Slice:
    """The maps at one index of the axes before the last two."""

    at: tuple[int, ...]
    name: str
    maps: tuple[Map, ...]
    worst: tuple[int, int] | None


@dataclass(frozen=True)
class Axis:
    """An axis: its name and the indices that are shown."""

    name: str
    indices: range


@dataclass(frozen=True)
class StepView:
    """A step with a sample, under the `identifier` that links lead to."""

    identifier: str
    step: StepResult
    sample: Sample

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """The axes that are longer than one; those whose names do not fit go by number."""
        names = self.step.axes.split()
        if len(names) != len(self.sample.shape):
            names = [f"axis {number}" for number in range(len(self.sample.shape))]
        ranges = zip(names, self.sample.start, self.sample.size, strict=True)
        return tuple(self._long(Axis(name, range(start, start + size)) for name, start, size in ranges))

    def _long(self, of_each_axis: Iterable[T]) -> Iterator[T]:
        """Those of the axes that are longer than one: the others change no element's place."""
        return (each for each, whole in zip(of_each_axis, self.sample.shape, strict=True) if whole > 1)

    @property
    def columns(self) -> Axis:
        """The last axis; a single number has one column."""
        return self.axes[-1] if self.axes else Axis("", range(1))

    @property
    def rows(self) -> Axis:
        """The axis before the last; a vector has one row."""
        return self.axes[-2] if len(self.axes) > 1 else Axis("", range(1))

    @property
    def leading(self) -> tuple[Axis, ...]:
        """The axes before the last two: each is chosen by its index."""
        return self.axes[:-2]

    @cached_property
    def worst(self) -> tuple[int, ...]:
        """Where the element is that is off by most, in the sample and along `axes`: the one that the figures name."""
        told = self.step.isolated if self.sample.figure == "isolated" else self.step.accumulated
        if told is not None and len(told.at) == len(self.sample.start):
            inside = [i - start for i, start in zip(told.at, self.sample.start, strict=True)]
            if all(0 <= i < n for i, n in zip(inside, self.sample.size, strict=True)):
                return tuple(self._long(inside))
        sizes = [abs(float(d)) for d in self.sample.difference]
        return tuple(self._long(_unravelled(sizes.index(max(sizes)), self.sample.size)))

    @property
    def legible(self) -> bool:
        """Whether the maps have room for their numbers."""
        return len(self.columns.indices) <= _LEGIBLE

    @property
    def worst_slice(self) -> tuple[int, ...]:
        """The index of the leading axes at which the worst element is."""
        return tuple(axis.indices[i] for axis, i in zip(self.leading, self.worst, strict=False))

    @cached_property
    def scale(self) -> float:
        """The value that has the deepest shade: the greatest, outliers apart."""
        sizes = sorted(abs(v) for x in (*self.sample.oracle, *self.sample.observed) if math.isfinite(v := float(x)))
        some = [size for size in sizes if size]
        return max((size for size in some if size <= _OUTLIER * some[len(some) // 2]), default=1.0)

    def slices(self) -> Iterator[Slice]:
        """The sample, slice by slice."""
        height, width = len(self.rows.indices), len(self.columns.indices)
        columns = (
            ("Oracle", self.sample.oracle, self._shade),
            ("Observed", self.sample.observed, self._shade),
            ("Difference", self.sample.difference, difference_shade),
        )
        for number, index in enumerate(itertools.product(*(axis.indices for axis in self.leading))):
            maps = []
            for title, values, shade in columns:
                part = [Place(figure(v), shade(float(v))) for v in values[number * height * width :][: height * width]]
                maps.append(Map(title, tuple(tuple(part[r * width :][:width]) for r in range(height))))
            named = ", ".join(f"{axis.name} {i}" for axis, i in zip(self.leading, index, strict=True))
            yield Slice(index, named, tuple(maps), self.cell if index == self.worst_slice else None)

    @property
    def cell(self) -> tuple[int, int]:
        """Row and column of the worst element, in its slice."""
        row, column = (0, 0, *self.worst)[-2:]
        return row, column

    def _shade(self, value: float) -> str:
        if not math.isfinite(value):
            return "vn" if math.isnan(value) else "vp" if value > 0 else "vm"
        return f"v{round(_LEVELS + _LEVELS * max(-1.0, min(1.0, value / self.scale)))}"

    def near(self) -> tuple[range, range, list[list[tuple[Place, ...]]]]:
        """Rows, columns and numbers (oracle, observed, difference) around the worst element, of its slice."""
        row, column = self.cell
        worst = next(s for s in self.slices() if s.worst is not None)
        rows = range(max(0, row - _NEAR), min(len(self.rows.indices), row + _NEAR + 1))
        columns = range(max(0, column - _NEAR), min(len(self.columns.indices), column + _NEAR + 1))
        numbers = [[tuple(m.rows[r][c] for m in worst.maps) for c in columns] for r in rows]
        return rows, columns, numbers

    @property
    def extent(self) -> str:
        """How much of the step is shown."""
        shown, whole = math.prod(self.sample.size), math.prod(self.sample.shape)
        if shown == whole:
            return f"All {whole:,} elements" if whole > 1 else "The one element"
        cut = [(a, n) for a, n in zip(self.axes, self._long(self.sample.shape), strict=True) if len(a.indices) < n]
        where = [f"{a.name} {' to '.join(map(str, sorted({a.indices[0], a.indices[-1]})))} of {n}" for a, n in cut]
        return f"{shown:,} of {whole:,} elements, around the worst one: {listed(where)}"

    @property
    def source(self) -> str:
        """What the oracle's values were computed from."""
        if self.sample.figure == "isolated":
            return "The oracle's are what this step should give for the values that the subject itself had before it"
        return "The oracle's are computed from the inputs on"

    @property
    def tolerance(self) -> float | None:
        """One tolerance at the worst element; None where it is right, or not finite."""
        flat = 0
        whole = iter(self.worst)
        for size, length in zip(self.sample.size, self.sample.shape, strict=True):
            flat = flat * size + (next(whole) if length > 1 else 0)
        oracle, observed, difference = (
            float(values[flat]) for values in (self.sample.oracle, self.sample.observed, self.sample.difference)
        )
        error = abs(observed - oracle)
        return error / abs(difference) if difference and math.isfinite(error) and math.isfinite(difference) else None


def difference_shade(difference: float) -> str:
    """The class that colours a difference, by its size in tolerances."""
    return f"d{sum(abs(difference) > bound for bound in _DECADES)}"


def _unravelled(flat: int, size: Sequence[int]) -> tuple[int, ...]:
    index = []
    for length in reversed(size):
        flat, i = divmod(flat, length)
        index.append(i)
    return tuple(reversed(index))


def views(run: Run, identifier: Mapping[int, str], room: int = ROOM) -> dict[int, dict[str, StepView]]:
    """The views of a page, by the `id` of a case and the name of a step: as many as there is room for.

    What a reader needs first comes first: the step at fault of each problem, then of each case, then every step. Of
    known divergences, which were looked at before, one case of each problem has to do.
    """
    told = [p.worst for p in problems(run, ("diverges", "known-divergence"))]
    off = sorted(
        (case for case in run.cases if case.status != "known-divergence"), key=lambda case: case.status != "diverges"
    )
    wanted = [(c, s) for c in (*told, *off) for s in c.steps if s.name == c.culprit]
    wanted += [(c, s) for c in off for s in c.steps]
    made: dict[int, dict[str, StepView]] = {}
    for case, step in wanted:
        if step.sample is None or step.name in made.get(id(case), {}):
            continue
        slices = math.prod(step.sample.size[:-2])
        room -= _OF_A_VIEW + _OF_A_SLICE * slices + _OF_AN_ELEMENT * len(step.sample.oracle)
        if room < 0:
            break
        name = f"{identifier[id(case)]}-step-{case.steps.index(step) + 1}"
        made.setdefault(id(case), {})[step.name] = StepView(name, step, step.sample)
    return made


def levels(case: Case) -> list[list[StepResult]]:
    """The steps of a case as they flow: each stands after all that it reads, beside those that need not wait for it."""
    if not any(step.reads for step in case.steps):
        return [[step] for step in case.steps]
    depth: dict[str, int] = {}
    rows: dict[int, list[StepResult]] = {}
    for step in case.steps:
        depth[step.name] = 1 + max((depth.get(name, 0) for name in step.reads), default=0)
        rows.setdefault(depth[step.name], []).append(step)
    return [rows[level] for level in sorted(rows)]


def feeds_back(case: Case) -> bool:
    """Whether an error goes from the step at fault to one that does not come after it: through a later time step."""
    after = {case.culprit}
    for step in case.steps:
        if after.intersection(step.reads):
            after.add(step.name)
    read = any(step.reads for step in case.steps)
    return read and any(step.status == "propagated" and step.name not in after for step in case.steps)
