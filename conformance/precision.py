"""The number formats in which frameworks compute, as unit roundoffs.

Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 2.1: rounding to nearest with p
significant bits has unit roundoff u = 2**-p.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.errors import ConformanceError
from conformance.layer import nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Precision:
    """A format: `store` is the unit roundoff of a stored value, `accumulate` that of arithmetic.

    The two differ for the narrow formats, which frameworks accumulate in float32. `smallest` is the
    smallest normal number (results below it may be flushed to zero), `spacing` the distance between
    subnormal numbers, `largest` the greatest finite one.
    """

    name: str
    store: float
    accumulate: float
    smallest: float
    spacing: float
    largest: float

    @property
    def narrow(self) -> bool:
        """Whether stored values are coarser than the arithmetic."""
        return self.store > self.accumulate

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype of stored values."""
        if self.name == "bfloat16":
            import ml_dtypes  # imported late: it doubles the start-up

            narrow: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
            return narrow
        return np.dtype(self.name)

    def round(self, values: NDArray[Any]) -> NDArray[Any]:
        """`values` rounded to this format, held in float64; integers and booleans are left as they are."""
        if values.dtype.kind in "biu":
            return values
        with np.errstate(over="ignore"):
            return values.astype(self.dtype).astype(np.float64)


PRECISIONS = {
    p.name: p
    for p in (
        Precision("float64", 2.0**-53, 2.0**-53, 2.0**-1022, 2.0**-1074, float(np.finfo(np.float64).max)),
        Precision("float32", 2.0**-24, 2.0**-24, 2.0**-126, 2.0**-149, float(np.finfo(np.float32).max)),
        Precision("bfloat16", 2.0**-8, 2.0**-24, 2.0**-126, 2.0**-133, 2.0**128 - 2.0**119),
        Precision("float16", 2.0**-11, 2.0**-24, 2.0**-14, 2.0**-24, 65504.0),
    )
}


def precision(name: str) -> Precision:
    """The format called `name`. Raises ConformanceError for an unknown one."""
    try:
        return PRECISIONS[name]
    except KeyError:
        raise ConformanceError(
            f"unknown dtype {name!r}{nearest(name, PRECISIONS)}; known are {', '.join(PRECISIONS)}"
        ) from None
