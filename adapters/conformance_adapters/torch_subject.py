"""One of PyTorch's own layers as a subject: its weights through declared layouts, its inputs as tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from conformance import layout
from conformance.layout import Parameter

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from conformance.trace import Request


class TorchSubject:
    """A torch.nn module that holds canonical weights.

    A subclass makes `module`, and says how its parameters are laid out (`layouts`) and what it computes
    (`forward`). A parameter that the module always has, and that the request has no weight for, is given
    its neutral value through `neutral`; it is not reported as a weight.
    """

    name: ClassVar[str]
    layer: ClassVar[str]

    def __init__(self, request: Request) -> None:
        self._ask(request)
        self.module = self.make().to(self.dtype).eval()
        held = {**self.neutral(), **request.weights}
        arrays = layout.write(self.layouts(), held)
        self.module.load_state_dict({n: self.tensor(a) for n, a in arrays.items()})
        self.prepare()

    @classmethod
    def around(cls, module: torch.nn.Module, request: Request) -> Self:
        """The subject that has the user's own `module`; the request's inputs and config say how it is called."""
        made = cls.__new__(cls)
        made._ask(request)
        made.module = module
        made.prepare()
        return made

    def _ask(self, request: Request) -> None:
        import torch

        self.request = request
        self.config = request.config
        self.dtype = getattr(torch, request.dtype)
        self.inputs = {n: self.tensor(v) for n, v in request.inputs.items() if v is not None}

    def prepare(self) -> None:
        """What else a call needs, once the module is there."""

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """Why the module cannot express `request`, or None where it can."""
        return None

    def make(self) -> torch.nn.Module:
        """The module, of the request's sizes and options."""
        raise NotImplementedError

    def layouts(self) -> Sequence[Parameter]:
        """How each parameter of the module holds canonical weights."""
        return ()

    def neutral(self) -> Mapping[str, NDArray[Any]]:
        """The canonical weights that the module has though the request may not, at the value that changes nothing."""
        return {}

    def forward(self) -> torch.Tensor:
        """What the module gives for `inputs`, in canonical axes."""
        raise NotImplementedError

    def tensor(self, array: NDArray[Any]) -> torch.Tensor:
        """The array as a tensor, in the request's dtype where it holds floating-point numbers."""
        import torch

        made = torch.from_numpy(np.array(array))
        return made.to(self.dtype) if made.is_floating_point() else made

    def held(self) -> dict[str, NDArray[Any]]:
        """Every canonical weight that the module's parameters hold."""
        from conformance_adapters.torch_tape import to_numpy

        return layout.read(self.layouts(), {n: to_numpy(p) for n, p in self.module.state_dict().items()})

    def weights(self) -> dict[str, NDArray[Any]]:
        """The canonical weights, of those that the request gave (the others stand for an absence)."""
        return {n: a for n, a in self.held().items() if n in self.request.weights}

    def __call__(self) -> torch.Tensor:
        """The output, computed as a user computes it for inference."""
        import torch

        with torch.no_grad():
            return self.forward()


def to_channels_second(x: torch.Tensor) -> torch.Tensor:
    """`batch *space channel` as `batch channel *space`. (An axis of -1 would reach an exported graph as it is.)"""
    return x.movedim(x.ndim - 1, 1)


def to_channels_last(x: torch.Tensor) -> torch.Tensor:
    """`batch channel *space` as `batch *space channel`."""
    return x.movedim(1, x.ndim - 1)
