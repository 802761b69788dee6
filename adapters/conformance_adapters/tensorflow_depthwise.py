"""TensorFlow's own depthwise and separable convolutions."""

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
        """No padding puts the odd pixel before; a stride is the same along both axes, and one where there is dilation
        (where it is not, TensorFlow computes something else, for which it has only a warning)."""
        padding = request.config["padding"]
        strides, dilation = (per_axis(request.config[n], 2) for n in ("strides", "dilation"))
        if isinstance(padding, str) and padding not in cls.names:
            return f"cannot express padding={padding!r}"
        if max(strides) > 1 and max(dilation) > 1:
            return "has no strides where there is dilation"
        return None if len(set(strides)) == 1 else "has one stride for both axes"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """In a graph, a bias after explicit amounts ends the process: the two are fused into an operation of oneDNN.

        TensorFlow 2.21, SIGABRT, in float32 and bfloat16 alone; eager computes them rightly.
        """
        fused = request.mode == GRAPH and "bias" in request.weights and request.dtype in ("float32", "bfloat16")
        if fused and cls is DepthwiseConv2D and not isinstance(request.config["padding"], str):
            return "ends the process in a graph where a bias follows explicit padding"
        return super().refuses(request)

    def convolved(self, **options: Any) -> Any:
        """What the operation gives, `batch height width out`."""
        import tensorflow as tf

        return tf.nn.depthwise_conv2d(self.given["x"], self.variables["kernel"], **options)

    def __call__(self) -> Any:
        """The output, `batch height width out`."""
        import tensorflow as tf

        padding = self.config["padding"]
        amounts = self.names[padding] if isinstance(padding, str) else [[0, 0], *map(list, padding), [0, 0]]
        strides, dilations = (per_axis(self.config[n], 2) for n in ("strides", "dilation"))
        made = self.convolved(strides=[1, *strides, 1], padding=amounts, dilations=list(dilations))
        return tf.nn.bias_add(made, self.variables["bias"]) if "bias" in self.variables else made


class SeparableConv2D(DepthwiseConv2D):
    """`tf.nn.separable_conv2d`, the pointwise kernel of which has two axes of one element."""

    name = "tf.nn.separable_conv2d"
    layer = "separable_conv2d"
    weight_names = ("depthwise_kernel", "pointwise_kernel", "bias")
    parameters = (
        Parameter(
            "depthwise_kernel",
            "depthwise_kernel",
            "height width channel multiplier -> height width channel multiplier",
        ),
        Parameter("pointwise_kernel", "pointwise_kernel", "depth out -> 1 1 depth out"),
        Parameter("bias", "bias", "out -> out"),
    )

    def convolved(self, **options: Any) -> Any:
        """What the operation gives, `batch height width out`."""
        import tensorflow as tf

        kernels = (self.variables[name] for name in ("depthwise_kernel", "pointwise_kernel"))
        return tf.nn.separable_conv2d(self.given["x"], *kernels, **options)


SUBJECTS = (DepthwiseConv2D, SeparableConv2D)
