"""Keras's convolutions as subjects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from conformance.layout import Parameter
from conformance_adapters.keras_subject import KerasSubject
from conformance_adapters.window_padding import per_axis

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.trace import Request

KERAS_PADDING = {"valid": "valid", "same-upper": "same"}


class Convolution(KerasSubject):
    """`keras.layers.Conv2D` and its like, whose `same` puts the odd pixel after."""

    axes: ClassVar[int]
    kind: ClassVar[str] = "Conv{axes}D"
    name = "keras.layers.Conv{axes}D"
    layer = "conv{axes}d"
    weight_names = ("kernel", "bias")
    options: ClassVar = {"strides": None, "dilation": None, "groups": None, "padding": tuple(KERAS_PADDING)}
    parameters = (
        Parameter("kernel", "kernel", "... channel out -> ... channel out"),
        Parameter("bias", "bias", "out -> out"),
    )

    @classmethod
    def over(cls, axes: int) -> type[Convolution]:
        """The subject of so many spatial axes: `{axes}` of its names is their number. Causal padding is for one."""
        named: dict[str, Any] = {n: getattr(cls, n).format(axes=axes) for n in ("kind", "name", "layer")}
        if axes == 1 and cls.options["padding"] is not None:
            named["options"] = {**cls.options, "padding": (*cls.options["padding"], "causal")}
        return type(cls.__name__, (cls,), {**named, "axes": axes, "__doc__": cls.__doc__})

    @classmethod
    def reason(cls, request: Request) -> str | None:
        """Keras refuses strides together with dilation when the layer is made; TensorFlow has not every kernel."""
        if cls.backend == "tensorflow" and cls.axes == 3 and request.config["groups"] != 1:
            return "TensorFlow has no groups along three axes on the CPU"
        if _largest(request.config["strides"]) > 1 and _largest(request.config["dilation"]) > 1:
            return "`strides > 1` not supported in conjunction with `dilation_rate > 1`"
        return None

    def __init__(self, request: Request) -> None:
        from keras import layers

        super().__init__(request)
        config, kernel = request.config, request.weights["kernel"]
        padding = config["padding"]
        padding = KERAS_PADDING.get(padding, padding) if isinstance(padding, str) else "valid"
        self.instance = getattr(layers, self.kind)(
            kernel.shape[-1],
            kernel.shape[: self.axes],
            **request.given("strides", strides=per_axis(config["strides"], self.axes)),
            **request.given("padding", padding=padding),
            data_format="channels_last",
            **request.given("dilation", dilation_rate=per_axis(config["dilation"], self.axes)),
            **request.given("groups", groups=config["groups"]),
            use_bias="bias" in request.weights,
            dtype=request.dtype,
            name="convolution",
        )
        self.instance.build((*[None] * (self.axes + 1), request.inputs["x"].shape[-1]))
        self.load(self.instance, request.weights)

    def weights(self) -> dict[str, NDArray[Any]]:
        """The canonical weights, read back out of the layer."""
        return self.read(self.instance)

    def __call__(self) -> Any:
        """The output, `batch *space out`."""
        return self.instance(self.given["x"], training=False)


class ZeroPadded(KerasSubject):
    """A convolution behind `keras.layers.ZeroPadding2D` and its like: Keras's way to pad by given amounts."""

    axes: ClassVar[int]
    instance: Any

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
        zeros = getattr(layers, f"ZeroPadding{self.axes}D")
        self.pad = zeros(
            amounts if self.axes > 1 else amounts[0], data_format="channels_last", dtype=request.dtype, name="padding"
        )

    def __call__(self) -> Any:
        """The output, `batch *space out`."""
        return self.instance(self.pad(self.given["x"]), training=False)


class PaddedConvolution(ZeroPadded, Convolution):
    """`keras.layers.Conv2D` and its like behind a padding."""

    name = "keras.layers.ZeroPadding{axes}D+keras.layers.Conv{axes}D"
    options: ClassVar = {**Convolution.options, "padding": None}


Conv1D, Conv2D, Conv3D = (Convolution.over(axes) for axes in (1, 2, 3))
SUBJECTS = (
    *(Conv1D, PaddedConvolution.over(1)),
    *(Conv2D, PaddedConvolution.over(2)),
    *(Conv3D, PaddedConvolution.over(3)),
)


def _largest(size: Any) -> int:
    return size if isinstance(size, int) else max(size)
