"""Linear: output = x @ kernel + bias."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from conformance.layer import Layer
from conformance.layers import arithmetic
from conformance.refit import linear_in

if TYPE_CHECKING:
    from jaxtyping import Float

    from conformance.array import Array


def oriented(kernel: Array, choice: str) -> Array:
    """A kernel `in out`, or its transpose where `choice` is "out,in".

    Raises ValueError where the transpose has other axes: such a mistake does not go unnoticed.
    """
    if choice == "in,out":
        return kernel
    if kernel.shape[0] != kernel.shape[1]:
        raise ValueError("a kernel that is not square cannot be taken for its transpose")
    return np.swapaxes(kernel, 0, 1)


@linear_in("kernel")
def product(
    x: Float[Array, "*batch in"],
    kernel: Float[Array, "in out"],
    *,
    linear_kernel_orientation: str = "in,out",
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "*batch out"]:
    return arithmetic.product(x, oriented(kernel, linear_kernel_orientation), arithmetic_precision)


@linear_in(vectors=("bias",))
def output(
    product: Float[Array, "*batch out"],
    bias: Float[Array, " out"] | None = None,
    *,
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "*batch out"]:
    return arithmetic.with_bias(product, bias, arithmetic_precision)


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
