"""Which tensor of one tape holds the values of which tensor of another.

Tensors of one tape that hold the same values in other axes (a reshape, a transposition, a copy) are one node. A node
has one counterpart at most, so that two branches that compute the same thing are not taken for one another.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.noise import FILL, Values, joint
from conformance.view import View, views

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.trace import Entry

_SAMPLES = 256
_TINY = 2.0**-126  # what frameworks flush to zero
_AXES = 6  # of more axes there are too many orders to try


@dataclass(frozen=True)
class Match:
    """A tensor of B beside one of A: the error in tolerances, and how B's axes stand to A's, where they differ."""

    ratio: float
    max_abs: float
    max_rel: float
    at: tuple[int, ...]
    view: str


@dataclass(frozen=True)
class Node:
    """Tensors of a tape that hold the same values, by their positions; the first is where they were computed.

    `reads` are the nodes that it was computed from, those made of weights alone left out.
    """

    members: tuple[int, ...]
    values: Values
    reads: tuple[int, ...]

    @property
    def position(self) -> int:
        """The first position."""
        return self.members[0]


class Graph:
    """The nodes of a tape, in order; what is made of weights alone, and so is not compared, is none of them."""

    def __init__(self, tape: Sequence[Entry], values: Sequence[Values]) -> None:
        self.tape, self.values = tape, values
        whole = all(entry.fixed for entry in tape)  # then nothing says which are weights
        members: list[list[int]] = []
        reads: list[tuple[int, ...]] = []
        self.node_of: dict[int, int] = {}
        for position, entry in enumerate(tape):
            if entry.fixed and not whole:
                continue
            read = tuple(sorted({self.node_of[p] for p in entry.reads if p in self.node_of}))
            if len(read) == 1 and _same(values[members[read[0]][-1]], values[position]):
                self.node_of[position] = read[0]
                members[read[0]].append(position)
            else:
                self.node_of[position] = len(members)
                members.append([position])
                reads.append(read)
        self.nodes = [Node(tuple(m), values[m[0]], r) for m, r in zip(members, reads, strict=True)]

    @cached_property
    def ancestors(self) -> list[int]:
        """For each node, as bits: itself and the nodes that it depends on."""
        found: list[int] = []
        for number, node in enumerate(self.nodes):
            bits = 1 << number
            for read in node.reads:
                bits |= found[read]
            found.append(bits)
        return found

    def forms(self, number: int) -> Iterator[Values]:
        """The node's tensors, one of each shape."""
        seen = set()
        for position in self.nodes[number].members:
            shape = tuple(s for s in self.values[position].array.shape if s != 1)
            if shape not in seen:
                seen.add(shape)
                yield self.values[position]


def matched(a: Graph, b: Graph) -> dict[int, tuple[int, Match]]:
    """The nodes of `a` that have a counterpart in `b`, with it."""
    return _Matching(a, b).run()


