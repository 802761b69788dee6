"""Keras's depthwise and separable convolutions as subjects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from conformance.layout import Parameter
from conformance_adapters.keras_convolution import KERAS_PADDING, ZeroPadded
from conformance_adapters.keras_subject import KerasSubject
from conformance_adapters.window_padding import per_axis

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.trace import Request


class DepthwiseConv2D(KerasSubject):
    """`keras.layers.DepthwiseConv2D`, whose `same` puts the odd pixel after."""

    axes: ClassVar[int] = 2
    kind: ClassVar[str] = "DepthwiseConv2D"
    name = "keras.layers.DepthwiseConv2D"
    layer = "depthwise_conv2d"
    weight_names = ("kernel", "bias")
    options: ClassVar = {"strides": None, "dilation": None, "padding": tuple(KERAS_PADDING)}
    parameters = (
        Parameter("kernel", "kernel", "height width channel multiplier -> height width channel multiplier"),
        Parameter("bias", "bias", "out -> out"),
    )

    @classmethod
    def reason(cls, request: Request) -> str | None:
        """TensorFlow's kernel for the CPU has one stride, which Keras takes apart only where there is dilation."""
        strides, dilation = (per_axis(request.config[n], 2) for n in ("strides", "dilation"))
        if cls.backend == "tensorflow" and len(set(strides)) > 1 and max(dilation) == 1:
            return "TensorFlow has one stride for both axes on the CPU"
        return None

    def __init__(self, request: Request) -> None:
        from keras import layers

        super().__init__(request)
        config, kernel = request.config, request.weights[self.parameters[0].weights]
        padding = KERAS_PADDING[config["padding"]] if isinstance(config["padding"], str) else "valid"
        self.instance = getattr(layers, self.kind)(
            **self.outputs(),
            kernel_size=kernel.shape[:2],
            depth_multiplier=kernel.shape[-1],
            **request.given("strides", strides=per_axis(config["strides"], 2)),
            **request.given("padding", padding=padding),
            **request.given("dilation", dilation_rate=per_axis(config["dilation"], 2)),
            data_format="channels_last",
            use_bias="bias" in request.weights,
            dtype=request.dtype,
            name="convolution",
        )
        self.instance.build((None, None, None, request.inputs["x"].shape[-1]))
        self.load(self.instance, request.weights)

    def outputs(self) -> dict[str, Any]:
        """The argument for the number of channels that come out, where it is not settled."""
        return {}

    def weights(self) -> dict[str, NDArray[Any]]:
        """The canonical weights, read back out of the layer."""
        return self.read(self.instance)

    def __call__(self) -> Any:
        """The output, `batch height width out`."""
        return self.instance(self.given["x"], training=False)


class SeparableConv2D(DepthwiseConv2D):
    """`keras.layers.SeparableConv2D`, the pointwise kernel of which has two axes of one element."""

    kind: ClassVar[str] = "SeparableConv2D"
    name = "keras.layers.SeparableConv2D"
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

    def outputs(self) -> dict[str, Any]:
        """As many as the pointwise kernel has."""
        return {"filters": self.request.weights["pointwise_kernel"].shape[-1]}


class PaddedDepthwiseConv2D(ZeroPadded, DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` behind a padding."""

    name = "keras.layers.ZeroPadding2D+keras.layers.DepthwiseConv2D"
    options: ClassVar = {**DepthwiseConv2D.options, "padding": None}


class PaddedSeparableConv2D(ZeroPadded, SeparableConv2D):
    """`keras.layers.SeparableConv2D` behind a padding."""

    name = "keras.layers.ZeroPadding2D+keras.layers.SeparableConv2D"
    options: ClassVar = {**SeparableConv2D.options, "padding": None}


SUBJECTS = (DepthwiseConv2D, PaddedDepthwiseConv2D, SeparableConv2D, PaddedSeparableConv2D)
