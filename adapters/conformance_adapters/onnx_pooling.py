"""ONNX's pools, for any number of spatial axes: channels are their second axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from conformance_adapters.onnx_subject import OnnxSubject
from conformance_adapters.window_padding import NAMED, past_window, per_axis, pool_pads, spaces

if TYPE_CHECKING:
    from conformance.trace import Request


def channel_second(axes: int) -> list[int]:
    """The order of axes that Transpose makes of `batch *space channel`."""
    return [0, axes + 1, *range(1, axes + 1)]


def channel_last(axes: int) -> list[int]:
    """The inverse of `channel_second`."""
    return [0, *range(2, axes + 2), 1]


class Pool(OnnxSubject):
    """A pool between two Transposes."""

    operation: ClassVar[str]

    @classmethod
    def over(cls, axes: int) -> type[Pool]:
        """The subject of so many spatial axes."""
        return type(cls.__name__, (cls,), {"layer": cls.layer.format(axes=axes), "__doc__": cls.__doc__})

    def pooled(self, **attributes: Any) -> str:
        """The operator's output, channels second."""
        perm = channel_second(spaces(self.request))
        x = self.graph.add("Transpose", self.input("x"), name="x.channel_second", perm=perm)
        return self.graph.add(self.operation, x, name="pooled", **attributes)


class MaxPool(Pool):
    """MaxPool."""

    name: ClassVar[str] = "onnx.MaxPool"
    layer: ClassVar[str] = "max_pool{axes}d"
    operation = "MaxPool"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """Padding is less than the window."""
        return "it pads less than its window" if past_window(request) else None

    def attributes(self) -> dict[str, Any]:
        """Size, strides, padding and the rounding of the number of windows."""
        config, axes = self.config, spaces(self.request)
        if config["padding"] in NAMED:
            padding: dict[str, Any] = {"auto_pad": config["padding"].upper().replace("-", "_")}
        else:
            padding = {"pads": [side for sides in zip(*pool_pads(self.request), strict=True) for side in sides]}
        return {
            "kernel_shape": per_axis(config["size"], axes),
            "strides": per_axis(config["strides"], axes),
            "ceil_mode": int(config["ceil_mode"]),
            **padding,
        }

    def build(self) -> str:
        """`batch *space channel`."""
        pooled = self.pooled(**self.attributes())
        return self.graph.add("Transpose", pooled, name="output", perm=channel_last(spaces(self.request)))


class AveragePool(MaxPool):
    """AveragePool, told whether to count its padding."""

    name: ClassVar[str] = "onnx.AveragePool"
    layer: ClassVar[str] = "average_pool{axes}d"
    operation = "AveragePool"

    def attributes(self) -> dict[str, Any]:
        """As of a maximum; and what counts."""
        return {**super().attributes(), "count_include_pad": int(self.config["count_include_pad"])}


class GlobalAveragePool(Pool):
    """GlobalAveragePool, without the axes of one element that it leaves."""

    name: ClassVar[str] = "onnx.GlobalAveragePool"
    layer: ClassVar[str] = "global_average_pool"
    operation = "GlobalAveragePool"

    def build(self) -> str:
        """`batch channel`."""
        return self.graph.add("Flatten", self.pooled(), name="output")


class GlobalMaxPool(GlobalAveragePool):
    """GlobalMaxPool, without the axes of one element that it leaves."""

    name: ClassVar[str] = "onnx.GlobalMaxPool"
    layer: ClassVar[str] = "global_max_pool"
    operation = "GlobalMaxPool"


SUBJECTS = (
    *(kind.over(axes) for kind in (MaxPool, AveragePool) for axes in (1, 2, 3)),
    GlobalAveragePool,
    GlobalMaxPool,
)
