"""ONNX's convolution, for any number of spatial axes: channels are its second axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from conformance.layout import Parameter
from conformance_adapters.onnx_pooling import channel_last, channel_second
from conformance_adapters.onnx_subject import OnnxSubject
from conformance_adapters.window_padding import NAMED, convolution_pads, per_axis, spaces


class Conv(OnnxSubject):
    """Conv, channels second, between two Transposes."""

    name: ClassVar[str] = "onnx.Conv"
    layer: ClassVar[str] = "conv{axes}d"

    @classmethod
    def over(cls, axes: int) -> type[Conv]:
        """The subject of so many spatial axes."""
        return type(cls.__name__, (cls,), {"layer": cls.layer.format(axes=axes), "__doc__": cls.__doc__})

    def layouts(self) -> Sequence[Parameter]:
        """`out in/groups *space`."""
        return [Parameter("W", "kernel", "... channel out -> out channel ..."), Parameter("B", "bias", "out -> out")]

    def groups(self) -> dict[str, Any]:
        """The attribute for groups."""
        return self.request.given("groups", group=self.config["groups"])

    def build(self) -> str:
        """`batch *space out`."""
        graph, config, given, axes = self.graph, self.config, self.request.given, spaces(self.request)
        x = graph.add("Transpose", self.input("x"), name="x.channel_second", perm=channel_second(axes))
        dilation = per_axis(config["dilation"], axes)
        if config["padding"] in NAMED and set(dilation) == {1}:
            padding: dict[str, Any] = {"auto_pad": config["padding"].upper().replace("-", "_")}
        else:  # the runtime has no auto_pad for a dilated kernel
            sides = zip(*convolution_pads(self.request), strict=True)
            padding = {"auto_pad": "NOTSET", "pads": [side for ends in sides for side in ends]}
        convolved = graph.add(
            "Conv",
            *[n for n in (x, "W", self.held("B")) if n],
            name="convolved",
            kernel_shape=self.request.weights["kernel"].shape[:axes],
            **given("strides", strides=per_axis(config["strides"], axes)),
            **given("dilation", dilations=dilation),
            **self.groups(),
            **given("padding", **padding),
        )
        return graph.add("Transpose", convolved, name="output", perm=channel_last(axes))


SUBJECTS = tuple(Conv.over(axes) for axes in (1, 2, 3))
