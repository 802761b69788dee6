"""PyTorch's recurrent layers as subjects, `batch_first`.

They have no reverse direction alone: for "reverse" they are bidirectional, with zeros in the forward half, and the
output is the reverse half of what they return.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformance.layer import REVERSE
from conformance.layers.stacked import prefixes
from conformance.layout import Parameter
from conformance_adapters.torch_subject import TorchSubject

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from conformance.trace import Request


class _Recurrent(TorchSubject):
    """What the modules have in common: two bias vectors, one of the input and one of the state."""

    module_name: ClassVar[str]
    states: ClassVar[tuple[str, ...]] = ("initial_hidden",)
    fixed: ClassVar[Mapping[str, Any]] = {}
    gates: ClassVar[int] = 1
    # Whether the two bias vectors are one canonical weight.
    summed: ClassVar[bool] = True

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """What of its config is fixed."""
        config = request.config
        for option, only in cls.fixed.items():
            if config[option] != only:
                return f"its {option} is {only}, not {config[option]}"
        if config["direction"] == "reverse" and config.get("layers", 1) > 1:
            return "its layers of a stack run forward or in both directions, not in reverse"
        if len({a.shape for n, a in request.weights.items() if n.endswith("recurrent_kernel")}) > 1:
            return "its layers are of one width"
        if config["direction"] == "bidirectional" and config["merge"] != "concat":
            return f"its outputs of two directions stand side by side, not {config['merge']}"
        return None

    @property
    def _reverse(self) -> bool:
        return bool(self.config["direction"] == "reverse")

    @property
    def _both(self) -> bool:
        return bool(self.config["direction"] == "bidirectional")

    def options(self) -> dict[str, Any]:
        """Further arguments of the module."""
        return {}

    def make(self) -> torch.nn.Module:
        """The module of one layer."""
        from torch import nn

        weights = self.request.weights
        kernel = weights[f"{self.stack[0]}kernel"]
        made: torch.nn.Module = getattr(nn, self.module_name)(
            kernel.shape[0],
            kernel.shape[1] // self.gates,
            num_layers=len(self.stack),
            bias=any(n.endswith("bias") for n in weights),
            batch_first=True,
            bidirectional=self._reverse or self._both,
            **self.options(),
        )
        return made

    @property
    def stack(self) -> tuple[str, ...]:
        """What the canonical names of each layer begin with."""
        return prefixes(self.config.get("layers", 1))

    @property
    def _sides(self) -> list[str]:
        """What the canonical names of each cell begin with, in the order of PyTorch's states."""
        return [f"{layer}{side}" for layer in self.stack for side in (("", REVERSE) if self._both else ("",))]

    def layouts(self) -> Sequence[Parameter]:
        """`gates*unit in`, the gates in canonical order."""
        return [p for number, prefix in enumerate(self.stack) for p in self._layer(number, prefix)]

    def _layer(self, number: int, prefix: str) -> list[Parameter]:
        forward, back = self._direction(f"_l{number}"), self._direction(f"_l{number}_reverse")
        if self._both:
            back = [replace(p, weights=f"{REVERSE}{p.weights}") for p in back]
        elif self._reverse:  # the forward half, which "reverse" does not use, holds zeros
            forward, back = back, [replace(p, addend=True) for p in forward]
        else:
            back = []
        return [replace(p, weights=f"{prefix}{p.weights}") for p in forward + back]

    def _direction(self, suffix: str) -> list[Parameter]:
        state = "bias" if self.summed else "recurrent_bias"
        return [
            Parameter(f"weight_ih{suffix}", "kernel", "channel gates -> gates channel"),
            Parameter(f"weight_hh{suffix}", "recurrent_kernel", "unit gates -> gates unit"),
            Parameter(f"bias_ih{suffix}", "bias", "gates -> gates"),
            Parameter(f"bias_hh{suffix}", state, "gates -> gates", addend=self.summed),
        ]

    def prepare(self) -> None:
        """The states before the first time step."""
        inputs = self.request.inputs
        given = [[inputs.get(f"{side}{name}") for side in self._sides] for name in self.states]
        there = any(g is not None for of_each in given for g in of_each)
        widths = (self.module.proj_size or self.module.hidden_size, self.module.hidden_size)
        made = tuple(self._state(width, of_each) for width, of_each in zip(widths, given, strict=False))
        self.initial = None if not there else made if len(made) > 1 else made[0]

    def _state(self, width: int, given: Sequence[NDArray[Any] | None]) -> torch.Tensor:
        zeros = np.zeros((len(self.request.inputs["x"]), width))
        held = [zeros if g is None else g for g in given]
        return self.tensor(np.stack([zeros, *held] if self._reverse else held))

    def forward(self) -> torch.Tensor:
        """`batch time unit`."""
        from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

        x, first = self.inputs["x"], self.module.batch_first
        given = x if first else x.transpose(0, 1)  # time first is its default
        if "lengths" in self.inputs:
            packed = pack_padded_sequence(given, self.inputs["lengths"], batch_first=first, enforce_sorted=False)
            output = pad_packed_sequence(self.module(packed, self.initial)[0], first, total_length=x.shape[1])[0]
        else:
            output = self.module(given, self.initial)[0]
        output = output if first else output.transpose(0, 1)
        return output[..., output.shape[-1] // 2 :] if self._reverse else output


class Lstm(_Recurrent):
    """torch.nn.LSTM."""

    name: ClassVar[str] = "torch.nn.LSTM"
    layer: ClassVar[str] = "lstm"
    module_name: ClassVar[str] = "LSTM"
    gates: ClassVar[int] = 4
    states: ClassVar[tuple[str, ...]] = ("initial_hidden", "initial_cell")
    fixed: ClassVar[Mapping[str, Any]] = {"activation": "tanh", "recurrent_activation": "sigmoid"}

    def options(self) -> dict[str, Any]:
        """How wide it projects its hidden state, if it does."""
        projection = self.request.weights.get(f"{self.stack[0]}projection")
        return {} if projection is None else {"proj_size": projection.shape[1]}

    def _direction(self, suffix: str) -> list[Parameter]:
        return [*super()._direction(suffix), Parameter(f"weight_hr{suffix}", "projection", "unit state -> state unit")]


class Gru(_Recurrent):
    """torch.nn.GRU, which has a bias of the state in every gate."""

    name: ClassVar[str] = "torch.nn.GRU"
    layer: ClassVar[str] = "gru"
    module_name: ClassVar[str] = "GRU"
    gates: ClassVar[int] = 3
    fixed: ClassVar[Mapping[str, Any]] = {"reset": "after", "activation": "tanh", "recurrent_activation": "sigmoid"}
    summed: ClassVar[bool] = False

    def neutral(self) -> Mapping[str, NDArray[Any]]:
        """Zeros for those of its biases that the request has not, where it has another."""
        names = [f"{side}{kind}" for side in self._sides for kind in ("bias", "recurrent_bias")]
        there = [self.request.weights[n] for n in names if n in self.request.weights]
        return {n: np.zeros_like(there[0]) for n in names} if there else {}


class Rnn(_Recurrent):
    """torch.nn.RNN."""

    name: ClassVar[str] = "torch.nn.RNN"
    layer: ClassVar[str] = "simple_rnn"
    module_name: ClassVar[str] = "RNN"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """Its activation is tanh or relu."""
        if request.config["activation"] not in ("tanh", "relu"):
            return f"its nonlinearities are tanh and relu, not {request.config['activation']}"
        return super().refuses(request)

    def options(self) -> dict[str, Any]:
        """Its activation."""
        return {"nonlinearity": self.config["activation"]}


SUBJECTS = (Lstm, Gru, Rnn)
