"""JAX's and Flax's transposed convolutions as subjects, for any number of spatial axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from conformance.layout import Parameter
from conformance_adapters.jax_subject import LinenSubject, NnxSubject
from conformance_adapters.window_padding import per_axis, whole_crops

if TYPE_CHECKING:
    from conformance.trace import Request

PADDING: Mapping[str, str] = {"valid": "VALID", "same-upper": "SAME"}


class _Transposed:
    """Without `transpose_kernel`, Flax holds the kernel flipped, and `in out`."""

    layer: ClassVar[str] = "conv_transpose{axes}d"
    axes: ClassVar[int]
    transpose_kernel: ClassVar[bool] = False
    request: Request
    dtype: Any
    parameters: Callable[[], Mapping[str, Any]]

    @classmethod
    def over(cls, axes: int) -> type[Self]:
        """The subject of so many spatial axes."""
        return type(cls.__name__, (cls,), {"layer": cls.layer.format(axes=axes), "axes": axes, "__doc__": cls.__doc__})

    def layouts(self) -> Sequence[Parameter]:
        """As they are, or flipped."""
        bias = Parameter("bias", "bias", "out -> out")
        if self.transpose_kernel:
            return [Parameter("kernel", "kernel", "... out channel -> ... out channel"), bias]
        held = self.request.weights.get("kernel")  # of a module that exists already, its own
        sizes = (self.parameters()["kernel"] if held is None else held).shape[: self.axes]
        space = [f"axis{i}" for i in range(self.axes)]
        flipped = {axis: tuple(reversed(range(size))) for axis, size in zip(space, sizes, strict=True)}
        along = " ".join(space)
        return [Parameter("kernel", "kernel", f"{along} out channel -> {along} channel out", order=flipped), bias]

    def options(self) -> dict[str, Any]:
        """The constructor's arguments that both modules have. Padding by amounts is what surrounds the input."""
        config, weights, given = self.request.config, self.request.weights, self.request.given
        size, dilation = weights["kernel"].shape[: self.axes], per_axis(config["dilation"], self.axes)
        strides = per_axis(config["strides"], self.axes)
        around = [
            (d * (k - 1) - before, d * (k - 1) - after)
            for k, d, (before, after) in zip(size, dilation, whole_crops(self.request), strict=True)
        ]
        # Where a stride is greater than the window, Flax's VALID leaves zeros after the last window.
        reaching = all(d * (k - 1) + 1 >= s for k, d, s in zip(size, dilation, strides, strict=True))
        plain = config["padding"] == "same-upper" or (config["padding"] == "valid" and reaching)
        plain = plain and not any(per_axis(config["output_padding"], self.axes))
        return {
            "kernel_size": size,
            **given("strides", strides=strides),
            **given("padding", padding=PADDING[config["padding"]] if plain else around),
            **given("dilation", kernel_dilation=dilation),
            "use_bias": "bias" in weights,
            "transpose_kernel": self.transpose_kernel,
            "param_dtype": self.dtype,
        }


class NnxConvTranspose(_Transposed, NnxSubject):
    """flax.nnx.ConvTranspose."""

    name: ClassVar[str] = "flax.nnx.ConvTranspose"

    def make(self) -> Any:
        """The module."""
        from flax import nnx

        into, out = self.request.inputs["x"].shape[-1], self.request.weights["kernel"].shape[-2]
        return nnx.ConvTranspose(into, out, rngs=nnx.Rngs(0), **self.options())


class LinenConvTranspose(_Transposed, LinenSubject):
    """flax.linen.ConvTranspose."""

    name: ClassVar[str] = "flax.linen.ConvTranspose"

    def make(self) -> Any:
        """The module."""
        from flax import linen

        return linen.ConvTranspose(self.request.weights["kernel"].shape[-2], **self.options())


class NnxConvTransposeOfKernel(NnxConvTranspose):
    """flax.nnx.ConvTranspose with the kernel of the convolution that it transposes."""

    name: ClassVar[str] = "flax.nnx.ConvTranspose(transpose_kernel=True)"
    transpose_kernel: ClassVar[bool] = True


class LinenConvTransposeOfKernel(LinenConvTranspose):
    """flax.linen.ConvTranspose with the kernel of the convolution that it transposes."""

    name: ClassVar[str] = "flax.linen.ConvTranspose(transpose_kernel=True)"
    transpose_kernel: ClassVar[bool] = True


SUBJECTS = tuple(
    kind.over(axes)
    for kind in (NnxConvTranspose, LinenConvTranspose, NnxConvTransposeOfKernel, LinenConvTransposeOfKernel)
    for axes in (1, 2, 3)
)
