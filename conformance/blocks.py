"""Large arrays a block at a time, so that what is computed on the way stays in the processor's cache."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product

BLOCK = 2**15  # elements: 256 KiB of float64, of which a few fit a second-level cache
LARGE = BLOCK  # elements from which on blocks are worth their loop

Block = tuple[slice, ...]


def blocks(shape: Sequence[int], most: int = BLOCK) -> Iterator[Block]:
    """What parts an array of `shape` into blocks of about `most` elements, in order: slices of its first axes."""
    inner, axis = 1, len(shape)
    while axis > 0 and inner * shape[axis - 1] <= most:
        axis -= 1
        inner *= shape[axis]
    if axis == 0:
        yield ()
        return
    rows = max(1, most // max(1, inner))
    for outer in product(*map(range, shape[: axis - 1])):
        before = tuple(slice(i, i + 1) for i in outer)
        for start in range(0, shape[axis - 1], rows):
            yield (*before, slice(start, start + rows))


def meeting(block: Block, shape: Sequence[int], ndim: int) -> Block:
    """What of an operand of `shape` meets a block of the array of `ndim` axes to which it is broadcast."""
    behind = block[max(0, ndim - len(shape)) :]
    return tuple(slice(None) if size == 1 else chosen for size, chosen in zip(shape, behind, strict=False))


def is_large(shape: Sequence[int]) -> bool:
    """Whether an array of `shape` is worth a loop over its blocks."""
    return math.prod(shape) >= LARGE
