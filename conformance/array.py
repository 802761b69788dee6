"""The type of the oracle's arrays, for annotations.

An oracle function takes an ndarray or a rounding-aware array alike; a type checker is told ndarray, of
which the rounding-aware array supports the operations that have a rounding rule.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.floating[Any]]
Mask: TypeAlias = NDArray[Any]
Indices: TypeAlias = NDArray[np.integer[Any]]


def constant(values: NDArray[Any], like: Array, roundings: NDArray[Any] | float = 1.0) -> Array:
    """`values` that a framework computes for itself, as an array of the type of `like`.

    Beside a rounding-aware array they carry the rounding of a constant, one unit roundoff each; where more
    `roundings` lead to a value (a power repeats that of its base), the others are of the arithmetic alone.
    """
    model = getattr(like, "model", None)
    if model is None:
        return values
    u = max(model.precision.store, model.precision.accumulate)
    error = u + (roundings - 1) * model.precision.accumulate
    rounded: Any = type(like)
    made: Array = rounded(values, np.abs(values) * error, model)
    return made
