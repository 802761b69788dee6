"""TensorFlow's own convolutions, for any number of spatial axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from conformance.layout import Parameter
from conformance_adapters.tensorflow_subject import TensorFlowSubject
from conformance_adapters.window_padding import per_axis

if TYPE_CHECKING:
    from conformance.trace import Request


class Convolution(TensorFlowSubject):
    """`tf.nn.conv2d` and its like; groups follow from the kernel's shape, and SAME puts the odd pixel after."""

    name = "tf.nn.conv{axes}d"
    layer = "conv{axes}d"
    axes: ClassVar[int]
    weight_names = ("kernel", "bias")
    options: ClassVar = {"strides": None, "padding": None, "dilation": None, "groups": None}
    parameters = (
        Parameter("kernel", "kernel", "... channel out -> ... channel out"),
        Parameter("bias", "bias", "out -> out"),
    )
    names: ClassVar = {"valid": "VALID", "same-upper": "SAME"}

    @classmethod
    def over(cls, axes: int) -> type[Convolution]:
        """The subject of so many spatial axes: `{axes}` of its names is their number."""
        named = {n: getattr(cls, n).format(axes=axes) for n in ("name", "layer")}
        return type(cls.__name__, (cls,), {**named, "axes": axes, "__doc__": cls.__doc__})

    @classmethod
    def reason(cls, request: Request) -> str | None:
        """No padding puts the odd pixel before, amounts are for two axes, and groups for no more than that."""
        padding = request.config["padding"]
        if cls.axes == 3 and request.config["groups"] != 1:
            return "has no groups along three axes on the CPU"
        if isinstance(padding, str):
            return None if padding in cls.names else f"cannot express padding={padding!r}"
        return None if cls.axes == 2 else "pads by given amounts along two axes only"

    def __call__(self) -> Any:
        """The output, `batch *space out`."""
        import tensorflow as tf

        padding = self.config["padding"]
        amounts = self.names[padding] if isinstance(padding, str) else [[0, 0], *map(list, padding), [0, 0]]
        strides, dilations = (list(per_axis(self.config[n], self.axes)) for n in ("strides", "dilation"))
        if self.axes == 3:  # which wants the axes of samples and channels, too
            strides, dilations = [1, *strides, 1], [1, *dilations, 1]
        function = getattr(tf.nn, f"conv{self.axes}d")
        convolved = function(self.given["x"], self.variables["kernel"], strides, amounts, dilations=dilations)
        return tf.nn.bias_add(convolved, self.variables["bias"]) if "bias" in self.variables else convolved


SUBJECTS = tuple(Convolution.over(axes) for axes in (1, 2, 3))
Conv2D = SUBJECTS[1]
