"""Two affine maps with an activation between them, or a gated one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance.elementwise import silu
from conformance.layer import Layer
from conformance.layers import activation as activations
from conformance.layers import arithmetic
from conformance.layers.multi_head_attention import projected
from conformance.refit import linear_in

if TYPE_CHECKING:
    from jaxtyping import Float

    from conformance.array import Array


@linear_in("expand_kernel", vectors=("expand_bias",))
def expand(
    x: Float[Array, "*batch channel"],
    expand_kernel: Float[Array, "channel hidden"],
    expand_bias: Float[Array, " hidden"] | None = None,
    *,
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "*batch hidden"]:
    return projected(x, expand_kernel, expand_bias, "in,out", arithmetic_precision)


@linear_in("gate_kernel", vectors=("gate_bias",))
def gate(
    x: Float[Array, "*batch channel"],
    gate_kernel: Float[Array, "channel hidden"],
    gate_bias: Float[Array, " hidden"] | None = None,
    *,
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "*batch hidden"]:
    return projected(x, gate_kernel, gate_bias, "in,out", arithmetic_precision)


def activated(
    expand: Float[Array, "*batch hidden"],
    activation: str,
    gate: Float[Array, "*batch hidden"] | None = None,
    gate_kernel: Float[Array, "channel hidden"] | None = None,
    *,
    gelu_approximation: str = "none",
) -> Float[Array, "*batch hidden"]:
    if gate_kernel is None or gate is None:
        return _activation(activation, expand, gelu_approximation)
    return _activation(activation, gate, gelu_approximation) * expand


def _activation(name: str, x: Array, gelu_approximation: str) -> Array:
    if name == "gelu":
        return activations.gelu_output(x, "none", gelu_approximation=gelu_approximation)
    if name == "silu":
        made: Array = silu(x)
        return made
    return activations.activate(name, x)


@linear_in("output_kernel", vectors=("output_bias",))
def output(
    activated: Float[Array, "*batch hidden"],
    output_kernel: Float[Array, "hidden out"],
    output_bias: Float[Array, " out"] | None = None,
    *,
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "*batch out"]:
    return projected(activated, output_kernel, output_bias, "in,out", arithmetic_precision)


feed_forward = Layer.define(
    "feed_forward",
    summary="An affine map to a wider axis, an activation, and an affine map back; with a gate, a product of two.",
    formula="output = f(x @ expand_kernel) @ output_kernel; gated: (f(x @ gate_kernel) * (x @ expand_kernel)) @ ...",
    source="Vaswani et al. (2017), section 3.3; gated: Shazeer, GLU Variants Improve Transformer (2020), equation 6",
    inputs={"x": "*batch channel"},
    weights={
        "expand_kernel": "channel hidden",
        "expand_bias?": "hidden",
        "gate_kernel?": "channel hidden",
        "gate_bias?": "hidden",
        "output_kernel": "hidden out",
        "output_bias?": "out",
    },
    config={"activation": "relu"},
    steps={"expand": expand, "gate": (gate, "gate_kernel"), "activated": activated, "output": output},
)

LAYERS = {"feed_forward": feed_forward}
