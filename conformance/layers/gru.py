"""The gated recurrent unit: a cell, defined for one time step, and scanned along time.

`hidden_before` is what the time step before left. Gates stand side by side in the kernels, in the order r, z, n.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.errors import ConformanceError
from conformance.layer import Layer, Scan
from conformance.layers import arithmetic
from conformance.layers.activation import activate
from conformance.layers.recurrent import gate_activation, turned

if TYPE_CHECKING:
    from jaxtyping import Float

    from conformance.array import Array


def gate(
    letter: str,
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array | None,
    recurrent_bias: Array | None,
    order: str,
    orientation: str,
    doubled: str,
) -> tuple[Array, Array, Array | None, Array | None]:
    """What the weights hold for the gate `letter`, where the gates stand in `order` (`gru.gate-order`): both kernels,
    and both biases. Under `lstm.bias = doubled` each bias is the sum of the two."""
    unit = recurrent_kernel.shape[-1] // 3
    index = order.split(",").index(letter)
    part = slice(index * unit, (index + 1) * unit)
    both = [b[part] for b in (bias, recurrent_bias) if b is not None]
    if doubled == "doubled" and both:
        whole = both[0] + both[1] if len(both) == 2 else both[0]
        return *turned(kernel[:, part], recurrent_kernel[:, part], orientation), whole, whole
    return (
        *turned(kernel[:, part], recurrent_kernel[:, part], orientation),
        None if bias is None else bias[part],
        None if recurrent_bias is None else recurrent_bias[part],
    )


def _plus(total: Array, bias: Array | None) -> Array:
    return total if bias is None else total + bias


def _both(
    x: Array, hidden_before: Array, held: tuple[Array, Array, Array | None, Array | None], precision: str
) -> Array:
    """What goes into a gate from the input and from the state, under the weights `held` for it."""
    w, u, b, c = held
    return _plus(arithmetic.product(x, w, precision), b) + _plus(arithmetic.product(hidden_before, u, precision), c)


def reset_gate(
    x: Float[Array, "batch in"],
    hidden_before: Float[Array, "batch unit"],
    kernel: Float[Array, "in gates"],
    recurrent_kernel: Float[Array, "unit gates"],
    recurrent_activation: str,
    bias: Float[Array, " gates"] | None = None,
    recurrent_bias: Float[Array, " gates"] | None = None,
    *,
    lstm_bias: str = "sum",
    gru_gate_order: str = "r,z,n",
    linear_kernel_orientation: str = "in,out",
    arithmetic_precision: str = arithmetic.CLAIMED,
    lstm_recurrent_activation: str = "<config>",
) -> Float[Array, "batch unit"]:
    held = gate(
        "r", kernel, recurrent_kernel, bias, recurrent_bias, gru_gate_order, linear_kernel_orientation, lstm_bias
    )
    inner = _both(x, hidden_before, held, arithmetic_precision)
    return activate(gate_activation(recurrent_activation, lstm_recurrent_activation), inner)


def update_gate(
    x: Float[Array, "batch in"],
    hidden_before: Float[Array, "batch unit"],
    kernel: Float[Array, "in gates"],
    recurrent_kernel: Float[Array, "unit gates"],
    recurrent_activation: str,
    bias: Float[Array, " gates"] | None = None,
    recurrent_bias: Float[Array, " gates"] | None = None,
    *,
    lstm_bias: str = "sum",
    gru_gate_order: str = "r,z,n",
    linear_kernel_orientation: str = "in,out",
    arithmetic_precision: str = arithmetic.CLAIMED,
    lstm_recurrent_activation: str = "<config>",
) -> Float[Array, "batch unit"]:
    held = gate(
        "z", kernel, recurrent_kernel, bias, recurrent_bias, gru_gate_order, linear_kernel_orientation, lstm_bias
    )
    inner = _both(x, hidden_before, held, arithmetic_precision)
    return activate(gate_activation(recurrent_activation, lstm_recurrent_activation), inner)


def candidate(
    x: Float[Array, "batch in"],
    hidden_before: Float[Array, "batch unit"],
    reset_gate: Float[Array, "batch unit"],
    kernel: Float[Array, "in gates"],
    recurrent_kernel: Float[Array, "unit gates"],
    activation: str,
    reset: str,
    bias: Float[Array, " gates"] | None = None,
    recurrent_bias: Float[Array, " gates"] | None = None,
    *,
    lstm_bias: str = "sum",
    gru_gate_order: str = "r,z,n",
    gru_reset: str = "<config>",
    gru_candidate_bias: str = "recurrent-bias-inside-reset",
    linear_kernel_orientation: str = "in,out",
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "batch unit"]:
    w, u, b, c = gate(
        "n", kernel, recurrent_kernel, bias, recurrent_bias, gru_gate_order, linear_kernel_orientation, lstm_bias
    )
    from_input = _plus(arithmetic.product(x, w, arithmetic_precision), b)
    form = reset if gru_reset == "<config>" else gru_reset
    if form == "before":
        from_state = _plus(arithmetic.product(reset_gate * hidden_before, u, arithmetic_precision), c)
    elif form == "after":
        from_state = arithmetic.product(hidden_before, u, arithmetic_precision)
        if gru_candidate_bias == "merged-outside":
            from_state = _plus(reset_gate * from_state, c)
        else:
            from_state = reset_gate * _plus(from_state, c)
    else:
        raise ConformanceError(f"gru resets the state 'after' the product with its kernel or 'before' it, not {form!r}")
    return activate(activation, from_input + from_state)


def hidden(
    update_gate: Float[Array, "batch unit"],
    candidate: Float[Array, "batch unit"],
    hidden_before: Float[Array, "batch unit"],
    *,
    gru_update: str = "(1-z)*n + z*h",
) -> Float[Array, "batch unit"]:
    kept, new = hidden_before, candidate
    if gru_update != "(1-z)*n + z*h":
        kept, new = new, kept
    return (1.0 - update_gate) * new + update_gate * kept


def output(hidden: Float[Array, "batch unit"]) -> Float[Array, "batch unit"]:
    return hidden


def at_rest(values: Mapping[str, Any]) -> dict[str, Any]:
    """The state before the first time step, where none is given: zeros."""
    return {"initial_hidden": np.zeros((values["x"].shape[0], values["recurrent_kernel"].shape[0]))}


gru = Layer.define(
    "gru",
    summary="A recurrent layer whose state is forgotten and renewed by two gates.",
    formula="h = (1 - z) * n + z * h_before;  n = tanh(x W + b + r * (h_before U + c));  r, z = sigmoid(...)",
    source="Cho, van Merrienboer, Gulcehre, Bahdanau, Bougares, Schwenk, Bengio (2014), which resets before the "
    "product; after it: cuDNN's form, which has a bias of the state (torch.nn.GRU's documentation)",
    inputs={"x": "batch time in", "initial_hidden?": "batch unit", "lengths?": "batch"},
    weights={
        "kernel": "in 3*unit",
        "recurrent_kernel": "unit 3*unit",
        "bias?": "3*unit",
        "recurrent_bias?": "3*unit",
    },
    config={
        "layers": 1,
        "direction": "forward",
        "merge": "concat",
        "reset": "after",
        "activation": "tanh",
        "recurrent_activation": "sigmoid",
    },
    steps={
        "reset_gate": reset_gate,
        "update_gate": update_gate,
        "candidate": candidate,
        "hidden": hidden,
        "output": output,
    },
    scan=Scan(over=("x",), carry={"hidden_before": ("hidden", "initial_hidden")}),
    initial=at_rest,
)

LAYERS = {"gru": gru}
