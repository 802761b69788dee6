"""PyTorch's normalisation layers other than LayerNorm as subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformance.errors import Unsupported
from conformance.layout import Parameter
from conformance.sizes import drawn
from conformance_adapters.torch_subject import TorchSubject

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from conformance.trace import Request


class RMSNorm(TorchSubject):
    """torch.nn.RMSNorm over the last axis."""

    name: ClassVar[str] = "torch.nn.RMSNorm"
    layer: ClassVar[str] = "rms_norm"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """It has no bias."""
        return "it has no bias" if "bias" in request.weights else None

    def make(self) -> torch.nn.Module:
        """The module; without a scale it has no parameters."""
        from torch.nn import RMSNorm as Module

        width = self.request.inputs["x"].shape[-1]
        epsilon = self.request.given("epsilon", eps=self.config["epsilon"])
        return Module(width, elementwise_affine="scale" in self.request.weights, **epsilon)

    def layouts(self) -> Sequence[Parameter]:
        """As it is."""
        return [Parameter("weight", "scale", "channel -> channel")]

    def forward(self) -> torch.Tensor:
        """The shape of x."""
        return self.module(self.inputs["x"])

    @classmethod
    def read_config(cls, module: Any) -> dict[str, Any]:
        """The config of a user's module. Raises Unsupported where it is over several axes, or has no epsilon to read.

        Without an eps, PyTorch takes that of the input's dtype, and float32's for a narrower one.
        """
        import torch

        if len(module.normalized_shape) != 1:
            raise Unsupported(f"{cls.name} over the axes {tuple(module.normalized_shape)} together")
        if module.eps is not None:
            return {"epsilon": module.eps}
        if module.weight is None:
            raise Unsupported(f"{cls.name} without eps takes that of its input's dtype: give it its eps")
        dtype = torch.promote_types(module.weight.dtype, torch.float32)
        return {"epsilon": torch.finfo(dtype).eps}


def second(x: torch.Tensor) -> torch.Tensor:
    """`batch channel *space`, a view of `batch *space channel`."""
    return x.permute(0, x.ndim - 1, *range(1, x.ndim - 1))


def last(x: torch.Tensor) -> torch.Tensor:
    """`batch *space channel`, a view of `batch channel *space`."""
    return x.permute(0, *range(2, x.ndim), 1)


class _ChannelsFirst(TorchSubject):
    """A module whose channels are its second axis, with a weight and a bias, or neither."""

    def layouts(self) -> Sequence[Parameter]:
        """As they are."""
        return [Parameter("weight", "scale", "channel -> channel"), Parameter("bias", "bias", "channel -> channel")]

    @property
    def affine(self) -> bool:
        """Whether a scale or a bias is asked for."""
        return "scale" in self.request.weights or "bias" in self.request.weights

    @property
    def channels(self) -> int:
        """The number of channels."""
        return self.request.inputs["x"].shape[-1]

    @property
    def epsilon(self) -> dict[str, Any]:
        """The argument for it, where it is not left to PyTorch."""
        return self.request.given("epsilon", eps=self.config["epsilon"])

    def neutral(self) -> Mapping[str, NDArray[Any]]:
        """A scale comes with a bias, and a bias with a scale."""
        return {"scale": np.ones(self.channels), "bias": np.zeros(self.channels)} if self.affine else {}

    def forward(self) -> torch.Tensor:
        """`batch *space channel`."""
        return last(self.module(second(self.inputs["x"]).contiguous()))


class GroupNorm(_ChannelsFirst):
    """torch.nn.GroupNorm."""

    name: ClassVar[str] = "torch.nn.GroupNorm"
    layer: ClassVar[str] = "group_norm"

    def make(self) -> torch.nn.Module:
        """The module."""
        from torch.nn import GroupNorm as Module

        return Module(self.config["groups"], self.channels, affine=self.affine, **self.epsilon)

    @classmethod
    def read_config(cls, module: Any) -> dict[str, Any]:
        """The config of a user's module."""
        return {"groups": module.num_groups, "epsilon": module.eps}


