"""Recurrent layers: a cell, defined for one time step, and scanned along time.

`hidden_before` and `cell_before` are what the time step before left. Gates stand side by side in the
kernels, in the order i, f, g, o.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.layer import Layer, Scan
from conformance.layers import arithmetic
from conformance.layers.activation import activate
from conformance.layers.lstm_walk import walked

if TYPE_CHECKING:
    from jaxtyping import Float

    from conformance.array import Array


def gate(
    letter: str,
    x: Array,
    hidden: Array,
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array | None,
    order: str,
    orientation: str,
    precision: str,
) -> Array:
    """The pre-activation of the gate `letter`, where the gates stand in `order` (`lstm.gate-order`)."""
    unit = recurrent_kernel.shape[-1] // 4
    index = order.split(",").index(letter)
    part = slice(index * unit, (index + 1) * unit)
    from_input, from_state = turned(kernel[:, part], recurrent_kernel[:, part], orientation)
    total = arithmetic.product(x, from_input, precision) + arithmetic.product(hidden, from_state, precision)
    return total if bias is None else total + bias[part]


def turned(kernel: Array, recurrent_kernel: Array, orientation: str) -> tuple[Array, Array]:
    """One gate's kernels, those that are square transposed where `orientation` is "out,in".

    Raises ValueError where none is square.
    """
    pair = kernel, recurrent_kernel
    if orientation == "in,out":
        return pair
    square = [k.shape[0] == k.shape[1] for k in pair]
    if not any(square):
        raise ValueError("kernels that are not square cannot be taken for their transposes")
    made = [np.swapaxes(k, 0, 1) if is_square else k for k, is_square in zip(pair, square, strict=True)]
    return made[0], made[1]


def gate_activation(name: str, choice: str) -> str:
    """The activation of the gates under `lstm.recurrent-activation`, where the config asks for `name`."""
    if choice == "<config>":
        return name
    return "hard_sigmoid_fifth" if choice == "hard_sigmoid" else choice


def _bias(bias: Array | None, choice: str) -> Array | None:
    return bias * 2.0 if bias is not None and choice == "doubled" else bias


def input_gate(
    x: Float[Array, "batch in"],
    hidden_before: Float[Array, "batch state"],
    kernel: Float[Array, "in gates"],
    recurrent_kernel: Float[Array, "state gates"],
    recurrent_activation: str,
    bias: Float[Array, " gates"] | None = None,
    *,
    lstm_bias: str = "sum",
    lstm_gate_order: str = "i,f,g,o",
    linear_kernel_orientation: str = "in,out",
    arithmetic_precision: str = arithmetic.CLAIMED,
    lstm_recurrent_activation: str = "<config>",
) -> Float[Array, "batch unit"]:
    inner = gate(
        "i",
        x,
        hidden_before,
        kernel,
        recurrent_kernel,
        _bias(bias, lstm_bias),
        lstm_gate_order,
        linear_kernel_orientation,
        arithmetic_precision,
    )
    return activate(gate_activation(recurrent_activation, lstm_recurrent_activation), inner)


def forget_gate(
    x: Float[Array, "batch in"],
    hidden_before: Float[Array, "batch state"],
    kernel: Float[Array, "in gates"],
    recurrent_kernel: Float[Array, "state gates"],
    recurrent_activation: str,
    bias: Float[Array, " gates"] | None = None,
    *,
    lstm_bias: str = "sum",
    lstm_gate_order: str = "i,f,g,o",
    linear_kernel_orientation: str = "in,out",
    arithmetic_precision: str = arithmetic.CLAIMED,
    lstm_forget_bias: str = "0",
    lstm_recurrent_activation: str = "<config>",
) -> Float[Array, "batch unit"]:
    inner = gate(
        "f",
        x,
        hidden_before,
        kernel,
        recurrent_kernel,
        _bias(bias, lstm_bias),
        lstm_gate_order,
        linear_kernel_orientation,
        arithmetic_precision,
    )
    if lstm_forget_bias != "0":
        inner = inner + float(lstm_forget_bias)
    return activate(gate_activation(recurrent_activation, lstm_recurrent_activation), inner)


def cell_candidate(
    x: Float[Array, "batch in"],
    hidden_before: Float[Array, "batch state"],
    kernel: Float[Array, "in gates"],
    recurrent_kernel: Float[Array, "state gates"],
    activation: str,
    bias: Float[Array, " gates"] | None = None,
    *,
    lstm_bias: str = "sum",
    lstm_gate_order: str = "i,f,g,o",
    linear_kernel_orientation: str = "in,out",
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "batch unit"]:
    inner = gate(
        "g",
        x,
        hidden_before,
        kernel,
        recurrent_kernel,
        _bias(bias, lstm_bias),
        lstm_gate_order,
        linear_kernel_orientation,
        arithmetic_precision,
    )
    return activate(activation, inner)


def output_gate(
    x: Float[Array, "batch in"],
    hidden_before: Float[Array, "batch state"],
    kernel: Float[Array, "in gates"],
    recurrent_kernel: Float[Array, "state gates"],
    recurrent_activation: str,
    bias: Float[Array, " gates"] | None = None,
    *,
    lstm_bias: str = "sum",
    lstm_gate_order: str = "i,f,g,o",
    linear_kernel_orientation: str = "in,out",
    arithmetic_precision: str = arithmetic.CLAIMED,
    lstm_recurrent_activation: str = "<config>",
) -> Float[Array, "batch unit"]:
    inner = gate(
        "o",
        x,
        hidden_before,
        kernel,
        recurrent_kernel,
        _bias(bias, lstm_bias),
        lstm_gate_order,
        linear_kernel_orientation,
        arithmetic_precision,
    )
    return activate(gate_activation(recurrent_activation, lstm_recurrent_activation), inner)


def cell(
    input_gate: Float[Array, "batch unit"],
    forget_gate: Float[Array, "batch unit"],
    cell_candidate: Float[Array, "batch unit"],
    cell_before: Float[Array, "batch unit"],
) -> Float[Array, "batch unit"]:
    return forget_gate * cell_before + input_gate * cell_candidate


def hidden(
    output_gate: Float[Array, "batch unit"], cell: Float[Array, "batch unit"], activation: str
) -> Float[Array, "batch unit"]:
    return output_gate * activate(activation, cell)


def output(
    hidden: Float[Array, "batch unit"], projection: Float[Array, "unit state"] | None = None
) -> Float[Array, "batch state"]:
    return hidden if projection is None else hidden @ projection


def at_rest(values: Mapping[str, Any]) -> dict[str, Any]:
    """The states before the first time step, where none are given: zeros."""
    batch, (state, gates) = values["x"].shape[0], values["recurrent_kernel"].shape
    return {"initial_hidden": np.zeros((batch, state)), "initial_cell": np.zeros((batch, gates // 4))}


lstm = Layer.define(
    "lstm",
    summary="A recurrent layer whose cell state is kept, forgotten and shown by gates.",
    formula="c = f * c_before + i * g;  h = o * tanh(c);  i, f, o = sigmoid(...), g = tanh(x W + h_before U + b)",
    source="Hochreiter and Schmidhuber (1997), with the forget gate of Gers, Schmidhuber, Cummins (2000); "
    "the projection: Sak, Senior, Beaufays (2014)",
    inputs={"x": "batch time in", "initial_hidden?": "batch state", "initial_cell?": "batch unit", "lengths?": "batch"},
    weights={
        "kernel": "in 4*unit",
        "recurrent_kernel": "state 4*unit",
        "bias?": "4*unit",
        "projection?": "unit state",
    },
    config={
        "layers": 1,
        "direction": "forward",
        "merge": "concat",
        "activation": "tanh",
        "recurrent_activation": "sigmoid",
    },
    steps={
        "input_gate": input_gate,
        "forget_gate": forget_gate,
        "cell_candidate": cell_candidate,
        "output_gate": output_gate,
        "cell": cell,
        "hidden": hidden,
        "output": output,
    },
    scan=Scan(
        over=("x",), carry={"hidden_before": ("output", "initial_hidden"), "cell_before": ("cell", "initial_cell")}
    ),
    initial=at_rest,
    walk=walked,
)

LAYERS = {"lstm": lstm}
