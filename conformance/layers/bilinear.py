"""Bilinear: output = first @ kernel @ second + bias, for each output by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from conformance.layer import Layer
from conformance.layers import arithmetic
from conformance.refit import linear_in

if TYPE_CHECKING:
    from jaxtyping import Float

    from conformance.array import Array


def laid_out(kernel: Array, choice: str) -> Array:
    """A kernel `first second out`, as whoever takes it for another layout reads it.

    "out,first,second" takes the buffer for that; with ":stored", a buffer of it is taken for the canonical.
    """
    if choice == "out,first,second":
        return np.moveaxis(np.reshape(kernel, (kernel.shape[2], *kernel.shape[:2])), 0, -1)
    if choice == "out,first,second:stored":
        return np.reshape(np.moveaxis(kernel, -1, 0), kernel.shape)
    return kernel


@linear_in("kernel")
def product(
    first: Float[Array, "*batch first"],
    second: Float[Array, "*batch second"],
    kernel: Float[Array, "first second out"],
    *,
    bilinear_operands: str = "first,second",
    bilinear_kernel_layout: str = "first,second,out",
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "*batch out"]:
    """As one product: the pairs of what goes in, and a kernel with a row for each."""
    kernel = laid_out(kernel, bilinear_kernel_layout)
    if bilinear_operands != "first,second":
        first, second = second, first
    pairs = first[..., :, None] * second[..., None, :]
    rows = kernel.shape[0] * kernel.shape[1]
    flat = np.reshape(pairs, (*first.shape[:-1], rows))
    return arithmetic.product(flat, np.reshape(kernel, (rows, kernel.shape[2])), arithmetic_precision)


@linear_in(vectors=("bias",))
def output(
    product: Float[Array, "*batch out"],
    bias: Float[Array, " out"] | None = None,
    *,
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "*batch out"]:
    return arithmetic.with_bias(product, bias, arithmetic_precision)


bilinear = Layer.define(
    "bilinear",
    summary="A map of two inputs that is linear in each.",
    formula="output[o] = sum over i and j of first[i] kernel[i, j, o] second[j] + bias[o]",
    source="Tenenbaum and Freeman, Separating Style and Content with Bilinear Models (2000), equation 1",
    inputs={"first": "*batch first", "second": "*batch second"},
    weights={"kernel": "first second out", "bias?": "out"},
    config={},
    steps={"product": product, "output": output},
)

LAYERS = {"bilinear": bilinear}
