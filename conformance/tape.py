"""Finding a step's values among the tensors of a tape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.figures import compare
from conformance.view import View, views

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.rounding import RoundedArray
    from conformance.trace import Entry

_SAMPLES = 256
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
    """The tensors that a subject computed, and which of them are known to be a step already."""

    entries: Sequence[Entry]
    claimed: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._by_size: dict[int, list[int]] = {}
        for position, entry in enumerate(self.entries):
            self._by_size.setdefault(entry.array.size, []).append(position)
        self._sums: dict[int, float] = {}

    def _plausible(self, expected: RoundedArray) -> Iterator[int]:
        """The positions of tensors whose sum, an invariant of every view, is what the tolerances allow."""
        positions = self._by_size.get(expected.size, [])
        if not positions:
            return
        with np.errstate(all="ignore"):
            wanted = float(expected.value.sum())
            slack = float(expected.tolerance.sum()) + 1e-13 * float(np.abs(expected.value).sum())
            for position in positions:
                if position not in self._sums:
                    self._sums[position] = float(np.sum(self.entries[position].array, dtype=np.float64))
                seen = self._sums[position]
                if np.isfinite(wanted):
                    likely = abs(wanted - seen) <= slack
                else:
                    likely = not np.isfinite(seen) or seen <= _FINITE_FILL
                if likely:
                    yield position

    def find(self, expected: RoundedArray, *, after: int = -1) -> Found | None:
        """The tensor that holds `expected` within its tolerance.

        A tensor with the axes in their own order goes before one with others, and one that comes after
        position `after` (where the step's parents are) goes before an earlier one; then the earliest.
        """
        best: tuple[tuple[bool, bool, int], Found] | None = None
        for position in self._plausible(expected):
            entry = self.entries[position]
            for view in views(expected.shape, entry.array.shape):
                rank = (not view.canonical, position <= after, position)
                if best is not None and rank >= best[0]:
                    continue
                array = view.restore(entry.array)
                array, flags = with_infinities(expected, array)
                if sampled(expected, array) and compare(expected, array).conforms:
                    best = rank, Found(position, entry.operation, view, array, flags)
                    break
            if best is not None and best[0][:2] == (False, False):
                break
        return None if best is None else best[1]

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
        return Found(first.position, first.operation, next(views(whole.shape, whole.shape)), whole)

    def candidates(self, expected: RoundedArray, *, after: int = -1) -> list[Found]:
        """Unclaimed tensors that could hold a wrong version of `expected`, the likeliest first.

        What could be the step has its size, comes after its parents, and correlates with it in one of
        the views. Copies of one tensor are one candidate.
        """
        ranked: list[tuple[float, int, Found]] = []
        seen: set[int] = set()
        for position in self._by_size.get(expected.size, []):
            entry = self.entries[position]
            if position in self.claimed or position <= after:
                continue
            for view in views(expected.shape, entry.array.shape):
                array = view.restore(entry.array)
                values = hash(array.tobytes())
                if values in seen:
                    continue
                seen.add(values)
                likeness = correlation(expected.value, array)
                ranked.append((-likeness, position, Found(position, entry.operation, view, array)))
        ranked.sort(key=lambda r: r[:2])
        return [found for *_, found in ranked]

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
    with np.errstate(invalid="ignore"):
        filled = masked & np.isfinite(array) & (array <= _FINITE_FILL)
    if not filled.any():
        return array, ()
    return np.where(filled, -np.inf, array), ("finite-mask-fill",)


def sampled(expected: RoundedArray, array: NDArray[Any]) -> bool:
    """Whether a few elements, the same for every view, conform: a cheap look before the whole."""
    if expected.size <= 4 * _SAMPLES:
        return True
    flat = np.linspace(0, expected.size - 1, _SAMPLES).astype(np.int64)
    # A stride that is coprime to the usual sizes, so that the samples are not all in one row.
    where = np.unravel_index((flat * 7919) % expected.size, expected.shape)
    return compare(expected[where], array[where]).conforms


def correlation(expected: NDArray[Any], array: NDArray[Any]) -> float:
    """How alike two arrays are, 0 to 1, in thousandths: the absolute correlation of their finite elements,
    times the share of elements that are finite in both or in neither."""
    a, b = np.asarray(expected, np.float64).ravel(), np.asarray(array, np.float64).ravel()
    in_a, in_b = np.isfinite(a), np.isfinite(b)
    both = in_a & in_b
    alike = float(np.mean(in_a == in_b)) if a.size else 0.0
    a, b = a[both], b[both]
    if a.size < 2:
        return 0.0
    with np.errstate(all="ignore"):  # squares of numbers near the format's largest overflow
        a, b = a - a.mean(), b - b.mean()
        norm = float(np.linalg.norm(a) * np.linalg.norm(b))
        likeness = alike * abs(float(a @ b)) / norm if norm > 0 else 0.0
    return round(likeness, 3) if np.isfinite(likeness) else 0.0
