"""Flax's convolutions as subjects, for any number of spatial axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from conformance.layout import Parameter
from conformance_adapters.jax_subject import LinenSubject, NnxSubject
from conformance_adapters.window_padding import per_axis

if TYPE_CHECKING:
    from conformance.trace import Request

PADDING: Mapping[str, str] = {"valid": "VALID", "same-upper": "SAME", "same-lower": "SAME_LOWER"}
ONE_AXIS: Mapping[str, str] = {**PADDING, "causal": "CAUSAL"}


class _Convolution:
    layer: ClassVar[str] = "conv{axes}d"
    axes: ClassVar[int]
    request: Request
    dtype: Any

    @classmethod
    def over(cls, axes: int) -> type[Self]:
        """The subject of so many spatial axes."""
        return type(cls.__name__, (cls,), {"layer": cls.layer.format(axes=axes), "axes": axes, "__doc__": cls.__doc__})

    @classmethod
    def named(cls) -> Mapping[str, str]:
        """Flax's names for paddings."""
        return ONE_AXIS if cls.axes == 1 else PADDING

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """Padding is by name, or explicit."""
        padding = request.config["padding"]
        return f"it has no {padding} padding" if isinstance(padding, str) and padding not in cls.named() else None

    def layouts(self) -> Sequence[Parameter]:
        """As they are."""
        pattern = "... channel out -> ... channel out"
        return [Parameter("kernel", "kernel", pattern), Parameter("bias", "bias", "out -> out")]

    def options(self) -> dict[str, Any]:
        """The constructor's arguments that both modules have."""
        config, weights, given = self.request.config, self.request.weights, self.request.given
        padding = config["padding"]
        named = self.named()[padding] if isinstance(padding, str) else [tuple(side) for side in padding]
        return {
            "kernel_size": weights["kernel"].shape[: self.axes],
            **given("strides", strides=per_axis(config["strides"], self.axes)),
            **given("padding", padding=named),
            **given("dilation", kernel_dilation=per_axis(config["dilation"], self.axes)),
            **given("groups", feature_group_count=config.get("groups", 1)),
            "use_bias": "bias" in weights,
            "param_dtype": self.dtype,
        }


class NnxConv(_Convolution, NnxSubject):
    """flax.nnx.Conv."""

    name: ClassVar[str] = "flax.nnx.Conv"

    def make(self) -> Any:
        """The module."""
        from flax import nnx

        into, out = self.request.inputs["x"].shape[-1], self.request.weights["kernel"].shape[-1]
        return nnx.Conv(into, out, rngs=nnx.Rngs(0), **self.options())


class LinenConv(_Convolution, LinenSubject):
    """flax.linen.Conv."""

    name: ClassVar[str] = "flax.linen.Conv"

    def make(self) -> Any:
        """The module."""
        from flax import linen

        return linen.Conv(self.request.weights["kernel"].shape[-1], **self.options())


NNX, LINEN = ({axes: kind.over(axes) for axes in (1, 2, 3)} for kind in (NnxConv, LinenConv))
SUBJECTS = (*NNX.values(), *LINEN.values())
