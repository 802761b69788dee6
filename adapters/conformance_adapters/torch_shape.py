"""PyTorch's embedding and bilinear map, and its modules that move elements: some have channels second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from conformance.layout import Parameter
from conformance_adapters.torch_subject import TorchSubject, to_channels_last, to_channels_second
from conformance_adapters.window_padding import pad_pairs, spaces

if TYPE_CHECKING:
    import torch

    from conformance.trace import Request


class Embedding(TorchSubject):
    """torch.nn.Embedding."""

    name: ClassVar[str] = "torch.nn.Embedding"
    layer: ClassVar[str] = "embedding"

    def make(self) -> torch.nn.Module:
        """The module, of the table's size."""
        from torch import nn

        return nn.Embedding(*self.request.weights["table"].shape)

    def layouts(self) -> Sequence[Parameter]:
        """As it is."""
        return [Parameter("weight", "table", "index dim -> index dim")]

    def forward(self) -> torch.Tensor:
        """`... dim`."""
        return self.module(self.inputs["indices"])


class Bilinear(TorchSubject):
    """torch.nn.Bilinear."""

    name: ClassVar[str] = "torch.nn.Bilinear"
    layer: ClassVar[str] = "bilinear"

    def make(self) -> torch.nn.Module:
        """The module, of the kernel's size."""
        from torch import nn

        return nn.Bilinear(*self.request.weights["kernel"].shape, bias="bias" in self.request.weights)

    def layouts(self) -> Sequence[Parameter]:
        """`out first second`."""
        return [
            Parameter("weight", "kernel", "first second out -> out first second"),
            Parameter("bias", "bias", "out -> out"),
        ]

    def forward(self) -> torch.Tensor:
        """`*batch out`."""
        return self.module(self.inputs["first"], self.inputs["second"])


class Flatten(TorchSubject):
    """torch.nn.Flatten, given channels last."""

    name: ClassVar[str] = "torch.nn.Flatten"
    layer: ClassVar[str] = "flatten"

    def make(self) -> torch.nn.Module:
        """The module."""
        from torch import nn

        return nn.Flatten()

    def forward(self) -> torch.Tensor:
        """`batch feature`."""
        return self.module(self.inputs["x"])


class Dropout(TorchSubject):
    """torch.nn.Dropout, in evaluation mode."""

    name: ClassVar[str] = "torch.nn.Dropout"
    layer: ClassVar[str] = "dropout"

    def make(self) -> torch.nn.Module:
        """The module."""
        from torch import nn

        return nn.Dropout(**self.request.given("rate", p=self.config["rate"]))

    def forward(self) -> torch.Tensor:
        """What it is given."""
        return self.module(self.inputs["x"])


class PixelShuffle(TorchSubject):
    """torch.nn.PixelShuffle, whose channels are the slowest of a block."""

    name: ClassVar[str] = "torch.nn.PixelShuffle"
    layer: ClassVar[str] = "pixel_shuffle"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """It has the one order."""
        return None if request.config["mode"] == "CRD" else f"it has no mode {request.config['mode']}"

    def make(self) -> torch.nn.Module:
        """The module."""
        from torch import nn

        return nn.PixelShuffle(self.config["factor"])

    def forward(self) -> torch.Tensor:
        """`batch rows columns out`."""
        return to_channels_last(self.module(to_channels_second(self.inputs["x"])))


class Pad(TorchSubject):
    """A module of torch.nn that pads `axes` spatial axes in one mode."""

    layer: ClassVar[str] = "pad"
    mode: ClassVar[str]
    axes: ClassVar[int]
    module_name: ClassVar[str]

    @classmethod
    def of(cls, mode: str, kind: str, axes: int) -> type[Pad]:
        """The subject of torch.nn's `kind` over so many spatial axes."""
        named = {"module_name": f"{kind}{axes}d", "name": f"torch.nn.{kind}{axes}d", "mode": mode, "axes": axes}
        return type(cls.__name__, (cls,), {**named, "__doc__": cls.__doc__})

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """Another mode, and another number of axes."""
        if request.config["mode"] != cls.mode:
            return f"it has no mode {request.config['mode']}"
        return None if spaces(request) == cls.axes else f"it pads {cls.axes} axes, not {spaces(request)}"

    def make(self) -> torch.nn.Module:
        """The module: it takes the last axis first."""
        from torch import nn

        amounts: Any = tuple(side for pair in reversed(pad_pairs(self.request)) for side in pair)
        options = {"value": float(self.config["value"])} if self.mode == "constant" else {}
        made: torch.nn.Module = getattr(nn, self.module_name)(amounts, **options)
        return made

    def forward(self) -> torch.Tensor:
        """`batch *padded channel`."""
        return to_channels_last(self.module(to_channels_second(self.inputs["x"])))


KINDS = {
    "constant": "ConstantPad",
    "reflect": "ReflectionPad",
    "replicate": "ReplicationPad",
    "circular": "CircularPad",
}
PADS = {f"{kind}{axes}d": Pad.of(mode, kind, axes) for mode, kind in KINDS.items() for axes in (1, 2, 3)}
SUBJECTS: tuple[type[TorchSubject], ...] = (Embedding, Bilinear, Flatten, *PADS.values(), PixelShuffle, Dropout)
