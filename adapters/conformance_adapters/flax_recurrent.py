"""Flax's cells, each scanned by Flax's own RNN: what they have in common, and those of one state as subjects."""

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
_DEFAULTS = {"activation": ("activation_fn", "tanh"), "recurrent_activation": ("gate_fn", "sigmoid")}
_STATES = ("initial_cell", "initial_hidden")  # the order in which Flax carries them


class Recurrent:
    """What the cells have in common. They always have a bias."""

    states: ClassVar[tuple[str, ...]] = ("initial_hidden",)
    request: Request
    dtype: Any
    inputs: Mapping[str, Any]

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """One layer, one direction, no projection."""
        config = request.config
        if config.get("layers", 1) != 1:
            return f"it is one layer, not {config['layers']}"
        if config["direction"] not in ("forward", "reverse"):
            return f"it runs forward or in reverse, not {config['direction']}"
        for option in _DEFAULTS:
            if option in config and config[option] not in ACTIVATIONS:
                return f"jax.nn has no {config[option]}"
        return "it has no projection" if "projection" in request.weights else None

    def neutral(self) -> Mapping[str, NDArray[Any]]:
        """Zeros for no bias."""
        return {"bias": np.zeros(self.request.weights["kernel"].shape[1])}

    def options(self) -> dict[str, Any]:
        """The cell's arguments; an activation that is Flax's default is left out."""
        import jax

        named: dict[str, Any] = {"param_dtype": self.dtype}
        for option, (argument, default) in _DEFAULTS.items():
            wanted = self.request.config.get(option, default)
            if wanted != default:
                named[argument] = getattr(jax.nn, ACTIVATIONS[wanted])
        return named

    @property
    def unit(self) -> int:
        """The width of the hidden state."""
        return int(self.request.weights["recurrent_kernel"].shape[0])

    def arguments(self) -> tuple[Sequence[Any], dict[str, Any]]:
        """The input, how to walk through it, and the initial state where one is given: (cell, hidden), or the one."""
        import jax.numpy as jnp

        x = self.inputs["x"]
        reverse = self.request.config["direction"] == "reverse"
        named: dict[str, Any] = {"reverse": reverse, "keep_order": True, "time_major": False, "return_carry": False}
        if "lengths" in self.inputs:
            named["seq_lengths"] = self.inputs["lengths"]
        if any(n in self.inputs for n in self.states):
            zero = jnp.zeros((x.shape[0], self.unit), self.dtype)
            carry = tuple(self.inputs.get(n, zero) for n in _STATES if n in self.states)
            named["initial_carry"] = carry if len(carry) > 1 else carry[0]
        return (x,), named

    def ended(self, output: jax.Array) -> jax.Array:
        """`output`, zero after each sequence's end: Flax goes on there, and what it gives is nobody's."""
        import jax.numpy as jnp

        if "lengths" not in self.inputs:
            return output
        there = jnp.arange(output.shape[1]) < self.inputs["lengths"][:, None]
        return jnp.where(there[..., None], output, 0)


class NnxRecurrent(Recurrent, NnxSubject):
    """flax.nnx.RNN over `cell`."""

    cell: ClassVar[str]

    def make(self) -> Any:
        """The scanned cell."""
        from flax import nnx

        into, rngs = self.request.weights["kernel"].shape[0], nnx.Rngs(0)
        # The orthogonal initialiser that is the default fails in float16 and bfloat16 (no LAPACK for them).
        zeros = nnx.initializers.zeros_init()
        cell = getattr(nnx, self.cell)(into, self.unit, recurrent_kernel_init=zeros, rngs=rngs, **self.options())
        return nnx.RNN(cell, rngs=rngs)

    def apply(self, module: Any) -> jax.Array:
        """The hidden states in input order."""
        from flax import nnx

        positional, named = self.arguments()
        if module.rngs is None:  # it wants random numbers, of which it makes zeros
            named["rngs"] = nnx.Rngs(0)
        return self.ended(module(*positional, **named))


class LinenRecurrent(Recurrent, LinenSubject):
    """flax.linen.RNN over `cell`."""

    cell: ClassVar[str]

    def make(self) -> Any:
        """The scanned cell."""
        from flax import linen

        return linen.RNN(getattr(linen, self.cell)(self.unit, **self.options()))

    def forward(self) -> jax.Array:
        """The hidden states in input order."""
        return self.ended(super().forward())