class _Matching:
    def __init__(self, a: Graph, b: Graph) -> None:
        self.a, self.b = a, b
        self.found: dict[int, tuple[int, Match]] = {}
        self.taken: set[int] = set()
        self.by_size: dict[int, NDArray[Any]] = {}
        sizes: dict[int, list[int]] = {}
        for number, node in enumerate(b.nodes):
            sizes.setdefault(node.values.array.size, []).append(number)
        for size, numbers in sizes.items():
            figures = [(n, b.nodes[n].values.total, b.nodes[n].values.scale) for n in numbers]
            self.by_size[size] = np.array([(*f, b.nodes[f[0]].values.deviation) for f in figures])

    def run(self) -> dict[int, tuple[int, Match]]:
        for number in range(len(self.a.nodes)):
            if number not in self.found:
                self._place(number)
        return self.found

    def _place(self, number: int) -> None:
        candidates = {n: m for n in self._plausible(number) if (m := self._match(number, n)) is not None}
        if not candidates:
            return
        twins = self._twins(number)
        if len(twins) == 1 and len(candidates) == 1:
            self._take(number, *next(iter(candidates.items())))
            return
        placed = self._in_place(number, twins, candidates)
        if placed is None:
            placed = self._by_operands(number, twins, candidates)
        for twin, other in placed:
            self._take(twin, other, candidates[other])

    def _take(self, number: int, other: int, match: Match) -> None:
        self.found[number] = other, match
        self.taken.add(other)

    def _read(self, number: int) -> set[int]:
        """What the counterparts are of that which a node of A reads."""
        return {self.found[r][0] if r in self.found else -1 for r in self.a.nodes[number].reads}

    def _twins(self, number: int) -> list[int]:
        """The nodes of A with the very values of this one: the same computation twice."""
        node = self.a.nodes[number].values
        return [
            n
            for n in range(number, len(self.a.nodes))
            if n not in self.found
            and (other := self.a.nodes[n].values).array.size == node.array.size
            and other.total == node.total
            and other.scale == node.scale
        ]

    def _in_place(self, number: int, twins: Sequence[int], candidates: Iterable[int]) -> list[tuple[int, int]] | None:
        """Which twin is which candidate, by their places among all that is computed from the same tensors.

        None where the two models do not compute equally many of that size from them.
        """
        size, read = self.a.nodes[number].values.array.size, self._read(number)
        ours = [
            n
            for n in range(number, len(self.a.nodes))
            if self.a.nodes[n].values.array.size == size and self._read(n) == read and n not in self.found
        ]
        theirs = [
            n
            for n, node in enumerate(self.b.nodes)
            if node.values.array.size == size and set(node.reads) == read and n not in self.taken
        ]
        if len(ours) != len(theirs) or -1 in read:
            return None
        chosen = set(candidates)
        return [(x, y) for x, y in zip(ours, theirs, strict=True) if x in twins and y in chosen] or None

    def _by_operands(self, number: int, twins: Sequence[int], candidates: Iterable[int]) -> list[tuple[int, int]]:
        """Each candidate to the twin that was computed from the same; to this one the first that no twin claims."""
        placed: dict[int, int] = {}
        free = []
        for other in sorted(candidates):
            wanted = set(self.b.nodes[other].reads)
            twin = next((t for t in twins if t not in placed and self._read(t) == wanted), None)
            if twin is None:
                free.append(other)
            else:
                placed[twin] = other
        if free and number not in placed:
            placed[number] = free[0]
        return list(placed.items())

    def _plausible(self, number: int) -> list[int]:
        """Free nodes of B of the same size, sum and scale as far as the tolerances allow."""
        values = self.a.nodes[number].values
        figures = self.by_size.get(values.array.size)
        if figures is None:
            return []
        tolerance = joint(values.deviation, figures[:, 3])
        with np.errstate(invalid="ignore", over="ignore"):
            # Each element is within the tolerance times the largest of itself, its rows' scales and the scale.
            axes = 2 + values.array.ndim
            slack = tolerance * axes * max(values.count, 1) * values.scale + 1e-30
            near = np.abs(figures[:, 1] - values.total) <= slack
            near &= np.abs(figures[:, 2] - values.scale) <= axes * tolerance * values.scale + 1e-30
        return [int(n) for n in figures[near, 0] if int(n) not in self.taken]

    def _match(self, number: int, other: int) -> Match | None:
        """The first way in which a form of B's node holds a form of A's."""
        for ours in self.a.forms(number):
            for theirs in self.b.forms(other):
                for match in matches(ours, theirs):
                    if match.ratio <= 1:
                        return match
        return None


def _same(a: Values, b: Values) -> bool:
    """Whether two tensors of one tape hold the same values, exactly, in the same or other axes."""
    if a.array.size != b.array.size or a.count != b.count:
        return False
    if abs(a.total - b.total) > 1e-9 * max(a.count, 1) * a.scale or abs(a.scale - b.scale) > 1e-9 * a.scale:
        return False
    return any(np.array_equal(x, y, equal_nan=True) for x, y, _ in _arranged(a.array, b.array) if _sampled_equal(x, y))


def _sampled_equal(x: NDArray[Any], y: NDArray[Any]) -> bool:
    where = _where(x.shape)
    return where is None or bool(np.array_equal(x[where], y[where], equal_nan=True))


