"""ONNX's depthwise convolution: Conv of as many groups as there are channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from conformance.layout import Parameter
from conformance_adapters.onnx_convolution import Conv


class DepthwiseConv(Conv):
    """Conv, whose weight is `(in multiplier) 1 height width`."""

    name: ClassVar[str] = "onnx.Conv(group=in)"
    layer: ClassVar[str] = "depthwise_conv2d"

    def layouts(self) -> Sequence[Parameter]:
        """A block of output channels for each channel."""
        pattern = "height width channel multiplier -> (channel multiplier) 1 height width"
        counted = {"multiplier": tuple(range(self.request.weights["kernel"].shape[-1]))}
        return [Parameter("W", "kernel", pattern, order=counted), Parameter("B", "bias", "out -> out")]

    def groups(self) -> dict[str, Any]:
        """One for each channel."""
        return {"group": self.request.inputs["x"].shape[-1]}


SUBJECTS = (DepthwiseConv,)
