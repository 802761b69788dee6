"""Flax's depthwise convolution: a convolution of as many feature groups as there are channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from conformance.layout import Parameter
from conformance_adapters.flax_convolution import LinenConv, NnxConv


class _Depthwise:
    layer: ClassVar[str] = "depthwise_conv2d"
    axes: ClassVar[int] = 2
    request: Any

    def layouts(self) -> Sequence[Parameter]:
        """`height width 1 (in multiplier)`."""
        pattern = "height width channel multiplier -> height width 1 (channel multiplier)"
        counted = {"multiplier": tuple(range(self.request.weights["kernel"].shape[-1]))}
        return [Parameter("kernel", "kernel", pattern, order=counted), Parameter("bias", "bias", "out -> out")]

    def options(self) -> dict[str, Any]:
        """As of a convolution, of one group for each channel."""
        made: dict[str, Any] = super().options()  # type: ignore[misc]
        return {**made, "feature_group_count": self.request.inputs["x"].shape[-1]}


class NnxDepthwise(_Depthwise, NnxConv):
    """flax.nnx.Conv of as many feature groups as there are channels."""

    name: ClassVar[str] = "flax.nnx.Conv(feature_group_count=in)"

    def make(self) -> Any:
        """The module."""
        from flax import nnx

        into, kernel = self.request.inputs["x"].shape[-1], self.request.weights["kernel"]
        return nnx.Conv(into, into * kernel.shape[-1], rngs=nnx.Rngs(0), **self.options())


class LinenDepthwise(_Depthwise, LinenConv):
    """flax.linen.Conv of as many feature groups as there are channels."""

    name: ClassVar[str] = "flax.linen.Conv(feature_group_count=in)"

    def make(self) -> Any:
        """The module."""
        from flax import linen

        kernel = self.request.weights["kernel"]
        return linen.Conv(kernel.shape[-2] * kernel.shape[-1], **self.options())


SUBJECTS = (NnxDepthwise, LinenDepthwise)
