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
        made: torch.nn.Module = getattr(nn, self.module_name)(
            weights["kernel"].shape[0],
            weights["kernel"].shape[1] // self.gates,
            bias=any(n.endswith("bias") for n in weights),
            batch_first=True,
            bidirectional=self._reverse or self._both,
            **self.options(),
        )
        return made

    def layouts(self) -> Sequence[Parameter]:
        """`gates*unit in`, the gates in canonical order."""
        forward, back = self._direction("_l0"), self._direction("_l0_reverse")
        if self._both:
            return forward + [replace(p, weights=f"{REVERSE}{p.weights}") for p in back]
        if not self._reverse:
            return forward
        # the forward half, which "reverse" does not use, holds zeros
        return back + [replace(p, addend=True) for p in forward]

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
        given = [[inputs.get(n) for n in (name, f"{REVERSE}{name}")] for name in self.states]
        there = any(g is not None for pair in given for g in pair)
        widths = (self.module.proj_size or self.module.hidden_size, self.module.hidden_size)
        made = tuple(self._state(width, *pair) for width, pair in zip(widths, given, strict=False)) if there else None
        self.initial = made if made is None or len(made) > 1 else made[0]

    def _state(self, width: int, first: NDArray[Any] | None, second: NDArray[Any] | None) -> torch.Tensor:
        zeros = np.zeros((len(self.request.inputs["x"]), width))
        held = [zeros if g is None else g for g in (first, second)]
        return self.tensor(np.stack(held if self._both else [zeros, held[0]] if self._reverse else held[:1]))

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
        projection = self.request.weights.get("projection")
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
        names = ("bias", "recurrent_bias", *((f"{REVERSE}bias", f"{REVERSE}recurrent_bias") if self._both else ()))
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
