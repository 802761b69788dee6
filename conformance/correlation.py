"""The correlation of an input with a kernel, along any number of spatial axes, as products of matrices.

What the windows hold is laid side by side (Chellapilla, Puri, Simard, High Performance Convolutional Neural Networks
for Document Processing, 2006), but never of the whole input at once: a block of rows at a time stays in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.blocks import blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GATHERED = 2**16  # elements of the windows that are laid side by side at once: 512 KiB


def correlation(
    x: NDArray[Any], kernel: NDArray[Any], strides: Sequence[int], dilation: Sequence[int], groups: int
) -> NDArray[Any]:
    """`batch *space groups out/groups`, of `batch *padded in` and a kernel `*window in/groups out`.

    Group g of the input's channels meets group g of the outputs. Raises ValueError where the window does not fit.
    """
    axes = x.ndim - 2
    size, (per_group, out) = kernel.shape[:axes], kernel.shape[axes:]
    if per_group * groups != x.shape[-1]:
        raise ValueError(f"{x.shape[-1]} channels are not {groups} groups of {per_group}")
    grouped = np.reshape(x, (*x.shape[:-1], groups, per_group))
    seen = _windows(grouped, size, strides, dilation)
    rows = seen.shape[: 1 + axes]
    parted = np.reshape(kernel, (*size, per_group, groups, out // groups))
    result = np.empty((*rows, groups, out // groups), np.result_type(x, kernel))
    if per_group == 1:
        _accumulate(seen[..., 0], parted[..., 0, :, :], result)
        return result
    terms = math.prod(size) * per_group
    matrices = np.ascontiguousarray(np.moveaxis(parted, -2, 0)).reshape(groups, terms, out // groups)
    first = (1 + axes, *range(1 + axes), *range(2 + axes, seen.ndim))  # the groups come first
    for block in blocks(rows, max(_GATHERED // (groups * terms), 1) if terms else 1):
        there, into = seen[block], result[block]
        count = math.prod(into.shape[: 1 + axes])
        if groups == 1:
            np.matmul(there.reshape(count, terms), matrices[0], out=into.reshape(count, out))
        else:
            found = there.transpose(first).reshape(groups, count, terms) @ matrices
            into[...] = np.swapaxes(found, 0, 1).reshape(into.shape)
    return result


def _windows(x: NDArray[Any], size: Sequence[int], strides: Sequence[int], dilation: Sequence[int]) -> NDArray[Any]:
    """Every window of `batch *padded group channel`: `batch *space group *window channel`, without a copy."""
    axes = len(size)
    extents = tuple((k - 1) * d + 1 for k, d in zip(size, dilation, strict=True))
    whole = np.lib.stride_tricks.sliding_window_view(x, extents, axis=tuple(range(1, 1 + axes)))
    steps = (slice(None), *(slice(None, None, s) for s in strides), slice(None), slice(None))
    apart = whole[(*steps, *(slice(None, None, d) for d in dilation))]
    return np.moveaxis(apart, 2 + axes, -1)


def _accumulate(seen: NDArray[Any], kernel: NDArray[Any], result: NDArray[Any]) -> None:
    """The correlation where every group has one channel: an offset of the window after another.

    `seen` is `batch *space group *window`, `kernel` `*window group multiplier`.
    """
    axes = kernel.ndim - 2
    for block in blocks(result.shape):
        total, there = result[block], seen[block[: 2 + axes]]
        total[...] = 0
        for offset in np.ndindex(kernel.shape[:axes]):
            weights = kernel[offset][block[1 + axes :]]
            total += there[(..., *offset)][..., None] * weights
