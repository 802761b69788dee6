"""PyTorch's resizing: torch.nn.Upsample, and torch.nn.functional.interpolate where it has more options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from conformance_adapters.resize_sizes import factors, other_kernel, sizes
from conformance_adapters.torch_subject import TorchSubject, to_channels_last, to_channels_second
from conformance_adapters.window_padding import spaces

if TYPE_CHECKING:
    import torch

    from conformance.trace import Request

LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
NEAREST = {("asymmetric", "floor"): "nearest", ("half-pixel", "half-up"): "nearest-exact"}


class Upsample(TorchSubject):
    """torch.nn.Upsample."""

    name: ClassVar[str] = "torch.nn.Upsample"
    layer: ClassVar[str] = "resize"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """It has nearest elements of two kinds, and two placements of corners."""
        config = request.config
        if config["antialias"]:
            return "it has no antialias"
        return cls.unable(request)

    @classmethod
    def unable(cls, request: Request) -> str | None:
        """What PyTorch cannot do, with antialias or without."""
        config, mode, frame = request.config, request.config["mode"], request.config["coordinates"]
        if mode == "nearest":
            asked = frame, config["nearest_rounding"]
            return None if asked in NEAREST else f"it has no nearest element with {asked[0]} and {asked[1]}"
        if frame not in ("half-pixel", "align-corners"):
            return f"it has no {frame} coordinates"
        if mode == "bicubic" and spaces(request) != 2:
            return "its bicubic mode has two axes"
        return other_kernel(request, *((-0.5, "excluded") if config["antialias"] else (-0.75, "edge")))

    def options(self) -> dict[str, Any]:
        """The size or the scale, the mode and the corners."""
        config, mode, given = self.config, self.config["mode"], factors(self.request)
        named: dict[str, Any] = {"size": sizes(self.request)} if given is None else {"scale_factor": given}
        if mode == "nearest":
            return {**named, "mode": NEAREST[config["coordinates"], config["nearest_rounding"]]}
        named["mode"] = LINEAR[spaces(self.request)] if mode == "bilinear" else mode
        return {**named, "align_corners": config["coordinates"] == "align-corners"}

    def make(self) -> torch.nn.Module:
        """The module."""
        from torch import nn

        return nn.Upsample(**self.options())

    def forward(self) -> torch.Tensor:
        """`batch *resized channel`."""
        return to_channels_last(self.module(to_channels_second(self.inputs["x"])))


class Interpolate(Upsample):
    """torch.nn.functional.interpolate, antialiased."""

    name: ClassVar[str] = "torch.nn.functional.interpolate"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """What torch.nn.Upsample does, and other than two axes."""
        if not request.config["antialias"]:
            return "torch.nn.Upsample does it"
        if request.config["mode"] == "nearest" or spaces(request) != 2:
            return "antialiased, its modes are bilinear and bicubic"
        return cls.unable(request)

    def make(self) -> torch.nn.Module:
        """A module of nothing: it is a function."""
        from torch import nn

        return nn.Identity()

    def forward(self) -> torch.Tensor:
        """`batch *resized channel`."""
        from torch.nn import functional

        x = to_channels_second(self.inputs["x"])
        return to_channels_last(functional.interpolate(x, **self.options(), antialias=True))


SUBJECTS = (Upsample, Interpolate)
