"""Keras's convolutions as subjects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from conformance.layout import Parameter
from conformance_adapters.keras_subject import KerasSubject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.trace import Request

KERAS_PADDING = {"valid": "valid", "same-upper": "same"}


class Conv2D(KerasSubject):
    """`keras.layers.Conv2D`, whose `same` puts the odd pixel right and bottom."""

    name = "keras.layers.Conv2D"
    layer = "conv2d"
    weight_names = ("kernel", "bias")
    options: ClassVar = {"strides": None, "dilation": None, "groups": None, "padding": tuple(KERAS_PADDING)}
    parameters = (
        Parameter("kernel", "kernel", "height width channel out -> height width channel out"),
        Parameter("bias", "bias", "out -> out"),
    )

    @classmethod
    def reason(cls, request: Request) -> str | None:
        """Keras refuses strides together with dilation when the layer is made."""
        if _largest(request.config["strides"]) > 1 and _largest(request.config["dilation"]) > 1:
            return "`strides > 1` not supported in conjunction with `dilation_rate > 1`"
        return None

    def __init__(self, request: Request) -> None:
        from keras import layers

        super().__init__(request)
        config, kernel = request.config, request.weights["kernel"]
        padding = KERAS_PADDING.get(config["padding"], "valid") if isinstance(config["padding"], str) else "valid"
        self.instance = layers.Conv2D(
            kernel.shape[-1],
            kernel.shape[:2],
            **request.given("strides", strides=config["strides"]),
            **request.given("padding", padding=padding),
            data_format="channels_last",
            **request.given("dilation", dilation_rate=config["dilation"]),
            **request.given("groups", groups=config["groups"]),
            use_bias="bias" in request.weights,
            dtype=request.dtype,
            name="conv2d",
        )
        self.instance.build((None, None, None, request.inputs["x"].shape[-1]))
        self.load(self.instance, request.weights)

    def weights(self) -> dict[str, NDArray[Any]]:
        """The canonical weights, read back out of the layer."""
        return self.read(self.instance)

    def __call__(self) -> Any:
        """The output, `batch height width out`."""
        return self.instance(self.given["x"], training=False)


class PaddedConv2D(Conv2D):
    """`keras.layers.Conv2D` behind `keras.layers.ZeroPadding2D`: Keras's way to pad by given amounts."""

    name = "keras.layers.ZeroPadding2D+keras.layers.Conv2D"
    options: ClassVar = {"strides": None, "dilation": None, "groups": None, "padding": None}

    @classmethod
    def reason(cls, request: Request) -> str | None:
        """Only explicit amounts need it."""
        if isinstance(request.config["padding"], str):
            return f"pads by given amounts only, not by {request.config['padding']!r}"
        return super().reason(request)

    def __init__(self, request: Request) -> None:
        from keras import layers

        super().__init__(request)
        amounts = tuple(tuple(pair) for pair in request.config["padding"])
        self.pad = layers.ZeroPadding2D(
            amounts, data_format="channels_last", dtype=request.dtype, name="zero_padding2d"
        )

    def __call__(self) -> Any:
        """The output, `batch height width out`."""
        return self.instance(self.pad(self.given["x"]), training=False)


def _largest(size: Any) -> int:
    return size if isinstance(size, int) else max(size)
