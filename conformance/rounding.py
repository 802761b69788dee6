"""An array that carries, beside each value, the deviation of the rounding error that a framework may make.

Oracle code reads as plain NumPy; this type answers through NumPy's protocols with a closed table of
operations. Whatever is not in the table raises TypeError, `np.asarray` and comparisons included: they
would silently drop the deviations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from conformance.elementwise import UFUNCS, Elementwise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.model import RoundingModel


_FIRM = 2.0**-6  # tolerances of weights below which a softmax needs no second look


class RoundedArray(NDArrayOperatorsMixin):
    """Float64 `value` with the `deviation` of its rounding error (None: exact), both of one shape."""

    __slots__ = ("deviation", "model", "relative", "value")

    def __init__(self, value: NDArray[Any], deviation: NDArray[Any] | None, model: RoundingModel) -> None:
        self.value = value = np.asarray(value)
        self.model = model
        self.relative: float | None = None  # where every deviation is this many times its value
        if deviation is not None:
            deviation = np.broadcast_to(deviation, value.shape).astype(model.dtype, copy=False)
            with np.errstate(over="ignore", invalid="ignore"):
                finite = bool(np.isfinite(value.sum()))  # a cheap first look: few arrays hold infinities
            if not finite:
                deviation = np.where(np.isfinite(value), deviation, 0)
            if np.isnan(deviation.sum()):
                deviation = np.where(np.isnan(deviation), np.inf, deviation)
        self.deviation = deviation

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the values."""
        return self.value.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.value.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.value.size

    @property
    def tolerance(self) -> NDArray[Any]:
        """By how much each element of a conforming implementation may differ."""
        if self.deviation is None:
            return np.zeros(self.shape)
        return self.deviation.astype(np.float64) * (self.model.multiple * self.model.both_sides)

    def __repr__(self) -> str:
        return f"RoundedArray({self.value!r}, tolerance={self.tolerance!r})"

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, index: Any) -> RoundedArray:
        return self._same(lambda a: a[index])

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("a RoundedArray does not turn into an ndarray: its deviations would be lost (use .value)")

    def __bool__(self) -> NoReturn:
        raise TypeError("the truth value of a RoundedArray depends on rounding")

    def __float__(self) -> NoReturn:
        raise TypeError("a RoundedArray does not turn into a number: its deviation would be lost")

    __int__ = __complex__ = __index__ = __iter__ = __float__
    __hash__ = None  # type: ignore[assignment]  # values that rounding may change are no keys

    def _same(self, structural: Callable[[NDArray[Any]], NDArray[Any]]) -> RoundedArray:
        moved = None if self.deviation is None else structural(self.deviation)
        result = RoundedArray(structural(self.value), moved, self.model)
        result.relative = self.relative
        return result

    def apply(self, f: Elementwise) -> RoundedArray:
        """The elementwise function `f`: the deviation is followed along a secant of `f`, not its slope."""
        with np.errstate(all="ignore"):
            value = f.function(self.value)
            exact = f.relative == 0 and f.absolute == 0
            error = None if exact else self.model.rounding(value, f.relative, f.absolute)
            if self.deviation is None:
                return RoundedArray(value, error, self.model)
            step = self.deviation.astype(np.float64) * self.model.multiple
            spread = np.asarray(np.abs(f.function(self.value + step) - value))
            np.maximum(spread, np.abs(f.function(np.maximum(self.value - step, f.low)) - value), out=spread)
            spread /= self.model.multiple
            return RoundedArray(value, spread if error is None else self.model.join([spread, error]), self.model)

    def softmax_at_worst(self, result: RoundedArray, axis: int) -> RoundedArray:
        """`result`, the softmax of this array, with deviations no larger than the worst corner allows.

        Numerator and total hold the same exponential, so their errors are not independent: however
        uncertain the scores are, a weight lies between what it is with its own score down and all others
        up, and the reverse. Counted apart, the total alone may be as uncertain as it is large.
        """
        model = self.model
        if self.deviation is None or result.deviation is None:
            return result
        if float(result.deviation.max(initial=0.0)) * model.multiple < _FIRM:
            return result  # far from where it matters
        with np.errstate(all="ignore"):
            step = self.deviation.astype(np.float64) * model.multiple
            top = np.max(self.value + step, axis=axis, keepdims=True)
            up, down = np.exp(self.value + step - top), np.exp(self.value - step - top)
            others_up = np.maximum(np.sum(up, axis=axis, keepdims=True) - up, 0)
            others_down = np.maximum(np.sum(down, axis=axis, keepdims=True) - down, 0)
            most, least = up / (up + others_down), down / (down + others_up)
            corner = np.maximum(most - result.value, result.value - least) / model.multiple
            corner = np.where(np.isnan(corner), 1 / model.multiple, corner)
            own = model.rounding(result.value, 3 + math.sqrt(self.value.shape[axis]))
            bound = model.join([corner, own, own, own])  # of the exponential, the total and the quotient
        return RoundedArray(result.value, np.minimum(result.deviation, bound), model)

    # -- NumPy's protocols ------------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *operands: Any, **options: Any) -> Any:
        if method != "__call__" or options:
            raise TypeError(f"numpy.{ufunc.__name__}.{method} with {options or 'these operands'} has no rounding rule")
        if ufunc in UFUNCS:
            return self.apply(UFUNCS[ufunc])
        if ufunc is np.negative:
            return RoundedArray(-self.value, self.deviation, self.model)
        rule = _BINARY.get(ufunc)
        if rule is None:
            raise TypeError(f"numpy.{ufunc.__name__} has no rounding rule")
        a, b = (_rounded(x, self.model) for x in operands)
        with np.errstate(all="ignore"):
            return rule(a, b)

    def __array_function__(self, function: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        rule = _FUNCTIONS.get(function)
        if rule is None:
            raise TypeError(f"numpy.{getattr(function, '__name__', function)} has no rounding rule")
        with np.errstate(all="ignore"):
            return rule(*args, **kwargs)


def _rounded(x: Any, model: RoundingModel) -> RoundedArray:
    """An operand: arrays are exact, a constant carries its own rounding to the format."""
    if isinstance(x, RoundedArray):
        return x
    value = np.asarray(x, dtype=np.float64)
    if value.ndim == 0 and np.isfinite(value):
        return RoundedArray(value, np.abs(value) * max(model.precision.store, model.precision.accumulate), model)
    return RoundedArray(value, None, model)


def _array(x: Any, model: RoundingModel) -> RoundedArray:
    """An operand that is an array, whatever its size: exact unless it carries deviations."""
    return x if isinstance(x, RoundedArray) else RoundedArray(np.asarray(x, np.float64), None, model)


def _terms(*pairs: tuple[NDArray[Any], NDArray[Any] | None]) -> list[NDArray[Any]]:
    return [np.abs(factor) * deviation for factor, deviation in pairs if deviation is not None]


def _sum_of_two(value: NDArray[Any], a: RoundedArray, b: RoundedArray) -> RoundedArray:
    one = np.ones(())
    terms = _terms((one, a.deviation), (one, b.deviation))
    return RoundedArray(value, a.model.join([a.model.rounding(value), *terms]), a.model)


def _multiply(a: RoundedArray, b: RoundedArray) -> RoundedArray:
    value = a.value * b.value
    terms = _terms((a.value, b.deviation), (b.value, a.deviation))
    if a.deviation is not None and b.deviation is not None:
        terms.append(a.deviation * b.deviation.astype(np.float64) * a.model.multiple)  # second order
    return RoundedArray(value, a.model.join([a.model.rounding(value), *terms]), a.model)


def _divide(a: RoundedArray, b: RoundedArray) -> RoundedArray:
    value = a.value / b.value
    terms = [a.model.rounding(value)]
    nearest = np.abs(b.value)
    if b.deviation is not None:
        nearest = np.maximum(nearest - b.deviation.astype(np.float64) * b.model.multiple, 0)
        far = np.abs(a.value) / nearest - np.abs(value)  # the secant on the steeper side
        terms.append(np.where(a.value == 0, 0, far) / b.model.multiple)
    if a.deviation is not None:
        terms.append(a.deviation / nearest)
    return RoundedArray(value, a.model.join(terms), a.model)


def _extremum(choose: np.ufunc) -> Callable[[RoundedArray, RoundedArray], RoundedArray]:
    def rule(a: RoundedArray, b: RoundedArray) -> RoundedArray:
        value = choose(a.value, b.value)
        zero = np.zeros(())
        wider = np.maximum(zero if a.deviation is None else a.deviation, zero if b.deviation is None else b.deviation)
        return RoundedArray(value, wider, a.model)

    return rule


def _bilinear(a: Any, b: Any, product: Callable[[Any, Any], NDArray[Any]], n: int) -> RoundedArray:
    """A sum of `n` products: matmul, einsum."""
    model: RoundingModel = (a if isinstance(a, RoundedArray) else b).model
    a, b = _array(a, model), _array(b, model)
    value = np.asarray(product(a.value, b.value))
    if model.worst_case:
        size_a, size_b = np.abs(a.value), np.abs(b.value)
        magnitudes = product(size_a, size_b)
        total = model.summation(n, value, magnitudes, magnitudes, products=True)
        if b.deviation is not None:
            total = total + product(size_a, b.deviation.astype(np.float64))
        if a.deviation is not None:
            total = total + product(
                a.deviation.astype(np.float64), size_b + (0 if b.deviation is None else b.deviation)
            )
        return RoundedArray(value, total, model)
    square_a, square_b = np.square(a.value), np.square(b.value)
    squares = product(square_a, square_b)
    variance = model.summation(n, value, squares, None, products=True)
    if a.deviation is None and b.deviation is None:
        return RoundedArray(value, variance, model)
    summed = variance.copy() if model.squares_vanish else None
    np.square(variance, out=variance)
    # Deviations that are the same multiple of every value need no products of their own.
    second = model.multiple**2
    if b.relative is not None:
        variance += squares * b.relative**2
    elif b.deviation is not None:
        square_sb = np.square(b.deviation, dtype=np.float64)
        variance += product(square_a, square_sb)
    if a.relative is not None and (b.relative is not None or b.deviation is None):
        variance += squares * (a.relative**2 * (1 + second * (b.relative or 0.0) ** 2))
    elif a.deviation is not None:
        if b.relative is not None:
            square_b *= 1 + second * b.relative**2
        elif b.deviation is not None:
            square_b += second * square_sb
        variance += product(np.square(a.deviation, dtype=np.float64), square_b)
    np.sqrt(variance, out=variance)
    return RoundedArray(value, variance if summed is None else np.maximum(variance, summed), model)


def _matmul(a: Any, b: Any) -> RoundedArray:
    return _bilinear(a, b, np.matmul, a.shape[-1])


def _einsum(subscripts: str, a: Any, b: Any) -> RoundedArray:
    if "->" not in subscripts:
        raise TypeError(f"numpy.einsum needs the axes of the result: {subscripts}->...")
    left, output = subscripts.split("->")
    sizes: dict[str, int] = {}
    for names, operand in zip(left.split(","), (a, b), strict=True):
        sizes.update(zip(names, operand.shape, strict=True))
    n = math.prod(size for axis, size in sizes.items() if axis not in output)
    return _bilinear(a, b, lambda x, y: np.einsum(subscripts, x, y, optimize=True), n)


_BINARY: dict[np.ufunc, Callable[[RoundedArray, RoundedArray], RoundedArray]] = {
    np.add: lambda a, b: _sum_of_two(a.value + b.value, a, b),
    np.subtract: lambda a, b: _sum_of_two(a.value - b.value, a, b),
    np.multiply: _multiply,
    np.divide: _divide,
    np.maximum: _extremum(np.maximum),
    np.minimum: _extremum(np.minimum),
    np.matmul: _matmul,
}


# -- functions ----------------------------------------------------------------------------------------------


def _one(function: Any) -> Callable[..., RoundedArray]:
    """A structural function of one array: the deviations move with the values."""
    return lambda a, *args, **kwargs: a._same(lambda part: function(part, *args, **kwargs))


def _many(function: Any) -> Callable[..., RoundedArray]:
    """A structural function of a sequence of arrays."""

    def rule(arrays: Sequence[Any], **kwargs: Any) -> RoundedArray:
        model = next(a.model for a in arrays if isinstance(a, RoundedArray))
        parts = [_array(a, model) for a in arrays]
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
    a, b = (_rounded(x, model) for x in (a, b))
    zero = np.zeros(())
    deviations = [zero if x.deviation is None else x.deviation for x in (a, b)]
    return RoundedArray(np.where(mask, a.value, b.value), np.where(mask, *deviations), model)


def _pad(a: RoundedArray, widths: Any, mode: str = "constant", constant_values: float = 0.0) -> RoundedArray:
    if mode != "constant":
        return a._same(lambda part: np.pad(part, widths, mode=mode))  # type: ignore[call-overload]
    value = np.pad(a.value, widths, constant_values=constant_values)
    return RoundedArray(value, None if a.deviation is None else np.pad(a.deviation, widths), a.model)


def _sum(a: RoundedArray, axis: Any = None, keepdims: bool = False) -> RoundedArray:
    value = np.sum(a.value, axis=axis, keepdims=keepdims)
    n = a.size // max(1, value.size)
    magnitudes = np.sum(np.abs(a.value), axis=axis, keepdims=keepdims) if a.model.worst_case else None
    squares = np.sum(np.square(a.value), axis=axis, keepdims=keepdims)
    terms = [np.asarray(a.model.summation(n, value, squares, magnitudes, products=False))]
    if a.deviation is not None:
        if a.model.worst_case:
            terms.append(np.asarray(np.sum(a.deviation, axis=axis, keepdims=keepdims, dtype=np.float64)))
        else:
            terms.append(np.sqrt(np.sum(np.square(a.deviation, dtype=np.float64), axis=axis, keepdims=keepdims)))
    return RoundedArray(np.asarray(value), a.model.join(terms), a.model)


def _mean(a: RoundedArray, axis: Any = None, keepdims: bool = False) -> RoundedArray:
    total = _sum(a, axis=axis, keepdims=keepdims)
    return _divide(total, _rounded(a.size / max(1, total.size), a.model))


def _largest(a: RoundedArray, axis: Any = None, keepdims: bool = False) -> RoundedArray:
    value = np.max(a.value, axis=axis, keepdims=keepdims)
    if a.deviation is None:
        return RoundedArray(value, None, a.model)
    step = a.deviation.astype(np.float64) * a.model.multiple
    # Upward it can move by no less than its own uncertainty, downward by no more.
    above = np.max(a.value + step, axis=axis, keepdims=keepdims) - value
    return RoundedArray(value, above / a.model.multiple, a.model)


_FUNCTIONS: dict[Any, Callable[..., Any]] = {
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
    np.einsum: _einsum,
    np.isneginf: lambda a: np.isneginf(a.value),  # minus infinity marks what is masked: no rounding makes it
    np.shape: lambda a: a.shape,
    np.ndim: lambda a: a.ndim,
    np.size: lambda a: a.size,
}
