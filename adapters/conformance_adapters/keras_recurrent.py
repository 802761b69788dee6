"""Keras's recurrent layers as subjects."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformance.layout import Parameter
from conformance_adapters.keras_subject import KerasSubject, seen_as

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.trace import Request


_STATES = ("initial_hidden", "initial_cell")


class LSTM(KerasSubject):
    """`keras.layers.LSTM`, whose gate order is the canonical one."""

    name = "keras.layers.LSTM"
    layer = "lstm"
    inputs = ("x", *_STATES)
    weight_names = ("kernel", "recurrent_kernel", "bias")
    options: ClassVar = {
        "direction": ("forward", "reverse"),
        "activation": ("tanh", "sigmoid", "relu"),
        "recurrent_activation": ("sigmoid", "hard_sigmoid"),
    }
    parameters = (
        Parameter(
            "lstm_cell/kernel", "kernel", "channel (gate unit) -> channel (gate unit)", order={"gate": (0, 1, 2, 3)}
        ),
        Parameter(
            "lstm_cell/recurrent_kernel",
            "recurrent_kernel",
            "unit (gate unit2) -> unit (gate unit2)",
            order={"gate": (0, 1, 2, 3)},
        ),
        Parameter("lstm_cell/bias", "bias", "(gate unit) -> (gate unit)", order={"gate": (0, 1, 2, 3)}),
    )

    def __init__(self, request: Request) -> None:
        from keras import layers

        super().__init__(request)
        config, weights = request.config, request.weights
        self.instance = layers.LSTM(
            weights["recurrent_kernel"].shape[0],
            activation=config["activation"],
            recurrent_activation=config["recurrent_activation"],
            use_bias="bias" in weights,
            recurrent_initializer="zeros",  # overwritten; the default's QR factorisation has no narrow formats
            return_sequences=True,
            go_backwards=config["direction"] == "reverse",
            dtype=request.dtype,
            name="lstm",
        )
        self.instance.build(request.inputs["x"].shape)
        self.load(self.instance, weights)

    def weights(self) -> dict[str, NDArray[Any]]:
        """The canonical weights, read back out of the layer."""
        return self.read(self.instance)

    def prepare(self) -> None:
        """Zeros for one of the first hidden state and cell, where only the other is given."""
        lacking = [n for n in _STATES if n not in self.given]
        if len(lacking) == 1:
            self.given[lacking[0]] = self.tensor(np.zeros((len(self.request.inputs["x"]), self.instance.units)))

    def initial_state(self) -> list[Any] | None:
        """Hidden state and cell, or None where neither is given."""
        self.prepare()
        return [self.given[n] for n in _STATES] if _STATES[0] in self.given else None

    def observed(self) -> Callable[[], Any]:
        """On TensorFlow the layer unrolled: its loop is one operation of the graph, of which the inside is hidden."""
        return unrolled(self) if self.backend == "tensorflow" else self

    def __call__(self) -> Any:
        """The output, `batch time unit` in input time order."""
        from keras import layers, ops

        with seen_as(layers.RNN, only=self.instance, return_sequences=True):
            output = self.instance(self.given["x"], initial_state=self.initial_state(), training=False)
        if self.instance.return_state:
            output = output[0]
        # go_backwards returns the time steps in the order in which it walked through them: put back here.
        return ops.flip(output, axis=1) if self.instance.go_backwards else output


def unrolled(function: Callable[[], Any]) -> Callable[[], Any]:
    """`function`, in which every recurrent layer has an operation per time step instead of a loop: the output is the
    same to the bit."""

    def call() -> Any:
        from keras import layers

        with seen_as(layers.RNN, unroll=True):
            return function()

    return call
