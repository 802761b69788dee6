"""Views: the ways in which a framework may hold a step's values.

A view is a permutation of the step's axes, followed by merging or splitting neighbours. Axes of size one
do not count. What matched is part of the result: a transposed `scores` is reported, never silently turned.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, permutations
from operator import mul
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class View:
    """How a tensor of shape `held` holds a step of shape `shape`: its axes in `order`."""

    shape: tuple[int, ...]
    order: tuple[int, ...]
    held: tuple[int, ...]

    @property
    def canonical(self) -> bool:
        """Whether the axes are in the step's own order."""
        kept = [a for a in self.order if self.shape[a] != 1]
        return kept == sorted(kept)

    def restore(self, array: NDArray[Any]) -> NDArray[Any]:
        """The tensor's values in the step's own axes (a NumPy view where the memory allows)."""
        moved = array.reshape([self.shape[a] for a in self.order])
        return np.transpose(moved, np.argsort(self.order))

    def describe(self, axes: Sequence[str]) -> str:
        """The tensor's axes in einops notation: `(batch head) query key`."""
        sizes = [self.shape[a] for a in self.order if self.shape[a] != 1]
        names = [axes[a] for a in self.order if self.shape[a] != 1]
        if 0 in sizes:  # whose products have no ends
            return " ".join(names)
        words, position = [], 0
        ends = _ends([s for s in self.held if s != 1])
        inner = _ends(sizes)
        for end in sorted(ends & inner):
            group = [n for n, e in zip(names, accumulate(sizes, mul), strict=True) if position < e <= end]
            pieces = len([e for e in ends if position < e <= end])
            word = f"({' '.join(group)})" if len(group) > 1 else group[0]
            words.append(word if pieces == 1 else f"{word}/{pieces}")
            position = end
        return " ".join(words)


def _ends(sizes: Sequence[int]) -> set[int]:
    return set(accumulate(sizes, mul))


def views(shape: tuple[int, ...], held: tuple[int, ...]) -> Iterator[View]:
    """Every view by which a tensor of shape `held` can hold a step of `shape`, the nearest order first.

    Between two boundaries that both share, only one of them may have inner ones: (2, 6) is not a view
    of (3, 4), though both have twelve elements.
    """
    return iter(_views(shape, held))


@lru_cache(maxsize=4096)
def _views(shape: tuple[int, ...], held: tuple[int, ...]) -> tuple[View, ...]:
    if math.prod(shape) != math.prod(held):
        return ()
    made = []
    real = [a for a, size in enumerate(shape) if size != 1]
    single = [a for a, size in enumerate(shape) if size == 1]
    held_ends = _ends([s for s in held if s != 1])
    orders = sorted(permutations(real), key=_inversions)
    for order in orders:
        sizes = [shape[a] for a in order]
        if (sizes == [s for s in held if s != 1]) if 0 in shape else _compatible(_ends(sizes), held_ends):
            made.append(View(shape, (*single, *order) if _inversions(order) else tuple(range(len(shape))), held))
    return tuple(made)


def _inversions(order: Sequence[int]) -> int:
    return sum(a > b for i, a in enumerate(order) for b in order[i + 1 :])


def _compatible(a: set[int], b: set[int]) -> bool:
    start = 0
    for end in sorted(a & b):
        if any(start < e < end for e in a) and any(start < e < end for e in b):
            return False
        start = end
    return True
