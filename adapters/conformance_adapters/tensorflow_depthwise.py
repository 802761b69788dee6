"""TensorFlow's own depthwise convolution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from conformance.layout import Parameter
from conformance_adapters.tensorflow_modes import GRAPH
from conformance_adapters.tensorflow_subject import TensorFlowSubject
from conformance_adapters.window_padding import per_axis

if TYPE_CHECKING:
    from conformance.trace import Request


class DepthwiseConv2D(TensorFlowSubject):
    """`tf.nn.depthwise_conv2d`, whose SAME puts the odd pixel after."""

    name = "tf.nn.depthwise_conv2d"
    layer = "depthwise_conv2d"
    weight_names = ("kernel", "bias")
    names: ClassVar = {"valid": "VALID", "same-upper": "SAME"}
    options: ClassVar = {"strides": None, "padding": None, "dilation": None}
    parameters = (
        Parameter("kernel", "kernel", "height width channel multiplier -> height width channel multiplier"),
        Parameter("bias", "bias", "out -> out"),
    )

    @classmethod
    def reason(cls, request: Request) -> str | None:
        """No padding puts the odd pixel before, and a stride is the same along both axes.

        In a graph, explicit amounts end the process (TensorFlow 2.21, SIGABRT), where eager computes them rightly.
        """
        padding, strides = request.config["padding"], per_axis(request.config["strides"], 2)
        if request.mode == GRAPH and not isinstance(padding, str):
            return "ends the process in a graph where the padding is explicit"
        if isinstance(padding, str) and padding not in cls.names:
            return f"cannot express padding={padding!r}"
        return None if len(set(strides)) == 1 else "has one stride for both axes"

    def __call__(self) -> Any:
        """The output, `batch height width out`."""
        import tensorflow as tf

        padding = self.config["padding"]
        amounts = self.names[padding] if isinstance(padding, str) else [[0, 0], *map(list, padding), [0, 0]]
        strides, dilations = (per_axis(self.config[n], 2) for n in ("strides", "dilation"))
        made = tf.nn.depthwise_conv2d(
            self.given["x"], self.variables["kernel"], [1, *strides, 1], amounts, dilations=list(dilations)
        )
        return tf.nn.bias_add(made, self.variables["bias"]) if "bias" in self.variables else made


SUBJECTS = (DepthwiseConv2D,)
