"""The simple recurrent layer: a cell, defined for one time step, and scanned along time.

`hidden_before` is what the time step before left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance.layer import Layer, Scan
from conformance.layers import arithmetic
from conformance.layers.activation import activate
from conformance.layers.gru import at_rest, output
from conformance.layers.recurrent import turned

if TYPE_CHECKING:
    from jaxtyping import Float

    from conformance.array import Array


def hidden(
    x: Float[Array, "batch in"],
    hidden_before: Float[Array, "batch unit"],
    kernel: Float[Array, "in unit"],
    recurrent_kernel: Float[Array, "unit unit"],
    activation: str,
    bias: Float[Array, " unit"] | None = None,
    *,
    lstm_bias: str = "sum",
    linear_kernel_orientation: str = "in,out",
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "batch unit"]:
    w, u = turned(kernel, recurrent_kernel, linear_kernel_orientation)
    total = arithmetic.product(x, w, arithmetic_precision) + arithmetic.product(hidden_before, u, arithmetic_precision)
    if bias is not None:
        total = total + (bias * 2.0 if lstm_bias == "doubled" else bias)
    return activate(activation, total)


simple_rnn = Layer.define(
    "simple_rnn",
    summary="A recurrent layer without gates: its state is an activation of the input and the state before.",
    formula="h = tanh(x W + h_before U + b)",
    source="Elman, Finding structure in time (1990)",
    inputs={"x": "batch time in", "initial_hidden?": "batch unit", "lengths?": "batch"},
    weights={"kernel": "in unit", "recurrent_kernel": "unit unit", "bias?": "unit"},
    config={"layers": 1, "direction": "forward", "merge": "concat", "activation": "tanh"},
    steps={"hidden": hidden, "output": output},
    scan=Scan(over=("x",), carry={"hidden_before": ("hidden", "initial_hidden")}),
    initial=at_rest,
)

LAYERS = {"simple_rnn": simple_rnn}