_SIDE_BY_SIDE = (
    Parameter("cell.dense_i.kernel", "kernel", "channel gates -> channel gates"),
    Parameter("cell.dense_h.kernel", "recurrent_kernel", "state gates -> state gates"),
    Parameter("cell.dense_i.bias", "bias", "gates -> gates"),
)


class NnxGru(NnxRecurrent):
    """flax.nnx.RNN over GRUCell, which has no bias of the state, though its documentation's formula has one."""

    name: ClassVar[str] = "flax.nnx.RNN(GRUCell)"
    layer: ClassVar[str] = "gru"
    cell: ClassVar[str] = "GRUCell"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """It resets after the product."""
        if request.config["reset"] != "after":
            return f"it resets after the product, not {request.config['reset']}"
        return "it has no recurrent_bias" if "recurrent_bias" in request.weights else super().refuses(request)

    def layouts(self) -> Sequence[Parameter]:
        """As they are."""
        return _SIDE_BY_SIDE


class LinenGru(LinenRecurrent):
    """flax.linen.RNN over GRUCell, which has a bias of the state in the candidate alone."""

    name: ClassVar[str] = "flax.linen.RNN(GRUCell)"
    layer: ClassVar[str] = "gru"
    cell: ClassVar[str] = "GRUCell"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """It resets after the product."""
        if request.config["reset"] != "after":
            return f"it resets after the product, not {request.config['reset']}"
        given = request.weights.get("recurrent_bias")
        if given is not None and np.any(given[: -given.size // 3]):
            return "it has a recurrent_bias in the candidate only (a gate's two biases add up to one)"
        return super().refuses(request)

    def layouts(self) -> Sequence[Parameter]:
        """One parameter per gate."""
        inputs, bias, recurrent = (
            " ".join(f"cell.{side}{gate}.{kind}" for gate in "rzn")
            for side, kind in (("i", "kernel"), ("i", "bias"), ("h", "kernel"))
        )
        order = {"gate": (0, 1, 2)}
        return [
            Parameter(inputs, "kernel", "channel (gate unit) -> gate channel unit", order=order),
            Parameter(recurrent, "recurrent_kernel", "state (gate unit) -> gate state unit", order=order),
            Parameter(bias, "bias", "(gate unit) -> gate unit", order=order),
            Parameter("cell.hn.bias", "candidate_bias", "unit -> unit"),
        ]

    def neutral(self) -> Mapping[str, NDArray[Any]]:
        """Zeros for no bias; the candidate's part of the state's."""
        zeros = np.zeros(3 * self.unit)
        return {"bias": zeros, "candidate_bias": self.request.weights.get("recurrent_bias", zeros)[2 * self.unit :]}

    def all_weights(self) -> dict[str, NDArray[Any]]:
        """The state's bias is that of the candidate, and zero for the gates."""
        held = super().all_weights()
        for name in [n for n in held if n.endswith("candidate_bias")]:
            candidate = held.pop(name)
            held[name.replace("candidate", "recurrent")] = np.pad(candidate, (2 * candidate.size, 0))
        return held


class NnxSimple(NnxRecurrent):
    """flax.nnx.RNN over SimpleCell."""

    name: ClassVar[str] = "flax.nnx.RNN(SimpleCell)"
    layer: ClassVar[str] = "simple_rnn"
    cell: ClassVar[str] = "SimpleCell"

    def layouts(self) -> Sequence[Parameter]:
        """As they are."""
        return _SIDE_BY_SIDE

    def options(self) -> dict[str, Any]:
        """It computes in float32 where it is not told otherwise, whatever the dtype of its parameters."""
        return {**super().options(), "dtype": self.dtype}


class LinenSimple(LinenRecurrent):
    """flax.linen.RNN over SimpleCell."""

    name: ClassVar[str] = "flax.linen.RNN(SimpleCell)"
    layer: ClassVar[str] = "simple_rnn"
    cell: ClassVar[str] = "SimpleCell"

    def layouts(self) -> Sequence[Parameter]:
        """As they are."""
        return [
            Parameter("cell.i.kernel", "kernel", "channel unit -> channel unit"),
            Parameter("cell.h.kernel", "recurrent_kernel", "state unit -> state unit"),
            Parameter("cell.i.bias", "bias", "unit -> unit"),
        ]


SUBJECTS: tuple[type[Recurrent], ...] = (NnxGru, LinenGru, NnxSimple, LinenSimple)
