"""ONNX's transposed convolution, for any number of spatial axes: channels are its second axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from conformance.layout import Parameter
from conformance_adapters.onnx_pooling import channel_last, channel_second
from conformance_adapters.onnx_subject import OnnxSubject
from conformance_adapters.window_padding import per_axis, spaces, transposed_crops

if TYPE_CHECKING:
    from conformance.trace import Request


class ConvTranspose(OnnxSubject):
    """ConvTranspose with `pads`, channels second, between two Transposes."""

    name: ClassVar[str] = "onnx.ConvTranspose"
    layer: ClassVar[str] = "conv_transpose{axes}d"

    @classmethod
    def over(cls, axes: int) -> type[ConvTranspose]:
        """The subject of so many spatial axes."""
        return type(cls.__name__, (cls,), {"layer": cls.layer.format(axes=axes), "__doc__": cls.__doc__})

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """Its `pads` are what is cut off, and put nothing back; `output_padding` is less than a stride or dilation."""
        axes = spaces(request)
        more, strides, dilation = (per_axis(request.config[n], axes) for n in ("output_padding", "strides", "dilation"))
        if any(n >= max(s, d) for n, s, d in zip(more, strides, dilation, strict=True)):
            return "its output_padding is less than the stride or the dilation"
        return "its pads are not negative" if min(map(min, transposed_crops(request))) < 0 else None

    def layouts(self) -> Sequence[Parameter]:
        """`in out *space`."""
        return [Parameter("W", "kernel", "... out channel -> channel out ..."), Parameter("B", "bias", "out -> out")]

    def build(self) -> str:
        """`batch *space out`."""
        graph, config, given, axes = self.graph, self.config, self.request.given, spaces(self.request)
        x = graph.add("Transpose", self.input("x"), name="x.channel_second", perm=channel_second(axes))
        pads = [side for sides in zip(*transposed_crops(self.request), strict=True) for side in sides]
        convolved = graph.add(
            "ConvTranspose",
            *[n for n in (x, "W", self.held("B")) if n],
            name="convolved",
            kernel_shape=self.request.weights["kernel"].shape[:axes],
            **given("strides", strides=per_axis(config["strides"], axes)),
            **given("dilation", dilations=per_axis(config["dilation"], axes)),
            **given("padding", pads=pads),
            **given("output_padding", output_padding=per_axis(config["output_padding"], axes)),
        )
        return graph.add("Transpose", convolved, name="output", perm=channel_last(axes))


SUBJECTS = tuple(ConvTranspose.over(axes) for axes in (1, 2, 3))
