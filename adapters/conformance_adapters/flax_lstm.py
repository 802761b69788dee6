"""Flax's LSTM cells, each scanned by Flax's own RNN, as subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformance.layout import Parameter
from conformance_adapters.jax_subject import LinenSubject, NnxSubject

if TYPE_CHECKING:
    import jax
    from numpy.typing import NDArray

    from conformance.trace import Request

# Canonical names, and what jax.nn calls them.
ACTIVATIONS = {
    **{name: name for name in ("tanh", "sigmoid", "relu", "hard_sigmoid", "elu", "silu", "softplus")},
    "softsign": "soft_sign",
}
_GATES = {"gate": (0, 1, 2, 3)}  # i, f, g, o, as in CANON


def _per_gate(forget: str) -> list[Parameter]:
    """One parameter per gate; `forget` is the letter of the forget gate's input kernel."""
    inputs = " ".join(f"cell.i{gate}.kernel" for gate in ("i", forget, "g", "o"))
    recurrent, bias = (" ".join(f"cell.h{gate}.{kind}" for gate in "ifgo") for kind in ("kernel", "bias"))
    return [
        Parameter(inputs, "kernel", "channel (gate unit) -> gate channel unit", order=_GATES),
        Parameter(recurrent, "recurrent_kernel", "state (gate unit) -> gate state unit", order=_GATES),
        Parameter(bias, "bias", "(gate unit) -> gate unit", order=_GATES),
    ]


class _Lstm:
    """What the cells have in common. They always have a bias."""

    layer: ClassVar[str] = "lstm"
    request: Request
    dtype: Any
    inputs: Mapping[str, Any]

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """One direction, full length, no projection."""
        config = request.config
        if config["direction"] not in ("forward", "reverse"):
            return f"it runs forward or in reverse, not {config['direction']}"
        for option in ("activation", "recurrent_activation"):
            if config[option] not in ACTIVATIONS:
                return f"jax.nn has no {config[option]}"
        if request.inputs.get("lengths") is not None:
            return "its outputs after a sequence's end are not the canonical zeros"
        return "it has no projection" if "projection" in request.weights else None

    def neutral(self) -> Mapping[str, NDArray[Any]]:
        """Zeros for no bias."""
        return {"bias": np.zeros(self.request.weights["kernel"].shape[1])}

    def options(self) -> dict[str, Any]:
        """The cell's arguments; an activation that is Flax's default is left out."""
        import jax

        named: dict[str, Any] = {"param_dtype": self.dtype}
        if self.request.config["activation"] != "tanh":
            named["activation_fn"] = getattr(jax.nn, ACTIVATIONS[self.request.config["activation"]])
        if self.request.config["recurrent_activation"] != "sigmoid":
            named["gate_fn"] = getattr(jax.nn, ACTIVATIONS[self.request.config["recurrent_activation"]])
        return named

    @property
    def unit(self) -> int:
        """The width of the hidden state."""
        return int(self.request.weights["recurrent_kernel"].shape[0])

    def arguments(self) -> tuple[Sequence[Any], dict[str, Any]]:
        """The input, how to walk through it, and the initial state (cell, hidden) where one is given."""
        import jax.numpy as jnp

        x = self.inputs["x"]
        reverse = self.request.config["direction"] == "reverse"
        named: dict[str, Any] = {"reverse": reverse, "keep_order": True, "time_major": False, "return_carry": False}
        if "initial_hidden" in self.inputs or "initial_cell" in self.inputs:
            zero = jnp.zeros((x.shape[0], self.unit), self.dtype)
            named["initial_carry"] = tuple(self.inputs.get(n, zero) for n in ("initial_cell", "initial_hidden"))
        return (x,), named


class NnxOptimizedLstm(_Lstm, NnxSubject):
    """flax.nnx.RNN over OptimizedLSTMCell, whose gates stand side by side."""

    name: ClassVar[str] = "flax.nnx.RNN(OptimizedLSTMCell)"
    cell: ClassVar[str] = "OptimizedLSTMCell"

    def make(self) -> Any:
        """The scanned cell."""
        from flax import nnx

        into, rngs = self.request.weights["kernel"].shape[0], nnx.Rngs(0)
        # The orthogonal initialiser that is the default fails in float16 and bfloat16 (no LAPACK for them).
        zeros = nnx.initializers.zeros_init()
        cell = getattr(nnx, self.cell)(into, self.unit, recurrent_kernel_init=zeros, rngs=rngs, **self.options())
        return nnx.RNN(cell, rngs=rngs)

    def layouts(self) -> Sequence[Parameter]:
        """As they are."""
        return [
            Parameter("cell.dense_i.kernel", "kernel", "channel gates -> channel gates"),
            Parameter("cell.dense_h.kernel", "recurrent_kernel", "state gates -> state gates"),
            Parameter("cell.dense_h.bias", "bias", "gates -> gates"),
        ]

    def apply(self, module: Any) -> jax.Array:
        """The hidden states in input order."""
        from flax import nnx

        positional, named = self.arguments()
        if module.rngs is None:  # it wants random numbers, of which it makes zeros
            named["rngs"] = nnx.Rngs(0)
        return module(*positional, **named)


class NnxLstm(NnxOptimizedLstm):
    """flax.nnx.RNN over LSTMCell, which has parameters of its own for each gate."""

    name: ClassVar[str] = "flax.nnx.RNN(LSTMCell)"
    cell: ClassVar[str] = "LSTMCell"

    def layouts(self) -> Sequence[Parameter]:
        """One parameter per gate; `if` is a word of Python."""
        return _per_gate("f_")


class LinenOptimizedLstm(_Lstm, LinenSubject):
    """flax.linen.RNN over OptimizedLSTMCell: one product, but parameters of its own for each gate."""

    name: ClassVar[str] = "flax.linen.RNN(OptimizedLSTMCell)"
    cell: ClassVar[str] = "OptimizedLSTMCell"

    def make(self) -> Any:
        """The scanned cell."""
        from flax import linen

        return linen.RNN(getattr(linen, self.cell)(self.unit, **self.options()))

    def layouts(self) -> Sequence[Parameter]:
        """One parameter per gate."""
        return _per_gate("f")


class LinenLstm(LinenOptimizedLstm):
    """flax.linen.RNN over LSTMCell."""

    name: ClassVar[str] = "flax.linen.RNN(LSTMCell)"
    cell: ClassVar[str] = "LSTMCell"


SUBJECTS = (NnxOptimizedLstm, NnxLstm, LinenOptimizedLstm, LinenLstm)
