"""PyTorch's depthwise convolution: torch.nn.Conv2d of as many groups as there are channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from conformance.layout import Parameter
from conformance_adapters.torch_convolution import Convolution, PaddedConvolution
from conformance_adapters.window_padding import per_axis

if TYPE_CHECKING:
    import torch


class _Depthwise(Convolution):
    """The kernel of input channel c is torch's c-th block of output channels."""

    layer: ClassVar[str] = "depthwise_conv2d"
    axes: ClassVar[int] = 2

    def _conv(self, padding: Any) -> torch.nn.Module:
        from torch import nn

        *size, channel, multiplier = self.request.weights["kernel"].shape
        given = self.request.given
        return nn.Conv2d(
            channel,
            channel * multiplier,
            tuple(size),
            groups=channel,
            bias="bias" in self.request.weights,
            **given("strides", stride=per_axis(self.config["strides"], 2)),
            **given("padding", padding=padding),
            **given("dilation", dilation=per_axis(self.config["dilation"], 2)),
        )

    def layouts(self) -> Sequence[Parameter]:
        """`(in multiplier) 1 height width`."""
        pattern = "height width channel multiplier -> (channel multiplier) 1 height width"
        counted = {"multiplier": tuple(range(self.request.weights["kernel"].shape[-1]))}
        return [Parameter("weight", "kernel", pattern, order=counted), Parameter("bias", "bias", "out -> out")]


class Depthwise(_Depthwise):
    """torch.nn.Conv2d with a padding of its own."""

    name: ClassVar[str] = "torch.nn.Conv2d(groups=in)"


class PaddedDepthwise(PaddedConvolution, _Depthwise):
    """torch.nn.ZeroPad2d in front of torch.nn.Conv2d, where the latter has no such padding."""

    name: ClassVar[str] = "torch.nn.ZeroPad2d + torch.nn.Conv2d(groups=in)"

    def layouts(self) -> Sequence[Parameter]:
        """As torch.nn.Conv2d, which is the second module."""
        plain = _Depthwise.layouts(self)
        return [Parameter(f"1.{p.name}", p.weights, p.pattern, order=p.order) for p in plain]


SUBJECTS = (Depthwise, PaddedDepthwise)
