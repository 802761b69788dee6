"""A user's module that a fixture brings: a Python file beside the fixture's data, and a function in it.

The function is called as `build(config, weights)`, with the weights as tensors by their canonical names,
and returns a torch.nn.Module, which is called with the inputs by their canonical names.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from conformance.errors import ConformanceError
from conformance.loading import executed
from conformance_adapters.torch_subject import TorchSubject

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from conformance.trace import Request


class TorchSource(TorchSubject):
    """The module that `request.subject`, such as `padded_multi_head.py:build`, builds in `request.source`."""

    name: ClassVar[str] = "a module of the fixture"
    layer: ClassVar[str] = "any"

    def __init__(self, request: Request) -> None:
        import torch

        self.request = request
        self.config = request.config
        self.dtype = getattr(torch, request.dtype)
        self.inputs = {n: self.tensor(v) for n, v in request.inputs.items() if v is not None}
        self.module = self.make().to(self.dtype).eval()

    def make(self) -> torch.nn.Module:
        """What the fixture's function returns. Raises ConformanceError where it is no torch.nn.Module."""
        import torch

        file, _, function = self.request.subject.partition(":")
        path = Path(self.request.source or ".") / file
        build = getattr(executed(path), function, None)
        if build is None:
            raise ConformanceError(f"{path}: there is no function {function!r}")
        made = build(dict(self.config), {n: self.tensor(w) for n, w in self.request.weights.items()})
        if not isinstance(made, torch.nn.Module):
            raise ConformanceError(f"{path}: {function} returned a {type(made).__name__}, not a torch.nn.Module")
        return made

    def weights(self) -> dict[str, NDArray[Any]]:
        """Nothing: how a user's module holds its weights is its own affair."""
        return {}

    def forward(self) -> torch.Tensor:
        """The first tensor of what the module returns."""
        from conformance_adapters.torch_tape import tensors

        for tensor in tensors(self.module(**self.inputs)):
            return tensor
        raise ConformanceError(f"{self.request.subject}: the module returned no tensor")
