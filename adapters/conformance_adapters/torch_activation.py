"""PyTorch's activation modules, a row of a table each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from conformance.layout import Parameter
from conformance_adapters.torch_subject import TorchSubject

if TYPE_CHECKING:
    import torch

    from conformance.trace import Request


class Activation(TorchSubject):
    """A module of torch.nn called `kind`; `options` are the config's names and the module's for the same."""

    kind: ClassVar[str]
    options: ClassVar[Mapping[str, str]] = {}

    def make(self) -> torch.nn.Module:
        """The module with the options of the config."""
        from torch import nn

        options: dict[str, Any] = {}
        for name, own in self.options.items():
            options |= self.request.given(name, **{own: self.config[name]})
        return getattr(nn, self.kind)(**options)

    @classmethod
    def read(cls, module: Any) -> dict[str, Any]:
        """The config of a module of this kind."""
        return {name: getattr(module, own) for name, own in cls.options.items()}

    def forward(self) -> torch.Tensor:
        """The shape of x; of a gated unit, half of it. A module that works in place is given a copy."""
        x = self.inputs["x"]
        return self.module(x.clone() if getattr(self.module, "inplace", False) else x)


def _module(kind: str, layer: str, **options: str) -> type[Activation]:
    named = {"name": f"torch.nn.{kind}", "layer": layer, "kind": kind, "options": options}
    return type(kind, (Activation,), {**named, "__doc__": f"torch.nn.{kind}."})


class LogSoftmax(Activation):
    """torch.nn.LogSoftmax, which is never left without a dim: it would guess one, and warn."""

    name: ClassVar[str] = "torch.nn.LogSoftmax"
    layer: ClassVar[str] = "log_softmax"
    kind: ClassVar[str] = "LogSoftmax"
    options: ClassVar[Mapping[str, str]] = {"axis": "dim"}

    def make(self) -> torch.nn.Module:
        """The module along `axis`."""
        from torch import nn

        return nn.LogSoftmax(dim=self.config["axis"])


class Prelu(TorchSubject):
    """torch.nn.PReLU, with one slope or with one for each channel, which are its second axis."""

    name: ClassVar[str] = "torch.nn.PReLU"
    layer: ClassVar[str] = "prelu"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """Its slopes have one axis, and several are for the channels of a batch."""
        slope, x = request.weights["slope"], request.inputs["x"]
        if slope.ndim != 1:
            return f"its slopes have one axis, not {slope.ndim}"
        return "a slope for each channel asks for a batch" if x.ndim < 2 and len(slope) > 1 else None

    def make(self) -> torch.nn.Module:
        """The module with as many slopes."""
        from torch.nn import PReLU

        return PReLU(len(self.request.weights["slope"]))

    def layouts(self) -> Sequence[Parameter]:
        """As they are."""
        return [Parameter("weight", "slope", "channel -> channel")]

    def forward(self) -> torch.Tensor:
        """The shape of x, channels last."""
        x = self.inputs["x"]
        if self.module.num_parameters == 1:
            return self.module(x)
        inner, last = tuple(range(1, x.ndim - 1)), x.ndim - 1
        return self.module(x.permute(0, last, *inner)).permute(0, *(axis + 1 for axis in inner), 1)


MODULES = (
    _module("ReLU", "relu"),
    _module("LeakyReLU", "leaky_relu", slope="negative_slope"),
    _module("ELU", "elu", alpha="alpha"),
    _module("SELU", "selu"),
    _module("CELU", "celu", alpha="alpha"),
    _module("SiLU", "silu"),
    _module("Mish", "mish"),
    _module("Sigmoid", "sigmoid"),
    _module("LogSigmoid", "log_sigmoid"),
    _module("Hardsigmoid", "hard_sigmoid"),
    _module("Hardswish", "hard_silu"),
    _module("Tanh", "tanh"),
    _module("Softplus", "softplus"),
    _module("Softsign", "softsign"),
    _module("ReLU6", "relu6"),
    _module("GLU", "glu", axis="dim"),
    LogSoftmax,
)
SUBJECTS: tuple[type[TorchSubject], ...] = (*MODULES, Prelu)