def _where(shape: tuple[int, ...]) -> tuple[NDArray[Any], ...] | None:
    """Some elements, not all in one row; None where there are few."""
    size = int(np.prod(shape))
    if size <= 4 * _SAMPLES:
        return None
    # A stride that is coprime to the usual sizes.
    flat = np.linspace(0, size - 1, _SAMPLES).astype(np.int64)
    return np.unravel_index((flat * 7919) % size, shape)


def _arranged(a: NDArray[Any], b: NDArray[Any]) -> Iterator[tuple[NDArray[Any], NDArray[Any], str]]:
    """The two tensors in the same axes, in every way in which one can be a view of the other."""
    if a.shape == b.shape:
        yield a, b, ""
    seen = {""} if a.shape == b.shape else set()
    for view in _views(a.shape, b.shape):
        if (said := _said(view)) not in seen:
            seen.add(said)
            yield a, view.restore(b), said
    for view in _views(b.shape, a.shape):
        if (said := _said(view, reverse=True)) not in seen:
            seen.add(said)
            yield view.restore(a), b, said


def _views(shape: tuple[int, ...], held: tuple[int, ...]) -> Iterator[View]:
    if sum(s != 1 for s in shape) <= _AXES:
        yield from views(shape, held)


def _said(view: View, reverse: bool = False) -> str:
    """A view in einops notation, axes of size one left out; empty where it changes nothing."""
    letters = list(string.ascii_letters[: len(view.shape)])
    whole = " ".join(x for x, size in zip(letters, view.shape, strict=True) if size != 1)
    held = view.describe(letters)
    if whole == held:
        return ""
    return f"{held} -> {whole}" if reverse else f"{whole} -> {held}"


def matches(a: Values, b: Values) -> Iterator[Match]:
    """The figures of `b` against `a` in each view, those that a few elements rule out left out."""
    for x, y, said in _arranged(a.array, b.array):
        where = _where(x.shape)
        if where is None or _near(x[where], y[where], a, b):
            yield _figures(x, y, a, b, said)


def _near(x: NDArray[Any], y: NDArray[Any], a: Values, b: Values) -> bool:
    """Whether no element is so far off that it cannot be rounding, whatever its row."""
    with np.errstate(all="ignore"):
        far = np.abs(np.subtract(x, y, dtype=np.float64)) > a.tolerance(b) * a.peak + _TINY
        return not bool((far & (x > FILL) & (y > FILL)).any())


def closest(a: Values, b: Values) -> tuple[float, Match] | None:
    """The figures of `b` against `a` in the view in which they are most alike, after how unlike they are: the root
    mean square of the error, relative to the scale. None where no view fits their shapes.
    """
    return min(
        ((_unlikeness(x, y, a), _figures(x, y, a, b, said)) for x, y, said in _arranged(a.array, b.array)),
        key=lambda pair: pair[0],
        default=None,
    )


def _unlikeness(x: NDArray[Any], y: NDArray[Any], a: Values) -> float:
    with np.errstate(all="ignore"):
        error = np.subtract(x, y, dtype=np.float64).ravel()
        error[~np.isfinite(error) | (x.ravel() <= FILL) | (y.ravel() <= FILL)] = 0
        return float(np.sqrt(np.square(error).mean()) / (a.scale or 1.0)) if error.size else 0.0


def _figures(x: NDArray[Any], y: NDArray[Any], a: Values, b: Values, said: str) -> Match:
    if x.size == 0:
        return Match(0.0, 0.0, 0.0, (), said)
    tolerance = a.tolerance(b)
    with np.errstate(all="ignore"):
        error = np.abs(np.subtract(x, y, dtype=np.float64))
        if a.finite is not None or b.finite is not None:
            missing = ~(np.isfinite(error) & (x > FILL) & (y > FILL))
            alike = (x == y) | (np.isnan(x) & np.isnan(y)) | ((x <= FILL) & (y <= FILL))
            error = np.where(missing, np.where(alike, 0.0, np.inf), error)
        bound = tolerance * a.reach(x) + _TINY
        ratios = np.where(error == 0, 0.0, error / bound)
        worst = int(np.argmax(ratios))
        relative = np.where(error == 0, 0.0, error / np.abs(x, dtype=np.float64))
    at = tuple(int(i) for i in np.unravel_index(worst, x.shape))
    return Match(float(ratios.flat[worst]), float(error.max()), float(relative.max()), at, said)
