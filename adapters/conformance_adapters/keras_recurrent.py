"""Keras's recurrent layers as subjects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformance.layer import REVERSE
from conformance.layout import Parameter
from conformance_adapters.keras_subject import KerasSubject, seen_as

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.trace import Request


class Recurrent(KerasSubject):
    """What the layers have in common."""

    cell: ClassVar[str]
    states: ClassVar[tuple[str, ...]] = ("initial_hidden",)

    def __init__(self, request: Request) -> None:
        from keras import layers

        super().__init__(request)
        weights = request.weights
        self.instance = self.made(
            getattr(layers, self.cell)(
                weights["recurrent_kernel"].shape[0],
                use_bias=any(n.endswith("bias") for n in weights),
                recurrent_initializer="zeros",  # overwritten; the default's QR factorisation has no narrow formats
                return_sequences=True,
                zero_output_for_mask=True,
                go_backwards=request.config["direction"] == "reverse",
                dtype=request.dtype,
                name="cells",
                **self.arguments(),
            )
        )
        self.instance.build(request.inputs["x"].shape)
        self.load(self.instance, {**self.neutral(), **weights})

    def made(self, layer: Any) -> Any:
        """The layer that is called, around the recurrent one."""
        return layer

    def arguments(self) -> dict[str, Any]:
        """Further arguments of the layer."""
        return {n: self.request.config[n] for n in ("activation", "recurrent_activation") if n in self.request.config}

    def neutral(self) -> Mapping[str, NDArray[Any]]:
        """The canonical weights that the layer has though the request may not, at the value that changes nothing."""
        return {}

    def weights(self) -> dict[str, NDArray[Any]]:
        """The canonical weights, read back out of the layer."""
        return self.read(self.instance)

    def prepare(self) -> None:
        """A mask of time steps for lengths; zeros for those first states that are not given, where others are."""
        self.mask_times()
        lacking = [n for n in self.states if n not in self.given]
        if len(lacking) < len(self.states):
            self.given |= {name: self.at_rest(self.units) for name in lacking}

    def mask_times(self) -> None:
        """Give a mask of time steps, where there are lengths."""
        from keras import ops

        if "lengths" in self.given and "mask" not in self.given:
            times = ops.arange(self.request.inputs["x"].shape[1], dtype=self.given["lengths"].dtype)
            self.given["mask"] = times[None, :] < self.given["lengths"][:, None]

    def at_rest(self, units: int) -> Any:
        """A state of zeros."""
        return self.tensor(np.zeros((len(self.request.inputs["x"]), units)))

    def first_states(self) -> list[Any] | None:
        """What the layer is called with: hidden state and cell, or None where neither is given."""
        return [self.given[n] for n in self.states] if self.states[0] in self.given else None

    @property
    def units(self) -> int:
        """The width of a state."""
        return int(self.instance.units)

    def call(self) -> Any:
        """What the layer gives."""
        self.prepare()
        state = self.first_states()
        return self.instance(self.given["x"], mask=self.given.get("mask"), initial_state=state, training=False)

    def observed(self) -> Callable[[], Any]:
        """On TensorFlow the layer unrolled: its loop is one operation of the graph, of which the inside is hidden.

        Not for sequences of several lengths: of a reversed one the unrolled layer sets other outputs to zero, those
        of the mask in the order of the input.
        """
        return unrolled(self) if self.backend == "tensorflow" and "lengths" not in self.given else self

    def __call__(self) -> Any:
        """The output, `batch time unit` in input time order."""
        from keras import layers, ops

        with seen_as(layers.RNN, only=self.instance, return_sequences=True):
            output = self.call()
        if self.instance.return_state:
            output = output[0]
        # go_backwards returns the time steps in the order in which it walked through them: put back here.
        return ops.flip(output, axis=1) if self.instance.go_backwards else output


def _gates(name: str, weights: str, axes: str, order: tuple[int, ...]) -> Parameter:
    return Parameter(name, weights, f"{axes} (gate unit) -> {axes} (gate unit)", order={"gate": order})


class LSTM(Recurrent):
    """`keras.layers.LSTM`, whose gate order is the canonical one."""

    name = "keras.layers.LSTM"
    layer = "lstm"
    cell = "LSTM"
    states = ("initial_hidden", "initial_cell")
    inputs = ("x", *states, "lengths")
    weight_names = ("kernel", "recurrent_kernel", "bias")
    options: ClassVar = {
        "layers": (1,),
        "direction": ("forward", "reverse"),
        "merge": None,
        "activation": ("tanh", "sigmoid", "relu"),
        "recurrent_activation": ("sigmoid", "hard_sigmoid"),
    }
    parameters = (
        _gates("lstm_cell/kernel", "kernel", "channel", (0, 1, 2, 3)),
        _gates("lstm_cell/recurrent_kernel", "recurrent_kernel", "state", (0, 1, 2, 3)),
        _gates("lstm_cell/bias", "bias", "", (0, 1, 2, 3)),
    )


class GRU(Recurrent):
    """`keras.layers.GRU`, which has the update gate first; `reset_after`, as is its default."""

    name = "keras.layers.GRU"
    layer = "gru"
    cell = "GRU"
    inputs = ("x", "initial_hidden", "lengths")
    weight_names: ClassVar[tuple[str, ...]] = ("kernel", "recurrent_kernel", "bias", "recurrent_bias")
    options: ClassVar = {**LSTM.options, "reset": ("after",)}
    parameters: ClassVar[Sequence[Parameter]] = (
        _gates("gru_cell/kernel", "kernel", "channel", (1, 0, 2)),
        _gates("gru_cell/recurrent_kernel", "recurrent_kernel", "state", (1, 0, 2)),
        _gates("gru_cell/bias", "bias recurrent_bias", "part", (1, 0, 2)),
    )

    def arguments(self) -> dict[str, Any]:
        """Where the reset gate acts."""
        return {**super().arguments(), "reset_after": self.request.config["reset"] == "after"}

    def neutral(self) -> Mapping[str, NDArray[Any]]:
        """Zeros for the one of its biases that the request has not, where it has the other."""
        weights = self.request.weights
        there = [weights[n] for n in ("bias", "recurrent_bias") if n in weights]
        return {n: np.zeros_like(there[0]) for n in ("bias", "recurrent_bias")} if there else {}


class GRUResetBefore(GRU):
    """`keras.layers.GRU` without `reset_after`, which has one bias."""

    name = "keras.layers.GRU(reset_after=False)"
    weight_names = ("kernel", "recurrent_kernel", "bias")
    options: ClassVar = {**GRU.options, "reset": ("before",)}
    parameters = (*GRU.parameters[:2], _gates("gru_cell/bias", "bias", "", (1, 0, 2)))

    def neutral(self) -> Mapping[str, NDArray[Any]]:
        """Nothing: its only bias is the canonical one."""
        return {}


class SimpleRNN(Recurrent):
    """`keras.layers.SimpleRNN`."""

    name = "keras.layers.SimpleRNN"
    layer = "simple_rnn"
    cell = "SimpleRNN"
    inputs = ("x", "initial_hidden", "lengths")
    weight_names = ("kernel", "recurrent_kernel", "bias")
    options: ClassVar = {n: LSTM.options[n] for n in ("layers", "direction", "merge", "activation")}
    parameters = (
        Parameter("simple_rnn_cell/kernel", "kernel", "channel unit -> channel unit"),
        Parameter("simple_rnn_cell/recurrent_kernel", "recurrent_kernel", "state unit -> state unit"),
        Parameter("simple_rnn_cell/bias", "bias", "unit -> unit"),
    )


class _Bidirectional(Recurrent):
    """`keras.layers.Bidirectional` around one of the layers."""

    def made(self, layer: Any) -> Any:
        """The wrapper makes a forward and a backward layer of it."""
        from keras import layers

        return layers.Bidirectional(layer, merge_mode=self.request.config["merge"], dtype=self.request.dtype)

    def neutral(self) -> Mapping[str, NDArray[Any]]:
        """That of the layer, in both directions."""
        made = super().neutral()
        return {**made, **{f"{REVERSE}{n}": array for n, array in made.items()}}

    @property
    def units(self) -> int:
        """The width of a state of one direction."""
        return int(self.instance.forward_layer.units)

    def __call__(self) -> Any:
        """The output, `batch time both`."""
        return self.call()


def _in_both_directions(one: type[Recurrent]) -> type[Recurrent]:
    """The subject that has `one` in keras.layers.Bidirectional."""
    held = [
        replace(p, name=f"{side}_cells/{p.name}", weights=" ".join(f"{prefix}{n}" for n in p.names))
        for side, prefix in (("forward", ""), ("backward", REVERSE))
        for p in one.parameters
    ]
    states = (*one.states, *(f"{REVERSE}{n}" for n in one.states))
    members = {
        "name": one.name.replace("keras.layers.", "keras.layers.Bidirectional(", 1) + ")",
        "__doc__": f"`keras.layers.Bidirectional` around `{one.name}`.",
        "inputs": ("x", *states, "lengths"),
        "states": states,
        "weight_names": (*one.weight_names, *(f"{REVERSE}{n}" for n in one.weight_names)),
        "options": {**one.options, "direction": ("bidirectional",), "merge": ("concat", "sum")},
        "parameters": tuple(held),
    }
    return type(f"Bidirectional{one.__name__}", (_Bidirectional, one), members)


_LAYERS: tuple[type[Recurrent], ...] = (LSTM, GRU, GRUResetBefore, SimpleRNN)
SUBJECTS = (*_LAYERS, *map(_in_both_directions, _LAYERS))


def unrolled(function: Callable[[], Any]) -> Callable[[], Any]:
    """`function`, in which every recurrent layer has an operation per time step instead of a loop: the output is the
    same to the bit."""

    def call() -> Any:
        from keras import layers

        with seen_as(layers.RNN, unroll=True):
            return function()

    return call
