"""ONNX's recurrent operators as subjects, time first (the runtime has no kernel for `layout=1`) between two Transposes.

An operator gives the hidden state of every time step, and of the last one the states; its gates are not to be had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformance.layer import REVERSE
from conformance.layout import Parameter
from conformance_adapters.onnx_subject import OnnxSubject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.trace import Request


def _pair(name: str) -> str:
    return f"{name} {REVERSE}{name}"


class Recurrent(OnnxSubject):
    """What the operators have in common.

    `order` are the canonical positions of the gates in the operator's order; `functions` the config entries that
    name its activations, in its order. Whether the operator's two biases are one canonical weight is `summed`.
    """

    operator: ClassVar[str]
    order: ClassVar[tuple[int, ...]] = (0,)
    functions: ClassVar[tuple[str, ...]] = ("activation",)
    states: ClassVar[tuple[str, ...]] = ("initial_hidden",)
    gives: ClassVar[tuple[str, ...]] = ("Y_h",)
    summed: ClassVar[bool] = True
    # Canonical activation: the operator's name for it, alpha and beta (its own hard_sigmoid is 0.2x + 0.5).
    ACTIVATIONS: ClassVar[Mapping[str, tuple[str, float | None, float | None]]] = {
        "sigmoid": ("Sigmoid", None, None),
        "tanh": ("Tanh", None, None),
        "relu": ("Relu", None, None),
        "hard_sigmoid": ("HardSigmoid", 1 / 6, 0.5),
    }

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """Its directions stand side by side; it has no projection."""
        config = request.config
        if config.get("layers", 1) != 1:
            return f"it is one layer, not {config['layers']}"
        for option in dict.fromkeys(cls.functions):
            if config[option] not in cls.ACTIVATIONS:
                return f"it has no {option} {config[option]!r}"
        if config["direction"] == "bidirectional" and config["merge"] != "concat":
            return f"its outputs of two directions stand side by side, not {config['merge']}"
        return "it has no projection" if "projection" in request.weights else None

    def layouts(self) -> Sequence[Parameter]:
        """One vector for the two biases."""
        order = {"gate": self.order}
        if self._both:
            sides = {**order, "direction": (0, 1), "side": (0, 1)}
            return [
                Parameter("W", _pair("kernel"), "part channel (gate unit) -> part (gate unit) channel", order=order),
                Parameter(
                    "R",
                    _pair("recurrent_kernel"),
                    "part previous (gate unit) -> part (gate unit) previous",
                    order=order,
                ),
                Parameter(
                    "B",
                    f"bias recurrent_bias {REVERSE}bias {REVERSE}recurrent_bias",
                    "(direction side) (gate unit) -> direction (side gate unit)",
                    order=sides,
                ),
            ]
        return [
            Parameter("W", "kernel", "channel (gate unit) -> 1 (gate unit) channel", order=order),
            Parameter("R", "recurrent_kernel", "previous (gate unit) -> 1 (gate unit) previous", order=order),
            Parameter("B", "bias recurrent_bias", "part (gate unit) -> 1 (part gate unit)", order=order),
        ]

    def neutral(self) -> Mapping[str, NDArray[Any]]:
        """Zeros for those of its biases that the request has not, where it has another."""
        weights = self.request.weights
        names = ("bias", "recurrent_bias", *((f"{REVERSE}bias", f"{REVERSE}recurrent_bias") if self._both else ()))
        there = [weights[n] for n in names if n in weights]
        return {n: np.zeros_like(there[0]) for n in names} if there else {}

    @property
    def _both(self) -> bool:
        return bool(self.config["direction"] == "bidirectional")

    def _state(self, name: str) -> str:
        """The input of the graph with an initial state of each direction, empty where none is given."""
        names = (name, f"{REVERSE}{name}") if self._both else (name,)
        given = [self.given.get(n) for n in names]
        if all(g is None for g in given):
            return ""
        zeros = np.zeros((len(self.given["x"]), len(self.request.weights["recurrent_kernel"])))
        return self.graph.input(name, np.stack([zeros if g is None else g for g in given]))

    def attributes(self) -> dict[str, Any]:
        """Further attributes of the node."""
        return {}

    def build(self) -> str:
        """`batch time unit`."""
        graph, state = self.graph, [self._state(name) for name in self.states]
        inputs = [graph.add("Transpose", self.input("x"), name="x.time_first", perm=[1, 0, 2]), "W", "R"]
        lengths = graph.input("lengths", self.given["lengths"].astype(np.int32)) if "lengths" in self.given else ""
        inputs += [self.held("B"), lengths, *state]
        while not inputs[-1]:
            inputs.pop()
        wanted = [self.ACTIVATIONS[self.config[o]] for o in self.functions] * (1 + self._both)
        alphas, betas = ([a for a in column if a is not None] for column in list(zip(*wanted, strict=True))[1:])
        hidden = graph.add(
            self.operator,
            *inputs,
            name="Y",
            extra=self.gives,
            hidden_size=len(self.request.weights["recurrent_kernel"]),
            direction=self.config["direction"],
            activations=[name for name, _, _ in wanted],
            activation_alpha=alphas or None,
            activation_beta=betas or None,
            **self.attributes(),
        )
        if self._both:  # time direction batch unit
            side_by_side = graph.add("Transpose", hidden, name="Y.batch_first", perm=[2, 0, 1, 3])
            shape = graph.initializer("both", np.array([0, 0, 2 * len(self.request.weights["recurrent_kernel"])]))
            return graph.add("Reshape", side_by_side, shape, name="output")
        axis = graph.initializer("direction_axis", np.array([1]))
        squeezed = graph.add("Squeeze", hidden, axis, name="Y.one_direction")
        return graph.add("Transpose", squeezed, name="output", perm=[1, 0, 2])


class Lstm(Recurrent):
    """LSTM, whose gates stand in the order i, o, f, g."""

    name: ClassVar[str] = "onnx.LSTM"
    layer: ClassVar[str] = "lstm"
    operator: ClassVar[str] = "LSTM"
    order: ClassVar[tuple[int, ...]] = (0, 3, 1, 2)
    functions: ClassVar[tuple[str, ...]] = ("recurrent_activation", "activation", "activation")
    states: ClassVar[tuple[str, ...]] = ("initial_hidden", "initial_cell")
    gives: ClassVar[tuple[str, ...]] = ("Y_h", "Y_c")


class Gru(Recurrent):
    """GRU, whose gates stand in the order z, r, n, and which has a bias of the state in every gate."""

    name: ClassVar[str] = "onnx.GRU"
    layer: ClassVar[str] = "gru"
    operator: ClassVar[str] = "GRU"
    order: ClassVar[tuple[int, ...]] = (1, 0, 2)
    functions: ClassVar[tuple[str, ...]] = ("recurrent_activation", "activation")
    summed: ClassVar[bool] = False

    def attributes(self) -> dict[str, Any]:
        """Where the reset gate acts."""
        return {"linear_before_reset": int(self.config["reset"] == "after")}


class Rnn(Recurrent):
    """RNN."""

    name: ClassVar[str] = "onnx.RNN"
    layer: ClassVar[str] = "simple_rnn"
    operator: ClassVar[str] = "RNN"


SUBJECTS = (Lstm, Gru, Rnn)
