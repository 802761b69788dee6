"""An array that carries, beside each value, the deviation of the rounding error that a framework may make.

Oracle code reads as plain NumPy; this type answers through NumPy's protocols with a closed table of
operations. Whatever is not in the table raises TypeError, `np.asarray` and comparisons included: they
would silently drop the deviations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from conformance.blocks import Block, blocks, is_large, meeting
from conformance.elementwise import UFUNCS, Elementwise
from conformance.rules import BINARY, Parts, all_finite, certain, float64, followed
from conformance.squares import MANY, Product, Squared, of_squares, scaled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.model import RoundingModel


_FIRM = 2.0**-6  # tolerances of weights below which a softmax needs no second look


class RoundedArray(NDArrayOperatorsMixin):
    """Float64 `value` with the `deviation` of its rounding error (None: exact), both of one shape."""

    __slots__ = ("_deviation", "_value", "model", "pending", "relative", "shape")

    def __init__(self, value: NDArray[Any], deviation: NDArray[Any] | None, model: RoundingModel) -> None:
        value = np.asarray(value)
        if deviation is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                deviation = np.broadcast_to(deviation, value.shape).astype(model.dtype, copy=False)
                deviation = certain(value, deviation)
        self._value, self._deviation = value, deviation
        self.pending: _Pending | None = None
        self.model, self.shape = model, value.shape
        self.relative: float | None = None  # where every deviation is this many times its value

    @classmethod
    def made(cls, value: NDArray[Any], deviation: NDArray[Any] | None, model: RoundingModel) -> RoundedArray:
        """An array whose deviations have been looked through before."""
        made = cls.__new__(cls)
        made._value, made._deviation, made.pending = value, deviation, None
        made.model, made.shape, made.relative = model, value.shape, None
        return made

    @classmethod
    def _to_be(cls, pending: _Pending, model: RoundingModel) -> RoundedArray:
        """An array that is computed when it is looked at, or in blocks by the operation that reads it."""
        made = cls.__new__(cls)
        made.pending, made.model, made.shape, made.relative = pending, model, pending.shape, None
        return made

    def settle(self) -> RoundedArray:
        """Itself, with its values computed where they were still to be."""
        if self.pending is not None:
            self._value, self._deviation = self.pending.computed(self.model)
            self.pending = None
        return self

    @property
    def value(self) -> NDArray[Any]:
        """The values."""
        if self.pending is not None:
            self.settle()
        return self._value

    @property
    def deviation(self) -> NDArray[Any] | None:
        """The deviations of the values, or None where they are exact."""
        if self.pending is not None:
            self.settle()
        return self._deviation

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def tolerance(self) -> NDArray[Any]:
        """By how much each element of a conforming implementation may differ."""
        if self.deviation is None:
            return np.zeros(self.shape)
        return self.deviation.astype(np.float64) * (self.model.multiple * self.model.both_sides)

    def __repr__(self) -> str:
        return f"RoundedArray({self.value!r}, tolerance={self.tolerance!r})"

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a RoundedArray without axes")
        return int(self.shape[0])

    def __getitem__(self, index: Any) -> RoundedArray:
        return self.moved(lambda a: a[index])

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("a RoundedArray does not turn into an ndarray: its deviations would be lost (use .value)")

    def __bool__(self) -> NoReturn:
        raise TypeError("the truth value of a RoundedArray depends on rounding")

    def __float__(self) -> NoReturn:
        raise TypeError("a RoundedArray does not turn into a number: its deviation would be lost")

    __int__ = __complex__ = __index__ = __iter__ = __float__
    __hash__ = None  # type: ignore[assignment]  # values that rounding may change are no keys

    def moved(self, structural: Callable[[NDArray[Any]], NDArray[Any]]) -> RoundedArray:
        """The array with its values elsewhere, and their deviations with them."""
        moved = None if self.deviation is None else np.asarray(structural(self.deviation))
        result = RoundedArray.made(np.asarray(structural(self.value)), moved, self.model)
        result.relative = self.relative
        return result

    def apply(self, f: Elementwise) -> RoundedArray:
        """The elementwise function `f`: the deviation is followed along a secant of `f`, not its slope."""
        with np.errstate(all="ignore"):
            return by_element(lambda a: followed(f, a, self.model), self, cheap=f.cheap, rounds=f.relative > 0)

    def bilinear(self, product: Product, a: Any, b: Any, terms: int) -> RoundedArray:
        """What `product` makes of `a` and `b`, of which this array is one: sums of `terms` products each."""
        with np.errstate(all="ignore"):
            return _bilinear(a, b, product, terms)

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
        if ufunc is np.matmul:
            with np.errstate(all="ignore"):
                return _matmul(*operands)
        rule = BINARY.get(ufunc)
        if rule is None:
            raise TypeError(f"numpy.{ufunc.__name__} has no rounding rule")
        a, b = (rounded(x, self.model) for x in operands)
        with np.errstate(all="ignore"):
            rounds = ufunc not in (np.maximum, np.minimum)
            return by_element(lambda x, y: rule(x, y, self.model), a, b, rounds=rounds)

    def __array_function__(self, function: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        from conformance.functions import FUNCTIONS  # they make arrays of this type

        rule = FUNCTIONS.get(function)
        if rule is None:
            raise TypeError(f"numpy.{getattr(function, '__name__', function)} has no rounding rule")
        with np.errstate(all="ignore"):
            return rule(*args, **kwargs)


def rounded(x: Any, model: RoundingModel) -> RoundedArray:
    """An operand: arrays are exact, a constant carries its own rounding to the format."""
    if isinstance(x, RoundedArray):
        return x
    value = np.asarray(x, dtype=np.float64)
    if value.ndim == 0 and np.isfinite(value):
        return RoundedArray(value, np.abs(value) * max(model.precision.store, model.precision.accumulate), model)
    return RoundedArray(value, None, model)


def array_of(x: Any, model: RoundingModel) -> RoundedArray:
    """An operand that is an array, whatever its size: exact unless it carries deviations."""
    return x if isinstance(x, RoundedArray) else RoundedArray(np.asarray(x, np.float64), None, model)


@dataclass(eq=False, slots=True)
class _Pending:
    """An elementwise operation on large arrays that is still to be done.

    What reads its result does it in blocks, so that no memory is written for what is only on the way. Where a second
    operation reads it, or where two lie behind one another already, it is computed first, lest it be done many times.
    """

    rule: Callable[..., Parts]
    operands: tuple[RoundedArray, ...]
    shape: tuple[int, ...]
    cheap: bool
    rounds: bool
    deep: bool
    values: NDArray[Any] | None = None  # where they are there already, and only the deviations are to be computed
    read: bool = False

    def block(self, block: Block, *, hasty: bool) -> Parts:
        """Values and float64 deviations of a block; `hasty` leaves it to whoever uses them to look whether all of that
        is finite, and to ask again where it is not. Arithmetic hands on what is not."""
        return self.rule(*(part_of(x, block, self.shape, hasty=hasty) for x in self.operands))

    def computed(self, model: RoundingModel) -> Parts:
        """All values and deviations."""
        whole = np.empty(self.shape) if self.values is None else self.values
        deviations: NDArray[Any] | None = None
        with np.errstate(all="ignore"):
            for block in blocks(self.shape):
                value, deviation = self.block(block, hasty=True)
                if not all_finite(value, deviation, self.rounds):
                    value, deviation = self.block(block, hasty=False)
                    deviation = None if deviation is None else certain(value, deviation)
                if self.values is None:
                    whole[block] = value
                if deviation is not None:
                    if deviations is None:
                        deviations = np.empty(self.shape, model.dtype)
                    deviations[block] = deviation
        return whole, deviations


def part_of(x: RoundedArray, block: Block, shape: tuple[int, ...], *, hasty: bool) -> Parts:
    """What of an operand meets a block of an array of `shape`."""
    if x.shape != shape:
        block = meeting(block, x.shape, len(shape))
    if x.pending is not None:
        value, deviation = x.pending.block(block, hasty=hasty)
        return value, deviation if deviation is None or hasty else certain(value, deviation)
    return x._value[block], None if x._deviation is None else float64(x._deviation[block])


def by_element(
    rule: Callable[..., Parts],
    *operands: RoundedArray,
    cheap: bool = True,
    rounds: bool = True,
    values: NDArray[Any] | None = None,
) -> RoundedArray:
    """`rule` of the operands' values and float64 deviations, element by element: of a large array when it is read.

    `values` are those of the result, where they are known.
    """
    first = operands[0]
    model, shape = first.model, first.shape
    for x in operands[1:]:
        if x.shape != shape and x.shape:
            shape = np.broadcast_shapes(*(x.shape for x in operands))
            break
    if not is_large(shape):
        value, deviation = rule(*((x.value, float64(x.deviation)) for x in operands))
        value = np.asarray(value)
        if deviation is not None:
            deviation = np.asarray(deviation)
            if not all_finite(value, deviation, rounds):
                deviation = certain(value, deviation)
            deviation = deviation.astype(model.dtype, copy=False)
        return RoundedArray.made(value, deviation, model)
    for x in operands:
        if x.pending is not None:
            if x.pending.deep or x.pending.read or x.shape != shape:
                x.settle()
            else:
                x.pending.read = True
    deep = any(x.pending is not None for x in operands)
    return RoundedArray._to_be(_Pending(rule, operands, shape, cheap, rounds, deep, values), model)


def _bilinear(a: Any, b: Any, product: Callable[[Any, Any], NDArray[Any]], n: int) -> RoundedArray:
    """A sum of `n` products: matmul, einsum."""
    model: RoundingModel = (a if isinstance(a, RoundedArray) else b).model
    a, b = array_of(a, model), array_of(b, model)
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
    square_a, square_b = Squared([a.value]), Squared([b.value])
    narrow = model.dtype is np.float32 and max(a.size, b.size) * n >= MANY
    squares, scale = of_squares(product, square_a, square_b, narrow)
    # Deviations that are the same multiple of every value need no products of their own.
    second = model.multiple**2
    others: list[tuple[NDArray[Any], float]] = []
    own = 0.0
    if b.relative is not None:
        own += b.relative**2
    elif b.deviation is not None:
        others.append(of_squares(product, square_a, Squared([b.deviation]), narrow))
    if a.relative is not None and (b.relative is not None or b.deviation is None):
        own += a.relative**2 * (1 + second * (b.relative or 0.0) ** 2)
    elif a.deviation is not None:
        further = 1.0
        if b.relative is not None:
            further += second * b.relative**2
        elif b.deviation is not None:
            square_b = Squared([b.value, b.deviation.astype(np.float64) * model.multiple])
        sums, factor = of_squares(product, Squared([a.deviation]), square_b, narrow)
        others.append((sums, factor * further))
    exact = a.deviation is None and b.deviation is None

    def rule(value: Parts, squares: Parts, *sums: Parts) -> Parts:
        terms = scaled(squares[0], scale)
        summed = model.summation(n, value[0], terms, None, products=True)
        if exact:
            return value[0], summed
        variance = np.asarray(np.square(summed))
        if own:
            variance += terms * own
        for (more, _), (_, factor) in zip(sums, others, strict=True):
            variance += scaled(more, factor)
        np.sqrt(variance, out=variance)
        return value[0], np.maximum(variance, summed) if model.squares_vanish else variance

    made = (RoundedArray.made(x, None, model) for x in (value, squares, *(sums for sums, _ in others)))
    return by_element(rule, *made, values=value)


def _matmul(a: Any, b: Any) -> RoundedArray:
    return _bilinear(a, b, np.matmul, a.shape[-1])


def einsum(subscripts: str, a: Any, b: Any) -> RoundedArray:
    """np.einsum of two arrays. Raises TypeError where the subscripts do not say the axes of the result."""
    if "->" not in subscripts:
        raise TypeError(f"numpy.einsum needs the axes of the result: {subscripts}->...")
    left, output = subscripts.split("->")
    sizes: dict[str, int] = {}
    for names, operand in zip(left.split(","), (a, b), strict=True):
        sizes.update(zip(names, operand.shape, strict=True))
    n = math.prod(size for axis, size in sizes.items() if axis not in output)
    return _bilinear(a, b, lambda x, y: np.einsum(subscripts, x, y, optimize=True), n)
