"""PyTorch's transposed convolutions, for any number of spatial axes: channels are their second axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from conformance.layout import Parameter
from conformance_adapters.torch_subject import TorchSubject, to_channels_last, to_channels_second
from conformance_adapters.window_padding import per_axis, whole_crops

if TYPE_CHECKING:
    import torch

    from conformance.trace import Request


class TransposedConvolution(TorchSubject):
    """torch.nn.ConvTranspose, whose padding crops both sides alike, and whose output_padding puts back some after."""

    name: ClassVar[str] = "torch.nn.ConvTranspose{axes}d"
    layer: ClassVar[str] = "conv_transpose{axes}d"
    axes: ClassVar[int]

    @classmethod
    def over(cls, axes: int) -> type[TransposedConvolution]:
        """The subject of so many spatial axes: `{axes}` of its names is their number."""
        named = {n: getattr(cls, n).format(axes=axes) for n in ("name", "layer")}
        return type(cls.__name__, (cls,), {**named, "axes": axes, "__doc__": cls.__doc__})

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """It crops no more after than before, and less only by fewer elements than a stride or dilation has."""
        pairs = whole_crops(request)
        most = [max(per_axis(request.config[n], cls.axes)[i] for n in ("strides", "dilation")) for i in range(cls.axes)]
        if all(0 <= before - after < n and before >= 0 for (before, after), n in zip(pairs, most, strict=True)):
            return None
        return f"it crops both sides alike, or a little less after; {pairs} is asked for"

    def make(self) -> torch.nn.Module:
        """The module."""
        from torch import nn

        weights, given = self.request.weights, self.request.given
        *size, out, channel = weights["kernel"].shape
        pairs = whole_crops(self.request)
        made: torch.nn.Module = getattr(nn, f"ConvTranspose{self.axes}d")(
            channel,
            out,
            tuple(size),
            bias="bias" in weights,
            **given("strides", stride=per_axis(self.config["strides"], self.axes)),
            **given("padding", padding=tuple(before for before, _ in pairs)),
            **given("output_padding", output_padding=tuple(before - after for before, after in pairs)),
            **given("dilation", dilation=per_axis(self.config["dilation"], self.axes)),
        )
        return made

    def layouts(self) -> Sequence[Parameter]:
        """`in out *space`."""
        return [
            Parameter("weight", "kernel", "... out channel -> channel out ..."),
            Parameter("bias", "bias", "out -> out"),
        ]

    def forward(self) -> torch.Tensor:
        """`batch *space out`."""
        return to_channels_last(self.module(to_channels_second(self.inputs["x"])))


TRANSPOSED = {axes: TransposedConvolution.over(axes) for axes in (1, 2, 3)}
SUBJECTS = tuple(TRANSPOSED.values())
