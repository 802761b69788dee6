"""Keras's pools as subjects, for any number of spatial axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from conformance_adapters.keras_convolution import KERAS_PADDING
from conformance_adapters.keras_subject import KerasSubject
from conformance_adapters.tensorflow_modes import GRAPH
from conformance_adapters.window_padding import per_axis, spaces

if TYPE_CHECKING:
    from conformance.trace import Request


class Pool(KerasSubject):
    """A layer of keras.layers over `axes` spatial axes, called `kind`."""

    axes: ClassVar[int]
    kind: ClassVar[str]

    @classmethod
    def over(cls, axes: int) -> type[Pool]:
        """The subject of so many spatial axes: `{axes}` of its names is their number."""
        named = {n: getattr(cls, n).format(axes=axes) for n in ("kind", "layer")}
        own = {**named, "name": f"keras.layers.{named['kind']}", "axes": axes, "__doc__": cls.__doc__}
        return type(cls.__name__, (cls,), own)

    def __init__(self, request: Request) -> None:
        from keras import layers

        super().__init__(request)
        self.instance = getattr(layers, self.kind)(**self.arguments(), data_format="channels_last", dtype=request.dtype)

    def arguments(self) -> dict[str, Any]:
        """The layer's own arguments."""
        return {}

    def __call__(self) -> Any:
        """The output, channels last."""
        return self.instance(self.given["x"])


class MaxPooling(Pool):
    """`keras.layers.MaxPooling`, whose `same` puts the odd element after."""

    kind = "MaxPooling{axes}D"
    layer = "max_pool{axes}d"
    options: ClassVar = {"size": None, "strides": None, "padding": tuple(KERAS_PADDING)}

    def arguments(self) -> dict[str, Any]:
        """Size, strides and padding."""
        config = self.request.config
        return {
            "pool_size": per_axis(config["size"], self.axes),
            "strides": per_axis(config["strides"], self.axes),
            "padding": KERAS_PADDING[config["padding"]],
        }


class AveragePooling(MaxPooling):
    """`keras.layers.AveragePooling`, which does not count what it pads."""

    kind = "AveragePooling{axes}D"
    layer = "average_pool{axes}d"


class GlobalPooling(Pool):
    """A layer that pools over all of a channel."""

    @classmethod
    def reason(cls, request: Request) -> str | None:
        """Another number of axes."""
        axes = spaces(request)
        return None if axes == cls.axes else f"it pools over {cls.axes} axes, not over {axes}"


class GlobalAveragePooling(GlobalPooling):
    """`keras.layers.GlobalAveragePooling`."""

    kind = "GlobalAveragePooling{axes}D"
    layer = "global_average_pool"


class GlobalMaxPooling(GlobalPooling):
    """`keras.layers.GlobalMaxPooling`."""

    kind = "GlobalMaxPooling{axes}D"
    layer = "global_max_pool"


class AdaptiveAveragePooling(Pool):
    """`keras.layers.AdaptiveAveragePooling`."""

    kind = "AdaptiveAveragePooling{axes}D"
    layer = "adaptive_average_pool{axes}d"
    options: ClassVar = {"size": None}

    @classmethod
    def reason(cls, request: Request) -> str | None:
        """One window for a whole axis: in a TensorFlow graph, Keras 3.15 makes a pool larger than the input of it."""
        whole = 1 in per_axis(request.config["size"], cls.axes)
        return "has no window of a whole axis in a graph" if whole and request.mode == GRAPH else None

    def arguments(self) -> dict[str, Any]:
        """How many windows there are along each axis."""
        return {"output_size": per_axis(self.request.config["size"], self.axes)}


POOLS = {
    kind.over(axes).kind: kind.over(axes)
    for kind in (MaxPooling, AveragePooling, GlobalAveragePooling, GlobalMaxPooling)
    for axes in (1, 2, 3)
} | {"AdaptiveAveragePooling2D": AdaptiveAveragePooling.over(2)}
SUBJECTS = tuple(POOLS.values())
