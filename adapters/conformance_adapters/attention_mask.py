"""What a request for attention asks for, in the forms that frameworks take: masks above all. Framework-free.

A mask is bool (true attends) or float (added to the scores). Its axes are `batch key` where the shape
fits, else `query key`, `batch query key` or `batch head query key`, each axis of size 1 or its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def lacking(config: Mapping[str, Any], *options: str) -> str | None:
    """The reason to refuse: the first of `options`, which an operator does not have, that the config asks for."""
    return next((f"it has no {o}" for o in options if config.get(o) not in (None, False)), None)


def is_padding(mask: NDArray[Any], batch: int, key: int) -> bool:
    """Whether the mask is one of `batch key`."""
    return mask.shape == (batch, key)


def four_axes(mask: NDArray[Any], batch: int, key: int) -> NDArray[Any]:
    """The mask as `batch head query key`, with axes of size 1 where it does not vary."""
    if is_padding(mask, batch, key):
        return mask[:, None, None, :]
    if mask.ndim == 3:
        return mask[:, None]
    return mask.reshape((1,) * (4 - mask.ndim) + mask.shape)


def causal_mask(alignment: str, query: int, key: int) -> NDArray[np.bool_]:
    """`query key`, true where attended: "top-left" lets query i see keys up to i, "bottom-right" lets the
    last query see every key."""
    return np.tri(query, key, 0 if alignment == "top-left" else key - query, dtype=bool)


def joined(mask: NDArray[Any] | None, allowed: NDArray[np.bool_] | None) -> NDArray[Any] | None:
    """One mask for both: what `allowed` forbids is forbidden, whatever `mask` says."""
    if mask is None or allowed is None:
        return allowed if mask is None else mask
    if mask.dtype == bool:
        return mask & allowed
    return np.where(allowed, mask, -np.inf)


def additive(mask: NDArray[Any]) -> NDArray[np.float64]:
    """The mask as what is added to the scores: 0 where attended, minus infinity where not."""
    return np.where(mask, 0.0, -np.inf) if mask.dtype == bool else mask.astype(np.float64)
