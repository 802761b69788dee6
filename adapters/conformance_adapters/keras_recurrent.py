"""Keras's recurrent layers as subjects."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformance.layout import Parameter
from conformance_adapters.keras_subject import KerasSubject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.trace import Request


class LSTM(KerasSubject):
    """`keras.layers.LSTM`, whose gate order is the canonical one."""

    name = "keras.layers.LSTM"
    layer = "lstm"
    inputs = ("x", "initial_hidden", "initial_cell")
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
        super().__init__(request)
        self.lstm = self.build(unroll=False)

    def build(self, unroll: bool) -> Any:
        """The layer with its weights loaded. `unroll` makes one operation per time step instead of a loop."""
        from keras import layers

        config, weights = self.request.config, self.request.weights
        lstm = layers.LSTM(
            weights["recurrent_kernel"].shape[0],
            activation=config["activation"],
            recurrent_activation=config["recurrent_activation"],
            use_bias="bias" in weights,
            recurrent_initializer="zeros",  # overwritten; the default's QR factorisation has no narrow formats
            return_sequences=True,
            go_backwards=config["direction"] == "reverse",
            unroll=unroll,
            dtype=self.request.dtype,
            name="lstm",
        )
        lstm.build(self.request.inputs["x"].shape)
        self.load(lstm, weights)
        return lstm

    def weights(self) -> dict[str, NDArray[Any]]:
        """The canonical weights, read back out of the layer."""
        return self.read(self.lstm)

    def initial_state(self) -> list[Any] | None:
        """Hidden state and cell, zeros for one that is not given, or None where neither is."""
        names = ("initial_hidden", "initial_cell")
        if not any(n in self.given for n in names):
            return None
        zeros = self.tensor(np.zeros((len(self.request.inputs["x"]), self.lstm.units)))
        return [self.given.get(n, zeros) for n in names]

    def observed(self) -> Callable[[], Any]:
        """On TensorFlow the unrolled layer: its loop is one operation of the graph, of which the inside is hidden."""
        if self.backend != "tensorflow":
            return self
        unrolled = self.build(unroll=True)
        return lambda: self.call(unrolled)

    def call(self, lstm: Any) -> Any:
        """The output of `lstm`, `batch time unit` in input time order."""
        from keras import ops

        output = lstm(self.given["x"], initial_state=self.initial_state(), training=False)
        # go_backwards returns the time steps in the order in which it walked through them: put back here.
        return ops.flip(output, axis=1) if lstm.go_backwards else output

    def __call__(self) -> Any:
        """The output, `batch time unit` in input time order."""
        return self.call(self.lstm)
