"""NumPy's functions of a rounding-aware array: structure, sums and maxima."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.blocks import blocks, is_large
from conformance.rounding import RoundedArray, array_of, by_element, einsum, part_of, rounded
from conformance.rules import divide, float64

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _one(function: Any) -> Callable[..., RoundedArray]:
    """A structural function of one array: the deviations move with the values."""
    return lambda a, *args, **kwargs: a.moved(lambda part: function(part, *args, **kwargs))


def _many(function: Any) -> Callable[..., RoundedArray]:
    """A structural function of a sequence of arrays."""

    def rule(arrays: Sequence[Any], **kwargs: Any) -> RoundedArray:
        model = next(a.model for a in arrays if isinstance(a, RoundedArray))
        parts = [array_of(a, model) for a in arrays]
        value = function([p.value for p in parts], **kwargs)
        if all(p.deviation is None for p in parts):
            return RoundedArray(value, None, model)
        zero = np.zeros((), model.dtype)
        deviations = [np.broadcast_to(zero, p.shape) if p.deviation is None else p.deviation for p in parts]
        return RoundedArray(value, function(deviations, **kwargs), model)

    return rule


def _where(mask: Any, a: Any, b: Any) -> RoundedArray:
    if isinstance(mask, RoundedArray):
        raise TypeError("numpy.where needs a given mask: one that was computed depends on rounding")
    model = (a if isinstance(a, RoundedArray) else b).model
    a, b = (rounded(x, model) for x in (a, b))
    zero = np.zeros(())
    deviations = [zero if x.deviation is None else x.deviation for x in (a, b)]
    return RoundedArray(np.where(mask, a.value, b.value), np.where(mask, *deviations), model)


def _pad(a: RoundedArray, widths: Any, mode: str = "constant", constant_values: float = 0.0) -> RoundedArray:
    if mode != "constant":
        return a.moved(lambda part: np.pad(part, widths, mode=mode))  # type: ignore[call-overload]
    value = np.pad(a.value, widths, constant_values=constant_values)
    return RoundedArray(value, None if a.deviation is None else np.pad(a.deviation, widths), a.model)


def _sum(a: RoundedArray, axis: Any = None, keepdims: bool = False) -> RoundedArray:
    model = a.model
    over = _axes(axis, a.ndim)
    value, squares, magnitudes, variance = _totals(a, over)
    n = a.size // max(1, value.size)
    terms = [np.asarray(model.summation(n, value, squares, magnitudes, products=False))]
    if variance is not None:
        terms.append(variance if model.worst_case else np.sqrt(variance))
    result = RoundedArray(value, model.join(terms), model)
    return result if keepdims else result.moved(lambda part: np.squeeze(part, over))


def _totals(
    a: RoundedArray, over: tuple[int, ...]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None, NDArray[Any] | None]:
    """The sums of the values, of their squares, of their magnitudes in the worst case, and of the deviations' squares;
    in the worst case, of the deviations. Summed axes keep a size of one. Large arrays are summed in blocks."""
    worst = a.model.worst_case
    if a.pending is not None and not a.pending.cheap:
        a.settle()

    def summed(value: NDArray[Any], deviation: NDArray[Any] | None) -> list[NDArray[Any] | None]:
        made: list[Any] = [value, np.square(value)]
        made.append(np.abs(value) if worst else None)
        made.append(deviation if worst or deviation is None else np.square(deviation))
        return [None if x is None else np.sum(x, axis=over, keepdims=True) for x in made]

    if not is_large(a.shape):
        return tuple(summed(a.value, float64(a.deviation)))  # type: ignore[return-value]
    shape = [1 if i in over else size for i, size in enumerate(a.shape)]
    totals: list[NDArray[Any] | None] = []
    for block in blocks(a.shape):
        into = tuple(slice(None) if i in over else chosen for i, chosen in enumerate(block))
        sums = summed(*part_of(a, block, a.shape, hasty=True))
        if not all(x is None or math.isfinite(x.sum()) for x in sums):
            sums = summed(*part_of(a, block, a.shape, hasty=False))
        totals = totals or [None if x is None else np.zeros(shape) for x in sums]
        for total, more in zip(totals, sums, strict=True):
            if total is not None:
                total[into] += more
    return tuple(totals)  # type: ignore[return-value]


def _axes(axis: Any, ndim: int) -> tuple[int, ...]:
    given = range(ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return tuple(a % ndim for a in given)


def _mean(a: RoundedArray, axis: Any = None, keepdims: bool = False) -> RoundedArray:
    total = _sum(a, axis=axis, keepdims=keepdims)
    count = rounded(a.size / max(1, total.size), a.model)
    return by_element(lambda x, y: divide(x, y, a.model), total, count)


def _largest(a: RoundedArray, axis: Any = None, keepdims: bool = False) -> RoundedArray:
    value = np.asarray(np.max(a.value, axis=axis, keepdims=keepdims))
    if a.deviation is None:
        return RoundedArray.made(value, None, a.model)
    # Upward it can move by no less than its own uncertainty, downward by no more.
    highest = np.max(a.value + a.deviation.astype(np.float64) * a.model.multiple, axis=axis, keepdims=keepdims)
    return RoundedArray(value, (highest - value) / a.model.multiple, a.model)


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    **{
        f: _one(f)
        for f in (
            np.reshape,
            np.transpose,
            np.swapaxes,
            np.moveaxis,
            np.expand_dims,
            np.squeeze,
            np.broadcast_to,
            np.flip,
            np.roll,
            np.take,
            np.repeat,
            np.tile,
            np.ravel,
            np.lib.stride_tricks.sliding_window_view,
        )
    },
    np.concatenate: _many(np.concatenate),
    np.stack: _many(np.stack),
    np.where: _where,
    np.pad: _pad,
    np.sum: _sum,
    np.mean: _mean,
    np.max: _largest,
    np.amax: _largest,
    np.einsum: einsum,
    np.isneginf: lambda a: np.isneginf(a.value),  # minus infinity marks what is masked: no rounding makes it
    np.shape: lambda a: a.shape,
    np.ndim: lambda a: a.ndim,
    np.size: lambda a: a.size,
}
