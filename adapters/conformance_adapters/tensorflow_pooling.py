"""TensorFlow's own pools, for any number of spatial axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from conformance_adapters.tensorflow_subject import TensorFlowSubject
from conformance_adapters.window_padding import past_window, per_axis, pool_pads, spaces

if TYPE_CHECKING:
    from conformance.trace import Request

PADDING = {"valid": "VALID", "same-upper": "SAME"}


class MaxPool(TensorFlowSubject):
    """`tf.nn.max_pool`, whose SAME puts the odd element after."""

    name = "tf.nn.max_pool"
    layer: ClassVar[str] = "max_pool{axes}d"
    options: ClassVar = {"size": None, "strides": None, "padding": None}

    @classmethod
    def over(cls, axes: int) -> type[MaxPool]:
        """The subject of so many spatial axes."""
        return type(cls.__name__, (cls,), {"layer": cls.layer.format(axes=axes), "__doc__": cls.__doc__})

    @classmethod
    def reason(cls, request: Request) -> str | None:
        """Amounts are for two axes, and less than the window; no padding puts the odd element before."""
        padding = request.config["padding"]
        if isinstance(padding, str):
            return None if padding in PADDING else f"cannot express padding={padding!r}"
        if past_window(request):
            return "pads less than its window"
        return None if spaces(request) == 2 else "pads by given amounts along two axes only"

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        axes, padding = spaces(request), request.config["padding"]
        self.arguments: dict[str, Any] = {
            "ksize": list(per_axis(request.config["size"], axes)),
            "strides": list(per_axis(request.config["strides"], axes)),
            "padding": PADDING[padding]
            if isinstance(padding, str)
            else [[0, 0], *(list(pair) for pair in pool_pads(request)), [0, 0]],
        }

    def __call__(self) -> Any:
        """The output, `batch *space channel`."""
        import tensorflow as tf

        return tf.nn.max_pool(self.given["x"], **self.arguments)


class AvgPool(MaxPool):
    """`tf.nn.avg_pool`, which does not count what it pads."""

    name = "tf.nn.avg_pool"
    layer = "average_pool{axes}d"

    @classmethod
    def reason(cls, request: Request) -> str | None:
        """Padding is by name."""
        padding = request.config["padding"]
        return None if isinstance(padding, str) and padding in PADDING else f"cannot express padding={padding!r}"

    def __call__(self) -> Any:
        """The output, `batch *space channel`."""
        import tensorflow as tf

        return tf.nn.avg_pool(self.given["x"], **self.arguments)


class GlobalAveragePool(TensorFlowSubject):
    """`tf.math.reduce_mean` over the spatial axes."""

    name = "tf.math.reduce_mean"
    layer = "global_average_pool"

    def __call__(self) -> Any:
        """The output, `batch channel`."""
        import tensorflow as tf

        x = self.given["x"]
        return tf.math.reduce_mean(x, axis=list(range(1, len(x.shape) - 1)))


class GlobalMaxPool(TensorFlowSubject):
    """`tf.math.reduce_max` over the spatial axes."""

    name = "tf.math.reduce_max"
    layer = "global_max_pool"

    def __call__(self) -> Any:
        """The output, `batch channel`."""
        import tensorflow as tf

        x = self.given["x"]
        return tf.math.reduce_max(x, axis=list(range(1, len(x.shape) - 1)))


SUBJECTS = (*(kind.over(axes) for kind in (MaxPool, AvgPool) for axes in (1, 2, 3)), GlobalAveragePool, GlobalMaxPool)
