"""Recurrent operators, as they are met in somebody's ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping
from math import isclose
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformance.layer import REVERSE
from conformance_adapters.onnx_nodes import Arrays, Operator, refuse
from conformance_adapters.onnx_recurrent import Gru as GruSubject
from conformance_adapters.onnx_recurrent import Lstm as LstmSubject
from conformance_adapters.onnx_recurrent import Recurrent as RecurrentSubject
from conformance_adapters.onnx_recurrent import Rnn as RnnSubject

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import NodeProto

    from conformance_adapters.onnx_wiring import Wiring

_SIDES = ("", REVERSE)  # what the names of each direction begin with
# The activations that an operator has where none is named, in its order.
_DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


class _Recurrent(Operator):
    """An operator in one direction or in both, time first."""

    subject: ClassVar[type[RecurrentSubject]]

    @classmethod
    def match(cls, wiring: Wiring, node: NodeProto) -> Operator | None:
        """Lengths and initial states that are given are inputs."""
        operands = [*node.input, *[""] * 8]
        states = dict(zip(cls.subject.states, operands[5:], strict=False))
        return cls(wiring, node, {"x": operands[0], "lengths": operands[4], **states})

    @property
    def _both(self) -> bool:
        return bool(self.attributes.get("direction") == "bidirectional")

    def config(self) -> dict[str, Any]:
        """Its activations, where the layer has them."""
        given, a = self.attributes, f"{'an' if self.subject.operator != 'GRU' else 'a'} {self.subject.operator}"
        direction = given.get("direction", "forward")
        refuse(given.get("clip"), f"{a} that clips its cell")
        refuse(given.get("input_forget"), f"{a} whose input and forget gates are coupled")
        refuse(given.get("layout"), f"{a} with the batch first")
        refuse(self.operand(7), f"{a} with peepholes")
        return {"direction": direction, **self._activations(a)}

    def _activations(self, a: str) -> dict[str, str]:
        given, options = self.attributes, self.subject.functions * (1 + self._both)
        names = given.get("activations", _DEFAULTS[self.subject.operator] * (1 + self._both))
        refuse(len(names) != len(options), f"{a} with {len(names)} activations for {len(options)}")
        known = {name.lower(): (own, name, al, be) for own, (name, al, be) in self.subject.ACTIVATIONS.items()}
        alphas, betas = list(given.get("activation_alpha", [])), list(given.get("activation_beta", []))
        found: dict[str, str] = {}
        named: dict[str, str] = {}
        for option, name in zip(options, names, strict=True):
            refuse(name.lower() not in known, f"{a} with the activation {name}")
            own, _, alpha, beta = known[name.lower()]
            if alpha is not None:  # the operator's own are 0.2 and 0.5
                is_alpha, is_beta = (alphas.pop(0) if alphas else 0.2), (betas.pop(0) if betas else 0.5)
                same = isclose(is_alpha, alpha, rel_tol=1e-6) and isclose(is_beta, beta or 0, rel_tol=1e-6)
                refuse(not same, f"{a} whose {name} is {is_alpha:.4g} x + {is_beta:.4g}")
            refuse(found.get(option, own) != own, f"{a} with two activations, {named.get(option)} and {name}")
            found[option], named[option] = own, name
        return found

    def weights(self) -> Arrays:
        """Gates in the order of the layer; the sum of the two biases, where the layer has one."""
        arrays = {"W": self.weight(1), "R": self.weight(2), "B": self.weight(3)}
        made = self.read(self.subject, {n: None if a is None else a.astype(np.float64) for n, a in arrays.items()})
        for side in _SIDES:
            if self.subject.summed and f"{side}recurrent_bias" in made:
                made[f"{side}bias"] = made[f"{side}bias"] + made.pop(f"{side}recurrent_bias")
        return made

    def canonical(self, values: Mapping[str, NDArray[Any]]) -> Arrays:
        """Batch first; states of each direction by themselves."""
        made = {"x": values["x"].swapaxes(0, 1)}
        for name, array in values.items():
            if name == "lengths":
                made[name] = array
            elif name != "x":
                made |= {f"{side}{name}": one for side, one in zip(_SIDES[: 1 + self._both], array, strict=True)}
        return made

    def fed(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Time first; zeros for the state of a direction that is not given, where that of the other is."""
        made = {"x": inputs["x"].swapaxes(0, 1)}
        if "lengths" in inputs:
            made["lengths"] = inputs["lengths"].astype(np.int32)
        for name in self.subject.states:
            given = [inputs.get(f"{side}{name}") for side in _SIDES[: 1 + self._both]]
            there = next((a for a in given if a is not None), None)
            if there is not None:
                made[name] = np.stack([np.zeros_like(there) if a is None else a for a in given])
        return made

    def given(self, output: NDArray[Any]) -> NDArray[Any]:
        """`batch time unit`, of `time direction batch unit`: the directions side by side."""
        time, _, batch, _ = output.shape
        return output.transpose(2, 0, 1, 3).reshape(batch, time, -1)


class Lstm(_Recurrent):
    """LSTM."""

    layer = "lstm"
    kinds = (("", "LSTM"),)
    subject = LstmSubject


class Gru(_Recurrent):
    """GRU."""

    layer = "gru"
    kinds = (("", "GRU"),)
    subject = GruSubject

    def config(self) -> dict[str, Any]:
        """Where the reset gate acts, too."""
        return {**super().config(), "reset": "after" if self.attributes.get("linear_before_reset") else "before"}


class Rnn(_Recurrent):
    """RNN."""

    layer = "simple_rnn"
    kinds = (("", "RNN"),)
    subject = RnnSubject


RECURRENT = (Lstm, Gru, Rnn)