class ChannelsLastGroupNorm(GroupNorm):
    """torch.nn.GroupNorm of a tensor whose channels are last in memory, for which PyTorch has another kernel."""

    name: ClassVar[str] = "torch.nn.GroupNorm(channels_last)"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """The memory format is one of images and volumes."""
        return None if request.inputs["x"].ndim in (4, 5) else "channels_last is for two or three axes of space"

    def forward(self) -> torch.Tensor:
        """`batch *space channel`."""
        return last(self.module(second(self.inputs["x"])))


class InstanceNorm(_ChannelsFirst):
    """torch.nn.InstanceNorm1d, 2d or 3d."""

    name: ClassVar[str] = "torch.nn.InstanceNorm"
    layer: ClassVar[str] = "instance_norm"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """There is one for each of one to three axes of space."""
        space = request.inputs["x"].ndim - 2
        return None if 1 <= space <= 3 else f"it has one to three axes of space, not {space}"

    def make(self) -> torch.nn.Module:
        """The module for as many axes of space as x has."""
        from torch import nn

        kind = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)[self.request.inputs["x"].ndim - 3]
        return kind(self.channels, affine=self.affine, **self.epsilon)

    @classmethod
    def read_config(cls, module: Any) -> dict[str, Any]:
        """The config of a user's module. Raises Unsupported where it would use statistics that it has kept."""
        if module.track_running_stats:
            raise Unsupported(f"{cls.name} with track_running_stats, which normalises with what it has kept")
        return {"epsilon": module.eps}


class BatchNorm(_ChannelsFirst):
    """torch.nn.BatchNorm1d, 2d or 3d. Its momentum is the weight of the new."""

    name: ClassVar[str] = "torch.nn.BatchNorm"
    layer: ClassVar[str] = "batch_norm"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """There is one for each of up to three axes of space."""
        space = request.inputs["x"].ndim - 2
        return None if space <= 3 else f"it has up to three axes of space, not {space}"

    def make(self) -> torch.nn.Module:
        """The module for as many axes of space as x has."""
        from torch import nn

        kind = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[self.request.inputs["x"].ndim - 2]
        momentum = self.request.given("momentum", momentum=1 - self.config["momentum"])
        return kind(self.channels, affine=self.affine, **self.epsilon, **momentum)

    def layouts(self) -> Sequence[Parameter]:
        """As they are."""
        own = [("running_mean", "moving_mean"), ("running_var", "moving_variance")]
        return [*super().layouts(), *(Parameter(n, w, "channel -> channel") for n, w in own)]

    def prepare(self) -> None:
        """Training changes the moving averages: each call begins with the same ones."""
        self.first = {n: buffer.clone() for n, buffer in self.module.named_buffers()}

    def forward(self) -> torch.Tensor:
        """`batch *space channel`; in training, the moving averages that it leaves are looked at."""
        if not self.config["training"]:
            return super().forward()
        self.module.train()
        for name, buffer in self.module.named_buffers():
            buffer.copy_(self.first[name])
        output = super().forward()
        for buffer in self.module.buffers():
            buffer.clone()
        return output

    @classmethod
    def read_config(cls, module: Any) -> dict[str, Any]:
        """The config of a user's module for inference. Raises Unsupported where it keeps no moving averages."""
        if not module.track_running_stats:
            raise Unsupported(f"{cls.name} without track_running_stats, which normalises each batch by itself")
        averaging = {} if module.momentum is None else {"momentum": 1 - module.momentum}
        return {"epsilon": module.eps, "training": False, **averaging}


def fitting(module: Any) -> dict[str, NDArray[Any]]:
    """An input of as many axes as the module takes, whose channels differ in their deviation, so that epsilon shows."""
    channels = getattr(module, "num_features", None) or module.num_channels
    kind = type(module).__name__
    space = (11, 5, 3)[: int(kind[-2])] if kind[-1] == "d" else (11,)
    return {"x": drawn("x", (2, *space, channels)) * np.logspace(-2, 0, channels)}


def channels_last(module: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """`batch *space channel` of what a module that has its channels second was called with."""
    x = given["input"]
    kind = type(module).__name__  # with as many axes of space as it says, an InstanceNorm takes a sample alone
    if kind.startswith("InstanceNorm") and x.ndim == int(kind[-2]) + 1:
        x = x[None]
    return {"x": last(x)}


SUBJECTS = (RMSNorm, GroupNorm, ChannelsLastGroupNorm, InstanceNorm, BatchNorm)
