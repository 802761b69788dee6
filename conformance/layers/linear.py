"""Linear: output = x @ kernel + bias."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance.layer import Layer

if TYPE_CHECKING:
    from jaxtyping import Float

    from conformance.array import Array


def product(x: Float[Array, "*batch in"], kernel: Float[Array, "in out"]) -> Float[Array, "*batch out"]:
    return x @ kernel


def output(product: Float[Array, "*batch out"], bias: Float[Array, " out"] | None = None) -> Float[Array, "*batch out"]:
    return product if bias is None else product + bias


linear = Layer.define(
    "linear",
    summary="An affine map of the last axis.",
    formula="output = x @ kernel + bias",
    source="Goodfellow, Bengio, Courville, Deep Learning (2016), section 6.1",
    inputs={"x": "*batch in"},
    weights={"kernel": "in out", "bias?": "out"},
    config={},
    steps={"product": product, "output": output},
)

LAYERS = {"linear": linear}
