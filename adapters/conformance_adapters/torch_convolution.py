"""PyTorch's convolutions, for any number of spatial axes: channels are their second axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from conformance.layout import Parameter
from conformance_adapters.torch_subject import TorchSubject, to_channels_last, to_channels_second
from conformance_adapters.window_padding import Pairs, alike, convolution_pads, per_axis

if TYPE_CHECKING:
    import torch

    from conformance.trace import Request


class Convolution(TorchSubject):
    """torch.nn.Conv with a padding of its own: none, 'same' at stride 1, or a symmetric one."""

    name: ClassVar[str] = "torch.nn.Conv{axes}d"
    layer: ClassVar[str] = "conv{axes}d"
    axes: ClassVar[int]

    @classmethod
    def over(cls, axes: int) -> type[Convolution]:
        """The subject of so many spatial axes: `{axes}` of its names is their number."""
        named = {n: getattr(cls, n).format(axes=axes) for n in ("name", "layer")}
        return type(cls.__name__, (cls,), {**named, "axes": axes, "__doc__": cls.__doc__})

    @classmethod
    def padding(cls, request: Request) -> str | tuple[int, ...] | None:
        """The module's own `padding` argument for the request, or None where it has none."""
        if request.config["padding"] == "same-upper" and set(per_axis(request.config["strides"], cls.axes)) == {1}:
            return "same"
        pairs = convolution_pads(request)
        return tuple(before for before, _ in pairs) if alike(pairs) else None

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """It pads symmetrically, and 'same' is for stride 1 only."""
        if cls.padding(request) is None:
            return f"it pads both sides alike, and {convolution_pads(request)} is asked for"
        return None

    def make(self) -> torch.nn.Module:
        """The module with its own padding."""
        return self._conv(self.padding(self.request) or 0)

    def _conv(self, padding: Any) -> torch.nn.Module:
        from torch import nn

        weights, groups, given = self.request.weights, self.config["groups"], self.request.given
        *size, channel, out = weights["kernel"].shape
        made: torch.nn.Module = getattr(nn, f"Conv{self.axes}d")(
            channel * groups,
            out,
            tuple(size),
            bias="bias" in weights,
            **given("strides", stride=per_axis(self.config["strides"], self.axes)),
            **given("padding", padding=padding),
            **given("dilation", dilation=per_axis(self.config["dilation"], self.axes)),
            **given("groups", groups=groups),
        )
        return made

    def layouts(self) -> Sequence[Parameter]:
        """`out in/groups *space`."""
        return [
            Parameter("weight", "kernel", "... channel out -> out channel ..."),
            Parameter("bias", "bias", "out -> out"),
        ]

    def forward(self) -> torch.Tensor:
        """`batch *space out`."""
        return to_channels_last(self.module(to_channels_second(self.inputs["x"])))


class PaddedConvolution(Convolution):
    """torch.nn.ZeroPad in front of torch.nn.Conv, where the latter has no such padding."""

    name: ClassVar[str] = "torch.nn.ZeroPad{axes}d + torch.nn.Conv{axes}d"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """What torch.nn.Conv does alone."""
        return None if cls.padding(request) is None else f"torch.nn.Conv{cls.axes}d has this padding of its own"

    def make(self) -> torch.nn.Module:
        """The two modules in a row."""
        from torch import nn

        pairs: Pairs = convolution_pads(self.request)
        amounts = tuple(side for pair in reversed(pairs) for side in pair)
        return nn.Sequential(getattr(nn, f"ZeroPad{self.axes}d")(amounts), self._conv(0))

    def layouts(self) -> Sequence[Parameter]:
        """As torch.nn.Conv, which is the second module."""
        return [Parameter(f"1.{p.name}", p.weights, p.pattern) for p in super().layouts()]


Conv1d, Conv2d, Conv3d = (Convolution.over(axes) for axes in (1, 2, 3))
PaddedConv1d, PaddedConv2d, PaddedConv3d = (PaddedConvolution.over(axes) for axes in (1, 2, 3))
SUBJECTS = (Conv1d, PaddedConv1d, Conv2d, PaddedConv2d, Conv3d, PaddedConv3d)
