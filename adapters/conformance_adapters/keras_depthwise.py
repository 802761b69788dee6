"""Keras's depthwise convolution as a subject."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from conformance.layout import Parameter
from conformance_adapters.keras_convolution import KERAS_PADDING
from conformance_adapters.keras_subject import KerasSubject
from conformance_adapters.window_padding import per_axis

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.trace import Request


class DepthwiseConv2D(KerasSubject):
    """`keras.layers.DepthwiseConv2D`, whose `same` puts the odd pixel after."""

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
        """Keras refuses strides together with dilation."""
        if max(per_axis(request.config["strides"], 2)) > 1 and max(per_axis(request.config["dilation"], 2)) > 1:
            return "`strides > 1` not supported in conjunction with `dilation_rate > 1`"
        return None

    def __init__(self, request: Request) -> None:
        from keras import layers

        super().__init__(request)
        config, kernel = request.config, request.weights["kernel"]
        self.instance = layers.DepthwiseConv2D(
            kernel.shape[:2],
            depth_multiplier=kernel.shape[-1],
            **request.given("strides", strides=per_axis(config["strides"], 2)),
            **request.given("padding", padding=KERAS_PADDING[config["padding"]]),
            **request.given("dilation", dilation_rate=per_axis(config["dilation"], 2)),
            data_format="channels_last",
            use_bias="bias" in request.weights,
            dtype=request.dtype,
            name="depthwise",
        )
        self.instance.build((None, None, None, request.inputs["x"].shape[-1]))
        self.load(self.instance, request.weights)

    def weights(self) -> dict[str, NDArray[Any]]:
        """The canonical weights, read back out of the layer."""
        return self.read(self.instance)

    def __call__(self) -> Any:
        """The output, `batch height width out`."""
        return self.instance(self.given["x"], training=False)


SUBJECTS = (DepthwiseConv2D,)
