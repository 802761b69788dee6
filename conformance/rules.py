"""The rule of each elementwise operation: values and deviations of its operands to those of its result.

docs/tolerances.md has them in a table. Deviations are float64 here, or None where values are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.elementwise import Elementwise
    from conformance.model import RoundingModel

Parts = tuple["NDArray[Any]", "NDArray[Any] | None"]


def certain(value: NDArray[Any], deviation: NDArray[Any]) -> NDArray[Any]:
    """The deviations: none of what is not finite, and infinite where nothing is known."""
    if not math.isfinite(value.sum()):  # a cheap first look: few arrays hold infinities
        deviation = np.where(np.isfinite(value), deviation, 0)
    if math.isnan(deviation.sum()):
        deviation = np.where(np.isnan(deviation), np.inf, deviation)
    return deviation


def all_finite(value: NDArray[Any], deviation: NDArray[Any] | None, rounds: bool) -> bool:
    """Whether values and deviations are finite. What `rounds` has deviations no smaller than u times a value."""
    if deviation is not None and not math.isfinite(deviation.sum()):
        return False
    return (rounds and deviation is not None) or math.isfinite(value.sum())


def float64(deviation: NDArray[Any] | None) -> NDArray[Any] | None:
    """Deviations as the rules take them."""
    return None if deviation is None else deviation.astype(np.float64, copy=False)


def followed(f: Elementwise, a: Parts, model: RoundingModel) -> Parts:
    """An elementwise function: the deviation is followed along a secant of `f`, not its slope."""
    given, deviation = a
    value = f.function(given)
    exact = f.relative == 0 and f.absolute == 0
    error = None if exact else model.rounding(value, f.relative, f.absolute)
    if deviation is None:
        return value, error
    if f.secant is not None:
        spread = f.secant(given, deviation, model.multiple)
    else:
        step = deviation * model.multiple
        spread = np.asarray(np.abs(f.function(given + step) - value))
        np.maximum(spread, np.abs(f.function(np.maximum(given - step, f.low)) - value), out=spread)
        spread /= model.multiple
    return value, spread if error is None else model.join([error, spread])


def _terms(*pairs: Parts) -> list[NDArray[Any]]:
    return [np.abs(factor) * deviation for factor, deviation in pairs if deviation is not None]


def sum_of_two(operation: np.ufunc) -> Callable[..., Parts]:
    """a + b, or a - b"""

    def rule(a: Parts, b: Parts, model: RoundingModel) -> Parts:
        value = operation(a[0], b[0])
        terms = [deviation for _, deviation in (a, b) if deviation is not None]
        return value, model.join([model.rounding(value), *terms])

    return rule


def multiply(a: Parts, b: Parts, model: RoundingModel) -> Parts:
    """a b"""
    value = a[0] * b[0]
    terms = _terms((a[0], b[1]), (b[0], a[1]))
    if a[1] is not None and b[1] is not None:
        terms.append(a[1] * b[1] * model.multiple)  # second order
    return value, model.join([model.rounding(value), *terms])


def divide(a: Parts, b: Parts, model: RoundingModel) -> Parts:
    """a / b"""
    value = a[0] / b[0]
    terms = [model.rounding(value)]
    size = np.abs(b[0])
    nearest = size
    if b[1] is not None:
        nearest = np.maximum(size - b[1] * model.multiple, 0)
        further = (size - nearest) / nearest / model.multiple  # the secant on the steeper side, as a part of the value
        if not math.isfinite(further.sum()):
            further = np.where(np.isinf(size), 0, further)
            terms.append(np.where(a[0] == 0, 0, np.abs(value) * further))
        else:
            terms.append(np.abs(value) * further)
    if a[1] is not None:
        terms.append(a[1] / nearest)
    return value, model.join(terms)


def extremum(choose: np.ufunc) -> Callable[..., Parts]:
    """The larger, or the smaller, of two."""

    def rule(a: Parts, b: Parts, model: RoundingModel) -> Parts:
        value = choose(a[0], b[0])
        zero = np.zeros(())
        wider = np.maximum(zero if a[1] is None else a[1], zero if b[1] is None else b[1])
        return value, np.broadcast_to(wider, value.shape)

    return rule


BINARY: dict[np.ufunc, Callable[..., Parts]] = {
    np.add: sum_of_two(np.add),
    np.subtract: sum_of_two(np.subtract),
    np.multiply: multiply,
    np.divide: divide,
    np.maximum: extremum(np.maximum),
    np.minimum: extremum(np.minimum),
}
