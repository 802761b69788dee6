"""Steps inside larger tensors: a third of a packed projection, one gate of four, one time step of a sequence.

One axis of the tensor is taken apart as (outer, blocks, inner), and the step is one of the blocks or some that
follow each other. outer = 1 is a contiguous slice, inner = 1 a strided one, and neither is 1 where the packed
projections alternate, as in (head, 3, dim).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from operator import mul
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.view import View, views

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.rounding import RoundedArray
    from conformance.trace import Entry

MOST_BLOCKS = 64
_DISTINCT = 8  # so many values that tolerances tell apart are in no other slice by chance


@dataclass(frozen=True)
class Part(View):
    """A view of a part of a tensor of shape `whole`.

    Its axis `axis` is taken apart as (outer, blocks, inner); the part is the `taken` blocks from `start` on, and
    `held` is the part's own shape.
    """

    whole: tuple[int, ...]
    axis: int
    outer: int
    blocks: int
    start: int
    taken: int = 1

    @property
    def inner(self) -> int:
        """The size of a block."""
        return self.whole[self.axis] // (self.outer * self.blocks)

    def cut(self, array: NDArray[Any]) -> NDArray[Any]:
        """The part of the tensor, in the shape `held` (a NumPy view where the memory allows)."""
        before, after = self.whole[: self.axis], self.whole[self.axis + 1 :]
        apart = array.reshape(*before, self.outer, self.blocks, self.inner, *after)
        return apart[(slice(None),) * (self.axis + 1) + (slice(self.start, self.start + self.taken),)]

    def restore(self, array: NDArray[Any]) -> NDArray[Any]:
        """The part's values in the step's own axes."""
        return super().restore(self.cut(array))

    def describe(self, axes: Sequence[str]) -> str:
        """The tensor's axes: `batch time (3[1] hdim)` is the second third of the last one, `3[1] batch hdim` the
        second of three along the first, and `(5[0:3] hdim)` the first three blocks of five."""
        named = [(axes[a], self.shape[a]) for a in self.order if self.shape[a] != 1]
        ends = [1, *accumulate((size for _, size in named), mul)]
        spans = [(name, low, high) for (name, _), (low, high) in zip(named, pairwise(ends), strict=True)]
        end = f":{self.start + self.taken}" if self.taken > 1 else ""
        words, position = [], 1

        def names(size: int) -> list[str]:
            nonlocal position
            start, position = position, position * size
            return [name for name, low, high in spans if low < position and high > start]

        for axis, size in enumerate(self.whole):
            if axis == self.axis:
                group = [*names(self.outer), f"{self.blocks}[{self.start}{end}]", *names(self.taken * self.inner)]
            else:
                group = names(size)
            words.append(f"({' '.join(group)})" if len(group) > 1 else "".join(group))
        return " ".join(word for word in words if word)


class Slices:
    """The parts of a tape's tensors, by the sums of their blocks.

    A sum over all other axes is taken once per tensor and axis; the sums of every way to take that axis apart
    follow from it.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self._by_shape: dict[tuple[int, ...], list[int]] = {}
        for position, entry in enumerate(entries):
            self._by_shape.setdefault(entry.array.shape, []).append(position)
        self._profiles: dict[tuple[tuple[int, ...], int], NDArray[np.float64]] = {}
        self._sums: dict[tuple[tuple[int, ...], int, int, int, int], NDArray[np.float64]] = {}

    def plausible(
        self, shape: tuple[int, ...], likely: Callable[[NDArray[np.float64]], NDArray[np.bool_]]
    ) -> list[tuple[int, Part]]:
        """Where a step of `shape` may be: positions, each with a part of the tensor there, in order of position.

        `likely` says which sums the step allows. A view per part: others differ in the order of the axes alone.
        """
        size, found = math.prod(shape), []
        if size == 0:
            return []
        for whole, positions in self._by_shape.items():
            total = math.prod(whole)
            common = math.gcd(size, total)
            taken, blocks = size // common, total // common
            if not taken < blocks <= MOST_BLOCKS:
                continue
            for axis, length in enumerate(whole):
                for outer in _divisors(length // blocks) if length % blocks == 0 else ():
                    held = (*whole[:axis], outer, taken, length // (outer * blocks), *whole[axis + 1 :])
                    order = next((view.order for view in views(shape, held)), None)
                    if order is None:
                        continue
                    for number, start in np.argwhere(likely(self._block_sums(whole, axis, outer, blocks, taken))):
                        part = Part(shape, order, held, whole, axis, outer, blocks, int(start), taken)
                        found.append((positions[number], part))
        return sorted(found, key=lambda item: item[0])

    def _block_sums(
        self, whole: tuple[int, ...], axis: int, outer: int, blocks: int, taken: int
    ) -> NDArray[np.float64]:
        """Per tensor of the shape `whole`, the sums of `taken` blocks from each start on."""
        key = whole, axis, outer, blocks, taken
        if key not in self._sums:
            profile = self._profile(whole, axis)
            sums = profile.reshape(len(profile), outer, blocks, -1).sum(axis=(1, 3))
            windows = np.lib.stride_tricks.sliding_window_view(sums, taken, axis=1)
            self._sums[key] = sums if taken == 1 else windows.sum(axis=-1)
        return self._sums[key]

    def _profile(self, whole: tuple[int, ...], axis: int) -> NDArray[np.float64]:
        """Per tensor of the shape `whole`, the sums over all axes but `axis`."""
        if (whole, axis) not in self._profiles:
            others = tuple(a for a in range(len(whole)) if a != axis)
            arrays = (self.entries[position].array for position in self._by_shape[whole])
            with np.errstate(all="ignore"):
                sums = [np.sum(array, axis=others, dtype=np.float64) for array in arrays]
            self._profiles[whole, axis] = np.stack(sums)
        return self._profiles[whole, axis]


def turned(part: Part) -> Iterator[Part]:
    """The same part in every view that fits, the nearest order first."""
    for view in views(part.shape, part.held):
        yield replace(part, order=view.order)


def tells(expected: RoundedArray) -> bool:
    """Whether a step is so particular that a slice which holds it does so for a reason.

    There are a great many slices. A constant is in some of them, and so are a few numbers within a wide
    tolerance; eight values that the tolerances tell apart are not.
    """
    with np.errstate(all="ignore"):
        finite = np.isfinite(expected.value)
        values, tolerance = expected.value[finite], expected.tolerance[finite]
        if values.size < _DISTINCT:
            return False
        order = np.argsort(values)
        values, tolerance = values[order], tolerance[order]
        apart = np.diff(values) > tolerance[1:] + tolerance[:-1]
    return int(np.count_nonzero(apart)) + 1 >= _DISTINCT


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]
