"""How much rounding there is in each tensor of a tape: measured, by a run of the same subject in float64.

A deviation is relative: the root mean square of a tensor's error over that of its values. An element's error is
taken to grow with the element, and with the row or column that it is in (a product's does), where those are larger
than the rest. A tensor of few elements says little of its own error and has at least the deviation of what it was
made of. Where no float64 run is to be had, the deviation is a
model: 2 u sqrt(n) for the n-th operation in a row, since independent roundings add up as a random walk does (Higham
and Mary, A new approach to probabilistic rounding error analysis, SIAM J. Sci. Comput. 41(5), 2019).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.model import MULTIPLE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.precision import Precision
    from conformance.trace import Entry

FILL = -1e8
"""Numbers up to this one stand for minus infinity: what a framework fills a masked score with."""
_UNKNOWN = 2.0
_FEW = 64
_AHEAD = 16  # how many operations of a float64 run may have no counterpart in a row (casts, constants)


@dataclass(frozen=True)
class Values:
    """A tensor, and figures of it that are the same in every view. `deviation` is relative to its values; NaN where
    it is not known."""

    array: NDArray[Any]
    deviation: float

    @cached_property
    def finite(self) -> NDArray[Any] | None:
        """Where the values are numbers and no fill, or None where all are."""
        if self.array.size == 0 or (
            math.isfinite(float(np.sum(self.array, dtype=np.float64))) and float(self.array.min()) > FILL
        ):
            return None
        with np.errstate(invalid="ignore"):
            kept: NDArray[Any] = np.isfinite(self.array) & (self.array > FILL)
        return kept

    @cached_property
    def _numbers(self) -> NDArray[Any]:
        kept = self.array if self.finite is None else self.array[self.finite]
        return np.asarray(kept, np.float64)

    @cached_property
    def total(self) -> float:
        """The sum of the finite values."""
        return float(self._numbers.sum())

    @cached_property
    def scale(self) -> float:
        """The root mean square of the finite values."""
        numbers = self._numbers.ravel()
        return math.sqrt(float(np.square(numbers).sum()) / numbers.size) if numbers.size else 0.0

    @cached_property
    def peak(self) -> float:
        """The largest magnitude of a finite value."""
        return float(np.abs(self._numbers).max()) if self._numbers.size else 0.0

    @cached_property
    def count(self) -> int:
        """How many values are finite."""
        return int(self._numbers.size)

    @cached_property
    def telling(self) -> bool:
        """Whether it has more than two values: a mask, a single number and zeros are equal by chance."""
        flat = self._numbers.ravel()
        if flat.size < 3:
            return False
        others = flat[flat != flat[0]]
        return bool(others.size) and bool((others != others[0]).any())

    def reach(self, arranged: NDArray[Any]) -> NDArray[Any]:
        """The magnitude by which the error of each element goes: `arranged` is the tensor in some view."""
        magnitude = np.abs(arranged, dtype=np.float64)
        if self.finite is not None:
            with np.errstate(invalid="ignore"):
                magnitude[~(np.isfinite(magnitude) & (arranged > FILL))] = 0
        squares = np.square(magnitude)
        reach: NDArray[Any] = np.maximum(magnitude, self.scale)
        for axis, size in enumerate(arranged.shape):
            if 1 < size < arranged.size:
                others = tuple(k for k in range(arranged.ndim) if k != axis)
                np.maximum(reach, np.sqrt(squares.mean(axis=others, keepdims=True)), out=reach)
        return reach

    def tolerance(self, other: Values) -> float:
        """How far a value of `other` may be from this one's, relative to its reach."""
        return float(joint(self.deviation, np.asarray(other.deviation)))


def joint(deviation: float, others: NDArray[Any]) -> NDArray[Any]:
    """The tolerance for a tensor with `deviation` beside tensors with the deviations `others`, all relative.

    One that is not known is taken to be up to twice the other: kernels differ in the order of their sums.
    """
    both: NDArray[Any] = np.hypot(
        np.where(np.isnan(deviation), _UNKNOWN * others, deviation),
        np.where(np.isnan(others), _UNKNOWN * deviation, others),
    )
    return MULTIPLE * both


def modelled(tape: Sequence[Entry], precision: Precision) -> list[Values]:
    """The tensors of `tape` with deviations from the model."""
    depths: list[int] = []
    for entry in tape:
        depths.append(1 + max((depths[p] for p in entry.reads), default=0))
    return [Values(e.array, 2 * precision.store * math.sqrt(d)) for e, d in zip(tape, depths, strict=True)]


def unmeasured(tape: Sequence[Entry]) -> list[Values]:
    """The tensors of `tape`, whose deviations are not known."""
    return [Values(entry.array, math.nan) for entry in tape]


def measured(tape: Sequence[Entry], reference: Sequence[Entry], precision: Precision) -> list[Values]:
    """The tensors of `tape` with their deviations from `reference`, the tape of a float64 run."""
    found: list[Values] = []
    partners = _partners(tape, reference)
    for position, entry in enumerate(tape):
        before = max((found[p].deviation for p in entry.reads), default=0.0)
        if entry.fixed:  # a weight is not rounded in a float64 run either
            deviation = 0.0
        elif position in partners:
            deviation = deviation_of(entry.array, partners[position].array)
            if entry.array.size < _FEW:
                deviation = max(deviation, before)
        else:
            deviation = before
        found.append(Values(entry.array, max(deviation, precision.store)))
    return found


def deviation_of(array: NDArray[Any], exact: NDArray[Any]) -> float:
    """The root mean square of the error of `array`, relative to that of `exact`; fills and what is infinite aside."""
    a, b = np.asarray(array, np.float64).ravel(), np.asarray(exact, np.float64).ravel()
    with np.errstate(invalid="ignore", over="ignore"):
        kept = np.isfinite(a) & np.isfinite(b) & (a > FILL) & (b > FILL)
    if not kept.all():
        a, b = a[kept], b[kept]
    # Sums of squares, not BLAS: its threads take longer to wake than the sum does.
    size, error = float(np.square(b).sum()), float(np.square(a - b).sum())
    return math.sqrt(error / size) if size > 0 else 0.0


def _partners(tape: Sequence[Entry], reference: Sequence[Entry]) -> dict[int, Entry]:
    """The tensors of a float64 run that are those of `tape`: the same operations in the same order."""
    found: dict[int, Entry] = {}
    after = 0
    for position, entry in enumerate(tape):
        for other in range(after, min(after + _AHEAD, len(reference))):
            candidate = reference[other]
            if candidate.operation == entry.operation and candidate.array.shape == entry.array.shape:
                found[position] = candidate
                after = other + 1
                break
    return found
