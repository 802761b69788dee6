"""Finding a step's values among the tensors of a tape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.figures import compare
from conformance.slices import Slices, tells, turned
from conformance.view import View, views

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.rounding import RoundedArray
    from conformance.trace import Entry

_FIRST, _SAMPLES = 32, 256
_RANKED = 256  # tensors that are compared whole with a step that none of them holds
_FINITE_FILL = -1e8  # -1e9 and finfo.min are large; -1e4 leaks, and is a convention of its own


@dataclass(frozen=True)
class Found:
    """A tensor of the tape that holds a step: at `position`, through `view`.

    A step of a scanned layer may be held in pieces, one per time step; `position` is then the first.
    `flags` are remarks for the result.
    """

    position: int
    operation: str
    view: View
    array: NDArray[Any]
    flags: tuple[str, ...] = ()

    @classmethod
    def whole(cls, array: NDArray[Any]) -> Found:
        """The output of a run, which is known without a tape."""
        return cls(-1, "output", View(array.shape, tuple(range(array.ndim)), array.shape), array)


@dataclass
class Tape:
    """The tensors that a subject computed, and which of them are known to be a step already.

    `claimed` has the positions of those tensors; several steps may share one that holds them in slices.
    """

    entries: Sequence[Entry]
    claimed: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._by_size: dict[int, list[int]] = {}
        self._by_shape: dict[int, dict[tuple[int, ...], list[int]]] = {}
        for position, entry in enumerate(self.entries):
            array = entry.array
            self._by_size.setdefault(array.size, []).append(position)
            self._by_shape.setdefault(array.size, {}).setdefault(array.shape, []).append(position)
        self._sums: dict[tuple[int, ...], NDArray[np.float64]] = {}
        self._first: dict[View, NDArray[Any]] = {}
        self._slices: Slices | None = None

    def find(self, expected: RoundedArray, *, after: int = -1) -> Found | None:
        """The tensor that holds `expected` within its tolerance, or else a slice of one that does.

        A tensor with the axes in their own order goes before one with others, and one that comes after
        position `after` (where the step's parents are) goes before an earlier one; then the earliest. Where
        that does not settle it, since another tensor with other values holds the step too, the one that is
        found has the flag `ambiguous`. Copies are not other values, nor are the same ones in other axes or in
        a narrower format; and what was made of the found tensor comes after it.
        """
        held = list(self._held(expected, self._wholes(expected), after))
        if not held and tells(expected):
            if self._slices is None:
                self._slices = Slices(self.entries)
            likely = _LikelySums(expected)
            parts = [
                (position, view)
                for position, part in self._slices.plausible(expected.shape, likely)
                for view in turned(part)
            ]
            held = list(self._held(expected, parts, after))
        if not held:
            return None
        found, *rivals = held
        for rival in rivals:
            if found.position > after >= rival.position or self._leads_to(found.position, rival.position):
                continue  # flow order settles it
            if not _same_values(expected, found.array, rival.array):
                return replace(found, flags=(*found.flags, "ambiguous"))
        return found

    def _wholes(self, expected: RoundedArray) -> Iterator[tuple[int, View]]:
        """Where a whole tensor may hold the step: its sum, an invariant of every view, and a few of its elements
        are what the tolerances allow."""
        likely = _LikelySums(expected)
        look = _Look(expected, _FIRST)
        for held, positions in self._by_shape.get(expected.size, {}).items():
            chosen = np.flatnonzero(likely(self._summed(held, positions)))
            for view in views(expected.shape, held) if chosen.size else ():
                if view not in self._first:
                    seen = [view.restore(self.entries[p].array)[look.where] for p in positions]
                    self._first[view] = np.stack(seen)
                for i in chosen[look.possible(self._first[view][chosen])]:
                    yield positions[i], view

    def _summed(self, held: tuple[int, ...], positions: Sequence[int]) -> NDArray[np.float64]:
        """The sums of all tensors of one shape."""
        if held not in self._sums:
            with np.errstate(all="ignore"):
                sums = [float(np.sum(self.entries[p].array, dtype=np.float64)) for p in positions]
            self._sums[held] = np.array(sums)
        return self._sums[held]

    def _held(self, expected: RoundedArray, places: Iterable[tuple[int, View]], after: int) -> Iterator[Found]:
        """The tensors among `places` that hold the step, the best first; each in the first view that fits."""
        look, seen = _Look(expected), set[tuple[int, View]]()
        ranked = sorted(places, key=lambda place: (not place[1].canonical, place[0] <= after, place[0]))
        for position, view in ranked:
            held = position, replace(view, order=())  # the tensor, or a part of it, in whatever order
            if held in seen:
                continue
            entry = self.entries[position]
            array, flags = with_infinities(expected, view.restore(entry.array))
            if look.admits(array) and compare(expected, array).conforms:
                seen.add(held)
                yield Found(position, entry.operation, view, array, flags)

    def _leads_to(self, earlier: int, later: int) -> bool:
        """Whether the tensor at `later` was made of the one at `earlier`, as far as the tape says."""
        waiting, seen = [p for p in self.entries[later].reads if p >= earlier], set[int]()
        while waiting:
            position = waiting.pop()
            if position == earlier:
                return True
            reads = [p for p in self.entries[position].reads if p >= earlier and p not in seen]
            seen.update(reads)
            waiting += reads
        return False

    def find_in_pieces(self, expected: RoundedArray, axis: int, *, after: int = -1) -> Found | None:
        """As `find`, for a step that is held as one tensor per index of `axis` (time)."""
        pieces: list[Found] = []
        for t in range(expected.shape[axis]):
            piece = self.find(expected[(slice(None),) * axis + (t,)], after=after)
            if piece is None:
                return None
            pieces.append(piece)
        if not pieces:
            return None
        whole = np.stack([p.array for p in pieces], axis=axis)
        first = pieces[0]
        flags = tuple(dict.fromkeys(flag for piece in pieces for flag in piece.flags))
        return Found(first.position, first.operation, next(views(whole.shape, whole.shape)), whole, flags)

    def candidates(self, expected: RoundedArray, *, after: int = -1) -> list[Found]:
        """Unclaimed tensors that could hold a wrong version of `expected`, the likeliest first.

        What could be the step has its size, comes after its parents, and correlates with it in one of
        the views. Copies of one tensor are one candidate.
        """
        ranked: list[tuple[float, int, Found]] = []
        seen: dict[bytes, list[NDArray[Any]]] = {}
        likeness = Likeness(expected.value)
        for position, view in self._promising(expected, after):
            entry = self.entries[position]
            array = view.restore(entry.array)
            alike = seen.setdefault(array.reshape(-1)[:: max(1, array.size // _SAMPLES)].tobytes(), [])
            if any(np.array_equal(array, other, equal_nan=True) for other in alike):
                continue
            alike.append(array)
            ranked.append((-likeness(array), position, Found(position, entry.operation, view, array)))
        ranked.sort(key=lambda r: r[:2])
        return [found for *_, found in ranked]

    def _promising(self, expected: RoundedArray, after: int) -> list[tuple[int, View]]:
        """The unclaimed tensors of the step's size after position `after`, in every view; of very many, those that
        are most like it in a few elements."""
        pairs = [
            (position, view)
            for position in self._by_size.get(expected.size, [])
            if position not in self.claimed and position > after
            for view in views(expected.shape, self.entries[position].array.shape)
        ]
        if len(pairs) <= _RANKED:
            return pairs
        where = _Look(expected).where
        few = Likeness(expected.value[where])
        likeness = [few(view.restore(self.entries[position].array)[where]) for position, view in pairs]
        best = np.argsort(np.negative(likeness), kind="stable")[:_RANKED]
        return [pairs[i] for i in np.sort(best)]

    def hinted(self, step: str, shape: tuple[int, ...]) -> Iterator[Found]:
        """The tensors that a recording itself calls `step`, in every view that fits `shape`."""
        for position, entry in enumerate(self.entries):
            if entry.hint == step:
                for view in views(shape, entry.array.shape):
                    yield Found(position, entry.operation, view, view.restore(entry.array))


def with_infinities(expected: RoundedArray, array: NDArray[Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """`array` with minus infinity for the finite number by which a framework masks a score.

    Which large negative number it takes cannot be told from the weights (`attention.mask-fill` is
    advisory there), except where a whole row is masked, and that shows in the weights.
    """
    masked = np.isneginf(expected.value)
    if not masked.any() or array.shape != expected.shape:
        return array, ()
    with np.errstate(invalid="ignore", over="ignore"):  # that number is beyond float16
        filled = masked & np.isfinite(array) & (array <= finite_fill(expected))
    if not filled.any():
        return array, ()
    return np.where(filled, -np.inf, array), ("finite-mask-fill",)


def finite_fill(expected: RoundedArray) -> float:
    """The greatest number that may stand for minus infinity: in float16, all but the least that there is."""
    return max(_FINITE_FILL, -0.99 * expected.model.precision.largest)


class _LikelySums:
    """Which sums a tensor, or a part of one, may have that holds a step."""

    def __init__(self, expected: RoundedArray) -> None:
        with np.errstate(all="ignore"):
            self.wanted = float(expected.value.sum())
            self.slack = float(expected.tolerance.sum()) + 1e-13 * float(np.abs(expected.value).sum())
        self.expected = expected

    def __call__(self, sums: NDArray[np.float64]) -> NDArray[np.bool_]:
        with np.errstate(all="ignore"):
            if np.isfinite(self.wanted):
                return np.asarray(np.abs(sums - self.wanted) <= self.slack)
            return np.asarray(~np.isfinite(sums) | (sums <= finite_fill(self.expected)))


class _Look:
    """A cheap look before the whole: whether a few elements, the same for every view, conform."""

    def __init__(self, expected: RoundedArray, most: int = _SAMPLES) -> None:
        flat = np.linspace(0, max(expected.size - 1, 0), min(most, expected.size)).astype(np.int64)
        # A stride that is coprime to the usual sizes, so that the samples are not all in one row.
        flat = (flat * 7919) % max(expected.size, 1)
        self.where = np.unravel_index(flat, expected.shape) if expected.shape else ()
        self.sample = expected[self.where]
        self.value, self.tolerance = self.sample.value, self.sample.tolerance

    def possible(self, seen: NDArray[Any]) -> NDArray[np.bool_]:
        """Which rows of `seen`, the few elements of a tensor each, are within their tolerances, as far as numbers
        that are finite tell."""
        with np.errstate(all="ignore"):
            error = np.abs(seen - self.value)
            return np.asarray(np.all((error <= self.tolerance) | ~np.isfinite(error), axis=tuple(range(1, seen.ndim))))

    def admits(self, array: NDArray[Any]) -> bool:
        """Whether the few elements of `array` are within their tolerances."""
        seen = array[self.where]
        with np.errstate(all="ignore"):
            if (np.abs(seen - self.value) <= self.tolerance).all():
                return True
            finite = np.isfinite(self.value).all() and np.isfinite(seen).all()
        return not finite and compare(self.sample, np.asarray(seen)).conforms


def _same_values(expected: RoundedArray, a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether two tensors that hold a step hold the same numbers, in the format in which they are stored."""
    if np.array_equal(a, b, equal_nan=True):
        return True
    stored = expected.model.precision.round
    return np.array_equal(stored(a), stored(b), equal_nan=True)


class Likeness:
    """How alike arrays are to one, 0 to 1, in thousandths: the absolute correlation of their finite elements,
    times the share of elements that are finite in both or in neither."""

    def __init__(self, expected: NDArray[Any]) -> None:
        self.values = np.asarray(expected, np.float64).ravel()
        self.finite = np.isfinite(self.values)
        self.all_finite = bool(self.finite.all())
        with np.errstate(all="ignore"):
            self.centred = self.values - self.values.mean() if self.values.size else self.values
            self.norm = float(np.linalg.norm(self.centred))

    def __call__(self, array: NDArray[Any]) -> float:
        """The likeness of `array`."""
        b = np.asarray(array, np.float64).ravel()
        if b.size < 2:
            return 0.0
        a, norm_a, alike = self.centred, self.norm, 1.0
        with np.errstate(all="ignore"):  # squares of numbers near the format's largest overflow
            if not self.all_finite or not np.isfinite(b.sum()):
                in_b = np.isfinite(b)
                both = self.finite & in_b
                alike = float(np.mean(self.finite == in_b))
                a, b = self.values[both], b[both]
                if a.size < 2:
                    return 0.0
                a = a - a.mean()
                norm_a = float(np.linalg.norm(a))
            b = b - b.mean()
            norm = norm_a * float(np.linalg.norm(b))
            likeness = alike * abs(float(a @ b)) / norm if norm > 0 else 0.0
        return round(likeness, 3) if np.isfinite(likeness) else 0.0


def correlation(expected: NDArray[Any], array: NDArray[Any]) -> float:
    """How alike two arrays are (`Likeness`)."""
    return Likeness(expected)(array)
