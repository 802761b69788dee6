"""Products of squares, of which variances are made: of many, in float32."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Product = Callable[[Any, Any], "NDArray[Any]"]


def scaled(x: NDArray[Any], factor: float) -> NDArray[Any]:
    """`x` times `factor`, in float64."""
    return x if factor == 1 else np.multiply(x, factor, dtype=np.float64)


MANY = 2**22  # products, from which on sums of their squares are taken in float32: deviations need three digits
_LEAST = 2.0**-75  # of what the largest terms would give: a thousandth of a millionth of it is lost at most
_USUAL = 2.0**-60, 2.0**60  # where the largest of the values is, for squares in float32


class Squared:
    """The squares of `parts`, added up: in float64, or in float32 by a power of two that makes the largest about 1."""

    def __init__(self, parts: list[NDArray[Any]]) -> None:
        self.parts = parts

    @cached_property
    def wide(self) -> NDArray[Any]:
        """The squares in float64."""
        first, *others = (np.square(x, dtype=np.float64) for x in self.parts)
        return np.asarray(sum(others, first))

    @cached_property
    def narrow(self) -> tuple[NDArray[Any], float] | None:
        """The squares and what they are multiples of, or None where float32 has not the range."""
        largest = max(max(float(x.max(initial=0)), -float(x.min(initial=0))) for x in self.parts)
        if not _USUAL[0] <= largest <= _USUAL[1]:
            return None
        scale = math.ldexp(1.0, math.frexp(largest)[1])
        total: NDArray[Any] | None = None
        for x in self.parts:
            part = np.multiply(x, 1 / scale, dtype=np.float32, casting="same_kind")
            np.square(part, out=part)
            total = part if total is None else total + part
        assert total is not None
        return total, scale**2


def of_squares(product: Product, a: Squared, b: Squared, narrow: bool) -> tuple[NDArray[Any], float]:
    """`product` of squares and what it is a multiple of: in float32, where that is asked for and none of the sums is so
    small that terms of it may have vanished."""
    if narrow and a.narrow is not None and b.narrow is not None:
        sums = product(a.narrow[0], b.narrow[0])
        if sums.size and sums.min() >= _LEAST:
            return sums, a.narrow[1] * b.narrow[1]
    return np.asarray(product(a.wide, b.wide)), 1.0
