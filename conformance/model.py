"""How rounding errors are counted: in quadrature, as frameworks make them, or added up, as a proof must.

Quadrature treats the errors of single operations as independent and of mean zero (Higham and Mary, A new
approach to probabilistic rounding error analysis, SIAM J. Sci. Comput. 41(5), 2019; and Sharper
probabilistic backward error analysis, 2020). A deviation is one standard deviation and a tolerance is
eight of them. The worst case adds magnitudes and needs no multiple (Higham, Accuracy and Stability of
Numerical Algorithms, 2nd ed., section 3.1); it decides only whether a ratio above one may be rounding
that structured data have lined up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.precision import Precision

MULTIPLE = 8


@dataclass(frozen=True)
class RoundingModel:
    """The errors that a framework computing in `precision` may make."""

    precision: Precision
    worst_case: bool = False

    @property
    def multiple(self) -> int:
        """How many deviations make a tolerance."""
        return 1 if self.worst_case else MULTIPLE

    @cached_property
    def both_sides(self) -> float:
        """The factor for the oracle's own rounding, which matters only where it works in the same format."""
        if self.precision.accumulate > 2.0**-53:
            return 1.0
        return 2.0 if self.worst_case else math.sqrt(2.0)

    @property
    def dtype(self) -> type[np.floating[Any]]:
        """How deviations are held: they need three digits, but a float64 subject needs float64's range."""
        return np.float64 if self.precision.name == "float64" else np.float32

    def join(self, terms: list[NDArray[Any]]) -> NDArray[Any]:
        """The deviation of a sum of independent errors with the deviations `terms`."""
        first, *others = terms
        total = np.array(first, np.float64) if self.worst_case else np.asarray(np.square(first, dtype=np.float64))
        for term in others:
            added = term if self.worst_case else np.square(term, dtype=np.float64)
            if term.size <= total.size:
                total += added  # in place: these arrays are as large as the step
            else:
                total = total + added
        if self.worst_case:
            return total
        np.sqrt(total, out=total)
        for term in terms if self.squares_vanish else ():
            np.maximum(total, term, out=total)
        return total

    @property
    def squares_vanish(self) -> bool:
        """Whether deviations may be so small (below 1e-154) that their squares are zero in float64."""
        return self.dtype is np.float64

    def stored(self, magnitude: NDArray[Any]) -> NDArray[Any]:
        """What rounding to the storage format adds to values of this magnitude."""
        p = self.precision
        return p.store * magnitude + p.spacing / 2

    def rounding(self, value: NDArray[Any], relative: float = 1.0, absolute: float = 0.0) -> NDArray[Any]:
        """The error of one operation with result `value`: `relative` and `absolute` in unit roundoffs.

        The floor is the smallest normal number: frameworks flush what is below it to zero.
        """
        p = self.precision
        error = np.asarray(np.abs(value))
        magnitude = error.copy() if p.narrow else error
        error *= relative * p.accumulate
        error += absolute * p.accumulate + p.smallest / self.multiple
        return error + self.stored(magnitude) if p.narrow else error

    def summation(
        self, n: int, total: NDArray[Any], squares: NDArray[Any], magnitudes: NDArray[Any] | None, products: bool
    ) -> NDArray[Any]:
        """The rounding error of a sum of `n` terms p.

        `total` is S, `squares` the sum of p squared, `magnitudes` the sum of |p| (the worst case needs
        it), `products` whether the terms themselves are rounded products. The variance is
        u**2 (sum p**2 + n (S**2 / 3 + sum p**2 / 2)), DESIGN section 5; the first term is the products'.
        """
        p = self.precision
        if self.worst_case:
            assert magnitudes is not None
            error = n * p.accumulate * magnitudes
        else:
            added = n if n > 1 else 0  # a single term is not added to anything
            error = np.asarray(np.square(total))
            error *= added / 3
            error += squares * (added / 2 + products)
            np.sqrt(error, out=error)
            if self.squares_vanish:
                np.maximum(error, np.abs(total) * math.sqrt(added / 3 or products), out=error)
            error *= p.accumulate
        error += p.smallest / self.multiple
        return error + self.stored(np.abs(total)) if p.narrow else error
