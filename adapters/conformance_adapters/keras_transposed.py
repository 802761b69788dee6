"""Keras's transposed convolutions as subjects, for any number of spatial axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from conformance.layout import Parameter
from conformance_adapters.keras_convolution import KERAS_PADDING
from conformance_adapters.keras_subject import KerasSubject
from conformance_adapters.window_padding import per_axis

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.trace import Request


class TransposedConvolution(KerasSubject):
    """`keras.layers.Conv2DTranspose` and its like, whose `same` crops the odd element after."""

    axes: ClassVar[int]
    kind: ClassVar[str] = "Conv{axes}DTranspose"
    name = "keras.layers.Conv{axes}DTranspose"
    layer = "conv_transpose{axes}d"
    weight_names = ("kernel", "bias")
    options: ClassVar = {"strides": None, "dilation": None, "padding": tuple(KERAS_PADDING), "output_padding": (0,)}
    parameters = (
        Parameter("kernel", "kernel", "... out channel -> ... out channel"),
        Parameter("bias", "bias", "out -> out"),
    )

    @classmethod
    def over(cls, axes: int) -> type[TransposedConvolution]:
        """The subject of so many spatial axes: `{axes}` of its names is their number."""
        named = {n: getattr(cls, n).format(axes=axes) for n in ("kind", "name", "layer")}
        return type(cls.__name__, (cls,), {**named, "axes": axes, "__doc__": cls.__doc__})

    @classmethod
    def reason(cls, request: Request) -> str | None:
        """Keras refuses strides together with dilation, and leaves no fewer elements than a stride has."""
        strides, dilation = (per_axis(request.config[n], cls.axes) for n in ("strides", "dilation"))
        if max(strides) > 1 and max(dilation) > 1:
            return "`strides > 1` not supported in conjunction with `dilation_rate > 1`"
        window = request.weights["kernel"].shape[: cls.axes]
        if any(d * (k - 1) + 1 < s for k, s, d in zip(window, strides, dilation, strict=True)):
            return "adds zeros after a kernel that is shorter than its stride"
        return None

    def __init__(self, request: Request) -> None:
        from keras import layers

        super().__init__(request)
        config, kernel = request.config, request.weights["kernel"]
        self.instance = getattr(layers, self.kind)(
            kernel.shape[-2],
            kernel.shape[: self.axes],
            **request.given("strides", strides=per_axis(config["strides"], self.axes)),
            **request.given("padding", padding=KERAS_PADDING[config["padding"]]),
            **request.given("dilation", dilation_rate=per_axis(config["dilation"], self.axes)),
            data_format="channels_last",
            use_bias="bias" in request.weights,
            dtype=request.dtype,
            name="transposed",
        )
        self.instance.build((*[None] * (self.axes + 1), request.inputs["x"].shape[-1]))
        self.load(self.instance, request.weights)

    def weights(self) -> dict[str, NDArray[Any]]:
        """The canonical weights, read back out of the layer."""
        return self.read(self.instance)

    def __call__(self) -> Any:
        """The output, `batch *space out`."""
        return self.instance(self.given["x"], training=False)


TRANSPOSED = {axes: TransposedConvolution.over(axes) for axes in (1, 2, 3)}
SUBJECTS = tuple(TRANSPOSED.values())
