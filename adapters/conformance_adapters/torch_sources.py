"""What a PyTorch tensor was made of: the entries of a tape that an operation read, and the module it ran in.

Tensors are known by identity. A view shares memory with what it is a view of, so an operation in place is a
source of every tensor on the same storage that is read after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch.nn.modules import module as torch_module
from torch.utils.weak import WeakTensorKeyDictionary

from conformance_adapters.provenance import Source, joined

_LITERALS = (torch.ops.aten.lift_fresh.default, torch.ops.aten.lift_fresh_copy.default)  # `torch.tensor([1.0])`


class ModuleScope:
    """Within this context: the path of the module that is running, and the weights of the modules that were called.

    The path is that in the outermost module that was called, which itself has an empty one.
    """

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._running: list[torch.nn.Module] = []
        self._roots: list[torch.nn.Module] = []  # kept, so that an id stays that of its module
        self._weights: set[int] = set()
        self._storages: set[int] = set()

    @property
    def path(self) -> str:
        """The path of the innermost running module."""
        return self._names.get(id(self._running[-1]), "") if self._running else ""

    def holds(self, tensor: torch.Tensor) -> bool:
        """Whether `tensor` is a parameter, or a parameter or buffer of a module that was called."""
        return isinstance(tensor, torch.nn.Parameter) or id(tensor) in self._weights

    def stores(self, tensor: torch.Tensor) -> bool:
        """Whether `tensor` is in the memory of a parameter of a module that was called."""
        return storage(tensor) in self._storages

    def _enter(self, module: torch.nn.Module, _: Any) -> None:
        if not self._running and all(module is not root for root in self._roots):
            self._roots.append(module)
            self._names |= {id(m): name for name, m in module.named_modules()}
            self._weights |= {id(t) for t in (*module.parameters(), *module.buffers())}
            self._storages |= {storage(p) for p in module.parameters()}
        self._running.append(module)

    def _leave(self, module: torch.nn.Module, *_: Any) -> None:
        # A module whose forward raised before another hook ran is left on the stack: go back to this one.
        while self._running and self._running.pop() is not module:
            pass

    def __enter__(self) -> ModuleScope:
        with ExitStack() as stack:
            for handle in (
                torch_module.register_module_forward_pre_hook(self._enter),
                torch_module.register_module_forward_hook(self._leave, always_call=True),
            ):
                stack.callback(handle.remove)
            self._handles = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._handles.close()


class Sources:
    """The sources of the tensors of one recording."""

    def __init__(self, scope: ModuleScope) -> None:
        self._scope = scope
        self._known = WeakTensorKeyDictionary()  # tensor: its source, and how much was written before it was made
        # A storage's address may serve again after it is freed; what was written to it by then is before the
        # making of whatever is there now, and so does not count.
        self._writes: dict[int, list[Source]] = {}

    def of(self, operation: Any, read: Iterable[torch.Tensor]) -> Source:
        """What `operation` makes of the tensors `read`."""
        if operation in _LITERALS:
            return Source((), True)
        made = joined(source for tensor in read for source in self._sources(tensor))
        return replace(made, fixed=False) if torch.Tag.nondeterministic_seeded in operation.tags else made

    def _sources(self, tensor: torch.Tensor) -> list[Source]:
        own, before = self._known.get(tensor, (None, 0))
        if own is None:
            own = Source((), self._scope.holds(tensor))
        return [own, *self._writes.get(storage(tensor), [])[before:]]

    def made(self, tensor: torch.Tensor, source: Source) -> None:
        """An operation gave `tensor`, which is made of `source` alone."""
        self._known[tensor] = source, len(self._writes.get(storage(tensor), []))

    def written(self, operation: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], read: Source) -> None:
        """`operation`, which read `read`, may have written to its arguments: its schema says to which."""
        for number, argument in enumerate(operation._schema.arguments):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            given = args[number] if number < len(args) else kwargs.get(argument.name)
            for tensor in given if isinstance(given, (tuple, list)) else [given]:
                if isinstance(tensor, torch.Tensor):
                    own = self._known.get(tensor, (read, 0))[0]
                    self._writes.setdefault(storage(tensor), []).append(own)


def storage(tensor: torch.Tensor) -> int:
    """The memory that a tensor is in, as a number."""
    # A sparse or opaque tensor has none: it is then known by itself alone.
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):
        return id(tensor)
