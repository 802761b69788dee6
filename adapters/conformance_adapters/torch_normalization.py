"""PyTorch's normalisation layers other than LayerNorm as subjects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from conformance.errors import Unsupported
from conformance.layout import Parameter
from conformance_adapters.torch_subject import TorchSubject

if TYPE_CHECKING:
    import torch

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
        return Module(width, eps=self.config["epsilon"], elementwise_affine="scale" in self.request.weights)

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


SUBJECTS = (RMSNorm,)
