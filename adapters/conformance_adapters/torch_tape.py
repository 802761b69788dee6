"""A tape of PyTorch: every floating-point tensor that a function computes, in order.

A TorchDispatchMode sits below autograd and sees each aten operation with its outputs, whoever called
it, so this serves whatever runs on PyTorch. Values are copied as soon as they are there: an operation in
place later on cannot change an earlier entry.

Fused kernels hide their steps. With `decomposed` they are switched off for the time of the call, each of
them by PyTorch's own switch: scaled dot-product attention runs its mathematical form, the fast path of
MultiheadAttention and of the transformer layers is off, oneDNN is off (its LSTM is one operation), and an
operation that is a composition of others is taken apart (under `inference_mode` nothing else does that).

Each entry says which entries its operation read (`conformance_adapters.torch_sources`), and in which module it
ran, by the module's path in the outermost module that was called (`layers.7.linear1`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from conformance.trace import Entry
from conformance_adapters.torch_sources import ModuleScope, Sources

if TYPE_CHECKING:
    from numpy.typing import NDArray


def record(function: Callable[[], Any], decomposed: bool = False) -> tuple[Any, list[Entry]]:
    """Call `function`: what it returned, and an entry for every floating-point output of every operation.

    `decomposed` asks PyTorch for the unfused forms while `function` runs.
    """
    with ExitStack() as stack:
        if decomposed:
            stack.enter_context(unfused())
        scope = stack.enter_context(ModuleScope())
        mode = stack.enter_context(_Recorder(decomposed, scope))
        output = function()
    return output, mode.entries


@contextmanager
def unfused() -> Iterator[None]:
    """Within this context PyTorch takes no fused path that hides the steps of a layer."""
    fast = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(_without_onednn())
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast)
        torch.backends.mha.set_fastpath_enabled(False)
        yield


@contextmanager
def _without_onednn() -> Iterator[None]:
    # Setting the flags also sets oneDNN's TF32 flag to what it was, and that warns on a build without Intel GPUs.
    with ExitStack() as stack:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "TF32 acceleration on top of oneDNN", UserWarning)
            stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
        yield


def to_numpy(tensor: torch.Tensor) -> NDArray[Any]:
    """A copy of the tensor's values, in its own dtype; bfloat16, which NumPy does not have, as float32."""
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    return np.array(tensor.resolve_conj().resolve_neg().numpy())


def shared(tensor: torch.Tensor) -> NDArray[Any]:
    """The tensor's values without a copy if NumPy can have them so: for a view of a weight, which no run writes to."""
    plain = tensor.detach()
    if plain.device.type != "cpu" or plain.dtype == torch.bfloat16 or plain.is_neg() or plain.is_conj():
        return to_numpy(tensor)
    return plain.numpy()


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in a value that an operation or a module returned, in order, through nested containers."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors(part)
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors(part)


class _Recorder(TorchDispatchMode):
    def __init__(self, decomposed: bool, scope: ModuleScope) -> None:
        super().__init__()
        self.decomposed = decomposed
        self.scope = scope
        self.sources = Sources(scope)
        self.entries: list[Entry] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.decomposed:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        read = self.sources.of(func, tensors((args, kwargs)))
        result = func(*args, **kwargs)
        for tensor in tensors(result):
            if tensor.is_floating_point():
                self.sources.made(tensor, replace(read, positions=(len(self.entries),)))
                array = shared(tensor) if self.scope.stores(tensor) else to_numpy(tensor)
                self.entries.append(Entry(str(func), array, None, read.positions, read.fixed, self.scope.path))
            else:
                self.sources.made(tensor, read)
        self.sources.written(func, args, kwargs, read)
        return result
