"""How far observed values are from expected ones, counted in tolerances."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.rounding import RoundedArray


@dataclass(frozen=True)
class Figures:
    """The greatest error: in tolerances (`ratio`), absolute, relative to the expected value, and where.

    `outside` is how many of `count` elements are beyond their tolerance.
    """

    ratio: float
    max_abs: float
    max_rel: float
    at: tuple[int, ...]
    outside: int
    count: int

    @property
    def conforms(self) -> bool:
        """Whether every element is within its tolerance."""
        return self.ratio <= 1


def compare(expected: RoundedArray, observed: NDArray[Any]) -> Figures:
    """The figures of `observed` against `expected`; where it has another shape, it is wrong throughout.

    NaN and infinities that match are right; one that does not is an infinite error. Where the expected
    value is beyond the format's range, the infinity of its sign is right too.
    """
    if np.shape(observed) != expected.shape:
        return Figures(math.inf, math.inf, math.inf, (), expected.size, expected.size)
    if expected.size == 0:
        return Figures(0.0, 0.0, 0.0, (), 0, 0)
    value = expected.value
    error, finite = _errors(expected, np.asarray(observed, dtype=np.float64))
    with np.errstate(all="ignore"):
        ratios = _in_tolerances(error, expected)
        worst = int(np.argmax(ratios))
        largest, outside = float(ratios.flat[worst]), int(np.count_nonzero(ratios > 1))
        if largest == 0:
            worst = int(np.argmax(error))
        relative = np.divide(error, value, out=ratios, where=(value != 0) & finite)
        np.abs(relative, out=relative)
        relative[~((value != 0) & finite)] = 0
    at = tuple(int(i) for i in np.unravel_index(worst, value.shape))
    return Figures(largest, float(error.max()), float(relative.max()), at, outside, value.size)


def differences(expected: RoundedArray, observed: NDArray[Any]) -> NDArray[np.float64]:
    """What is observed less what is expected, in tolerances, element by element; the shapes must be equal.

    What does not match and is not finite is off by infinity.
    """
    seen = np.asarray(observed, dtype=np.float64)
    error, _ = _errors(expected, seen)
    return np.where(seen < expected.value, -1.0, 1.0) * _in_tolerances(error, expected)


def _errors(expected: RoundedArray, seen: NDArray[np.float64]) -> tuple[NDArray[np.float64], Any]:
    """The absolute errors, and where both values are finite (True: everywhere)."""
    value = expected.value
    with np.errstate(all="ignore"):
        error = np.asarray(np.subtract(seen, value))
        np.abs(error, out=error)
        finite: Any = True
        if not math.isfinite(error.sum()):
            finite = np.isfinite(value) & np.isfinite(seen)
            same = (np.isnan(value) & np.isnan(seen)) | (value == seen)
            largest = expected.model.precision.largest
            overflow = (
                np.isinf(seen) & (np.sign(seen) == np.sign(value)) & (np.abs(value) + expected.tolerance > largest)
            )
            error = np.where(finite, error, np.where(same | overflow, 0.0, np.inf))
    return error, finite


def _in_tolerances(error: NDArray[np.float64], expected: RoundedArray) -> NDArray[np.float64]:
    with np.errstate(all="ignore"):
        ratios = np.asarray(error / expected.tolerance)
        if math.isnan(ratios.sum()):  # 0 / 0 is no error, and infinite errors and tolerances say nothing
            ratios = np.where(np.isnan(ratios), np.where(error > 0, np.inf, 0.0), ratios)
    return ratios


def informative(expected: RoundedArray) -> bool:
    """Whether the tolerances say anything: most must be below a tenth of the step's root mean square.

    Tolerances at the underflow floor are exact for every purpose, and do not count as wide, but where the step itself
    is below it: one tensor of such numbers is as good as another.
    """
    deviation, value = expected.deviation, expected.value
    if deviation is None or expected.size == 0:
        return True
    squares, count = float(np.vdot(value, value)), value.size
    if not math.isfinite(squares):
        finite = value[np.isfinite(value)]
        squares, count = float(np.vdot(finite, finite)), finite.size
    if count == 0:
        return True
    model = expected.model
    typical, floor = math.sqrt(squares / count), model.precision.smallest
    widest = 0.1 * typical if 0 < typical < floor else max(0.1 * typical, 64 * floor)
    least = min(widest / (model.multiple * model.both_sides), float(np.finfo(deviation.dtype).max))
    wide = np.count_nonzero(deviation > least)
    return int(wide) * 2 <= expected.size
