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
