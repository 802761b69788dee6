"""Softmax: exp(x) / sum(exp(x)), computed from x - max(x). A row of minus infinities gives NaN."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from conformance.layer import Layer

if TYPE_CHECKING:
    from jaxtyping import Float

    from conformance.array import Array


def shifted(x: Float[Array, "*shape"], axis: int) -> Float[Array, "*shape"]:
    return x - np.max(x, axis=axis, keepdims=True)


def exponentials(shifted: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return np.exp(shifted)


def total(exponentials: Float[Array, "*shape"], axis: int) -> Float[Array, "*reduced"]:
    return np.sum(exponentials, axis=axis, keepdims=True)


def output(exponentials: Float[Array, "*shape"], total: Float[Array, "*reduced"]) -> Float[Array, "*shape"]:
    return exponentials / total


def normalised(x: Array, axis: int) -> Array:
    """The softmax of `x` along `axis`, for layers in which it is one step."""
    powers = exponentials(shifted(x, axis))
    result = output(powers, total(powers, axis))
    return result if isinstance(x, np.ndarray) else x.softmax_at_worst(result, axis)


softmax = Layer.define(
    "softmax",
    summary="Exponentials that sum to one along an axis.",
    formula="output = exp(x - max x) / sum exp(x - max x)",
    source="Bridle (1990); the shift by the maximum: Blanchard, Higham and Higham, IMA J. Numer. Anal. 41(4), 2021",
    inputs={"x": "*shape"},
    weights={},
    config={"axis": -1},
    steps={"shifted": shifted, "exponentials": exponentials, "total": total, "output": output},
)


def log_output(shifted: Float[Array, "*shape"], total: Float[Array, "*reduced"]) -> Float[Array, "*shape"]:
    return shifted - np.log(total)


log_softmax = Layer.define(
    "log_softmax",
    summary="The logarithm of the softmax, which does not overflow.",
    formula="output = x - max x - log(sum exp(x - max x))",
    source="Blanchard, Higham and Higham, IMA J. Numer. Anal. 41(4), 2021",
    inputs={"x": "*shape"},
    weights={},
    config={"axis": -1},
    steps={"shifted": shifted, "exponentials": exponentials, "total": total, "output": log_output},
)

LAYERS = {"softmax": softmax, "log_softmax": log_softmax}
