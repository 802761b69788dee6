"""PyTorch's pools, for any number of spatial axes: channels are their second axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from conformance_adapters.torch_subject import TorchSubject, to_channels_last, to_channels_second
from conformance_adapters.window_padding import alike, per_axis, pool_pads

if TYPE_CHECKING:
    import torch

    from conformance.trace import Request


class Pool(TorchSubject):
    """A module of torch.nn over `axes` spatial axes, called `module_name`."""

    axes: ClassVar[int]
    module_name: ClassVar[str]

    @classmethod
    def over(cls, axes: int) -> type[Pool]:
        """The subject of so many spatial axes: `{axes}` of its names is their number."""
        named = {n: getattr(cls, n).format(axes=axes) for n in ("name", "layer", "module_name")}
        return type(cls.__name__, (cls,), {**named, "axes": axes, "__doc__": cls.__doc__})

    def make(self) -> torch.nn.Module:
        """The module, with the options of the config."""
        from torch import nn

        made: torch.nn.Module = getattr(nn, self.module_name)(**self.options())
        return made

    def options(self) -> dict[str, Any]:
        """The constructor's arguments."""
        raise NotImplementedError

    def forward(self) -> torch.Tensor:
        """`batch *space channel`."""
        return to_channels_last(self.module(to_channels_second(self.inputs["x"])))


class MaxPool(Pool):
    """torch.nn.MaxPool with a padding of its own, which is the same on both sides and no more than half a window."""

    name = "torch.nn.MaxPool{axes}d"
    layer = "max_pool{axes}d"
    module_name = "MaxPool{axes}d"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """It pads both sides alike."""
        pairs, window = pool_pads(request), per_axis(request.config["size"], cls.axes)
        if not alike(pairs):
            return f"it pads both sides alike, and {pairs} is asked for"
        if any(2 * before > extent for (before, _), extent in zip(pairs, window, strict=True)):
            return f"it pads by half a window at the most, and {pairs} is asked for"
        return None

    def padding(self) -> tuple[int, ...]:
        """The module's own padding."""
        return tuple(before for before, _ in pool_pads(self.request))

    def options(self) -> dict[str, Any]:
        """Size, strides, padding and the rounding of the number of windows."""
        return {
            "kernel_size": per_axis(self.config["size"], self.axes),
            "stride": per_axis(self.config["strides"], self.axes),
            "padding": self.padding(),
            "ceil_mode": self.config["ceil_mode"],
        }


class AvgPool(MaxPool):
    """torch.nn.AvgPool, told whether to count its padding."""

    name = "torch.nn.AvgPool{axes}d"
    layer = "average_pool{axes}d"
    module_name = "AvgPool{axes}d"

    def options(self) -> dict[str, Any]:
        """As of a maximum; and what counts."""
        return {**super().options(), "count_include_pad": self.config["count_include_pad"]}


class PaddedMaxPool(MaxPool):
    """torch.nn.ConstantPad with minus infinity in front of torch.nn.MaxPool, where the latter has no such padding."""

    name = "torch.nn.ConstantPad{axes}d(-inf) + torch.nn.MaxPool{axes}d"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """What torch.nn.MaxPool does alone, and a number of windows that depends on what is padding."""
        if super().refuses(request) is None:
            return f"torch.nn.{cls.module_name} has this padding of its own"
        return "it takes padding for input where windows are left over" if request.config["ceil_mode"] else None

    def padding(self) -> tuple[int, ...]:
        """None: it is in front."""
        return (0,) * self.axes

    def make(self) -> torch.nn.Module:
        """The two modules in a row."""
        from torch import nn

        amounts = [side for pair in reversed(pool_pads(self.request)) for side in pair]
        pad = getattr(nn, f"ConstantPad{self.axes}d")(amounts, float("-inf"))
        return nn.Sequential(pad, super().make())


class GlobalPool(Pool):
    """An adaptive pool of one window."""

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """Another number of axes."""
        axes = request.inputs["x"].ndim - 2
        return None if axes == cls.axes else f"it pools over {cls.axes} axes, not over {axes}"

    def options(self) -> dict[str, Any]:
        """One element along each axis."""
        return {"output_size": 1}

    def forward(self) -> torch.Tensor:
        """`batch channel`."""
        return self.module(to_channels_second(self.inputs["x"])).flatten(1)


class GlobalAveragePool(GlobalPool):
    """torch.nn.AdaptiveAvgPool(1)."""

    name = "torch.nn.AdaptiveAvgPool{axes}d(1)"
    layer = "global_average_pool"
    module_name = "AdaptiveAvgPool{axes}d"


class GlobalMaxPool(GlobalPool):
    """torch.nn.AdaptiveMaxPool(1)."""

    name = "torch.nn.AdaptiveMaxPool{axes}d(1)"
    layer = "global_max_pool"
    module_name = "AdaptiveMaxPool{axes}d"


class AdaptiveAveragePool(Pool):
    """torch.nn.AdaptiveAvgPool."""

    name = "torch.nn.AdaptiveAvgPool{axes}d"
    layer = "adaptive_average_pool{axes}d"
    module_name = "AdaptiveAvgPool{axes}d"

    def options(self) -> dict[str, Any]:
        """How many windows there are along each axis."""
        return {"output_size": per_axis(self.config["size"], self.axes)}


POOLS = {
    kind.over(axes).name: kind.over(axes)
    for kind in (MaxPool, PaddedMaxPool, AvgPool, GlobalAveragePool, GlobalMaxPool)
    for axes in (1, 2, 3)
} | {"torch.nn.AdaptiveAvgPool2d": AdaptiveAveragePool.over(2)}
SUBJECTS = tuple(POOLS.values())
