"""Weights that compute the same as others, for a framework whose layer cannot hold those.

A GRU has two biases, of the input and of the state. In a gate they are added up, and either may hold the sum; in the
candidate that of the state is multiplied by the reset gate, where that acts after the product, and stays its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STATE = "recurrent_bias"


def folded(layer: str, weights: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]] | None:
    """`weights` of which no gate of a GRU has a bias of the state; None where that changes nothing.

    The sums are rounded once, to the weights' own dtype.
    """
    names = [n for n in weights if layer == "gru" and n.endswith(_STATE) and np.any(weights[n][: _gates(weights[n])])]
    made = dict(weights)
    for name in names:
        own, bias = weights[name], f"{name.removesuffix(_STATE)}bias"
        gates = _gates(own)
        there = weights.get(bias, np.zeros_like(own)).astype(np.float64)
        there[:gates] += own[:gates]
        made[bias] = there.astype(own.dtype)
        made[name] = np.concatenate([np.zeros_like(own[:gates]), own[gates:]])
    return made if names else None


def _gates(bias: NDArray[Any]) -> int:
    """How many elements are those of the reset and the update gate."""
    return 2 * bias.size // 3
