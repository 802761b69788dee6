"""Gated linear units: one half of an axis, times a function of the other half."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from conformance.elementwise import sigmoid, silu
from conformance.layer import Layer

if TYPE_CHECKING:
    from jaxtyping import Float

    from conformance.array import Array


def halves(x: Array, axis: int, order: str) -> tuple[Array, Array]:
    """The value and the gate, of any axes. Raises ValueError where `axis` has no two halves."""
    size = np.shape(x)[axis]
    if size % 2:
        raise ValueError(f"an axis of {size} has no two halves")
    first, second = (np.take(x, range(start, start + size // 2), axis=axis) for start in (0, size // 2))
    return (second, first) if order == "gate|value" else (first, second)


def glu_output(x: Float[Array, "*shape"], axis: int, *, glu_halves: str = "value|gate") -> Float[Array, "*half"]:
    value, gate = halves(x, axis, glu_halves)
    return value * sigmoid(gate)


def swiglu_output(x: Float[Array, "*shape"], axis: int, *, glu_halves: str = "value|gate") -> Float[Array, "*half"]:
    value, gate = halves(x, axis, glu_halves)
    return value * silu(gate)


glu = Layer.define(
    "glu",
    summary="The gated linear unit: one half of an axis, let through by the sigmoid of the other.",
    formula="value, gate = split(x); output = value sigmoid(gate)",
    source="Dauphin, Fan, Auli and Grangier, Language Modeling with Gated Convolutional Networks (2017), equation 1",
    inputs={"x": "*shape"},
    weights={},
    config={"axis": -1},
    steps={"output": glu_output},
)

swiglu = Layer.define(
    "swiglu",
    summary="The gated linear unit with SiLU for the sigmoid.",
    formula="value, gate = split(x); output = value silu(gate)",
    source="Shazeer, GLU Variants Improve Transformer (2020), equation 5",
    inputs={"x": "*shape"},
    weights={},
    config={"axis": -1},
    steps={"output": swiglu_output},
)

LAYERS = {"glu": glu, "swiglu": swiglu}
