"""TensorFlow's own transposed convolutions, for any number of spatial axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from conformance.layout import Parameter
from conformance_adapters.tensorflow_subject import TensorFlowSubject
from conformance_adapters.window_padding import per_axis, transposed_crops

if TYPE_CHECKING:
    from conformance.trace import Request


class TransposedConvolution(TensorFlowSubject):
    """`tf.nn.conv2d_transpose` and its like, told the shape of the output."""

    name = "tf.nn.conv{axes}d_transpose"
    layer = "conv_transpose{axes}d"
    axes: ClassVar[int]
    weight_names = ("kernel", "bias")
    names: ClassVar = {"valid": "VALID", "same-upper": "SAME"}
    options: ClassVar = {"strides": None, "padding": tuple(names), "dilation": None, "output_padding": (0,)}
    parameters = (
        Parameter("kernel", "kernel", "... out channel -> ... out channel"),
        Parameter("bias", "bias", "out -> out"),
    )

    @classmethod
    def over(cls, axes: int) -> type[TransposedConvolution]:
        """The subject of so many spatial axes: `{axes}` of its names is their number."""
        named = {n: getattr(cls, n).format(axes=axes) for n in ("name", "layer")}
        return type(cls.__name__, (cls,), {**named, "axes": axes, "__doc__": cls.__doc__})

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        x, kernel = request.inputs["x"], request.weights["kernel"]
        self.strides, self.dilations = (list(per_axis(request.config[n], self.axes)) for n in ("strides", "dilation"))
        whole = [
            (n - 1) * s + d * (k - 1) + 1 - before - after
            for n, k, s, d, (before, after) in zip(
                x.shape[1:-1],
                kernel.shape[: self.axes],
                self.strides,
                self.dilations,
                transposed_crops(request),
                strict=True,
            )
        ]
        self.shape = [len(x), *whole, kernel.shape[-2]]

    def __call__(self) -> Any:
        """The output, `batch *space out`."""
        import tensorflow as tf

        function = getattr(tf.nn, f"conv{self.axes}d_transpose")
        padding = self.names[self.config["padding"]]
        made = function(
            self.given["x"], self.variables["kernel"], self.shape, self.strides, padding, dilations=self.dilations
        )
        return tf.nn.bias_add(made, self.variables["bias"]) if "bias" in self.variables else made


SUBJECTS = tuple(TransposedConvolution.over(axes) for axes in (1, 2, 3))
