"""Functions of JAX arrays: plain, jitted, partial, bound methods and callable pytrees.

A function's parameters are the arrays that it closes over, that are bound to it, and that it reads as globals. A copy
of it is a function of the same code that has hold of copies.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import CellType, FunctionType, MethodType
from typing import Any

from conformance.errors import Unsupported
from conformance.subject import Call, Own
from conformance_adapters.jax_live import JaxLive, cast, leaves
from conformance_adapters.jax_own import OwnFunction, own


class FunctionLive(JaxLive):
    """A callable that is no module of Flax."""

    def __init__(self, subject: Any) -> None:
        self.subject = subject
        known = own(subject)
        inner = subject
        while isinstance(inner, partial):
            inner = inner.func
        self.name = known.name if known is not None else getattr(inner, "__name__", type(inner).__name__)

    def arrays(self) -> Mapping[str, Any]:
        """Those that it has hold of, by the names that the code has for them."""
        found: dict[str, Any] = {}
        for path, value in _parameters(self.subject):
            if _is_module(value):
                from conformance_adapters.flax_live import NnxLive

                found |= {".".join(filter(None, (path, n))): a for n, a in NnxLive(value).arrays().items()}
            else:
                found[path] = value
        return found

    def copy(self, dtype: str | None) -> Callable[[], Any]:
        """Copies in `dtype`. Raises Unsupported where an array that is compiled in is of a wider one."""
        import jax.numpy as jnp

        if dtype == self.dtype:
            dtype = None
        kept = _copied(self.subject, dtype, {})
        for path, array in FunctionLive(kept).arrays().items():
            if dtype is not None and jnp.promote_types(array.dtype, dtype) != jnp.dtype(dtype):
                raise Unsupported(f"{self.name} is compiled with {path} in {array.dtype}: it cannot be run in {dtype}")
        return lambda: _copied(kept, None, {})

    def signature(self) -> inspect.Signature | None:
        """As Python tells it; built-in functions have none."""
        try:
            return inspect.signature(self.subject)
        except (TypeError, ValueError):
            return None

    def paths(self, copied: Any) -> Callable[[Any], str | None]:
        """By the names of the modules of nnx that it has hold of."""
        if "flax.nnx" not in sys.modules:
            return super().paths(copied)
        from conformance_adapters.flax_live import path_finder

        return path_finder({n: v for n, v in _parameters(copied) if _is_module(v)})

    def own(self) -> Own | None:
        """Its layer and config, where it is one of JAX's own functions."""
        known = own(self.subject)
        return None if known is None else Own(known.layer, known.config(self.subject), {})

    def canonical_call(self, call: Call) -> Callable[[], Any] | None:
        """The function, with its inputs in its own axes."""
        known: OwnFunction | None = own(self.subject)
        if known is None or known.layer != call.layer:
            return None
        known.config(self.subject)
        return known.bound(self.subject, call)


_LIBRARIES = ("jax", "flax", "numpy")


def _is_module(value: Any) -> bool:
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(value, nnx.Module)


def _held(subject: Any) -> Iterator[tuple[str, Any]]:
    """What a callable has hold of, by name."""
    if isinstance(subject, partial):
        try:
            names = list(inspect.signature(subject.func).parameters)
        except (TypeError, ValueError):  # a built-in
            names = []
        for i, value in enumerate(subject.args):
            yield (names[i] if i < len(names) else str(i)), value
        yield from subject.keywords.items()
        yield "", subject.func
    elif isinstance(subject, MethodType):
        yield "", subject.__self__
        yield "", subject.__func__
    elif isinstance(subject, FunctionType):
        variables = inspect.getclosurevars(subject)
        yield from variables.nonlocals.items()
        if str(subject.__module__).partition(".")[0] in _LIBRARIES:  # a wrapper, such as vmap's
            return
        for name, value in variables.globals.items():
            # Functions of other modules are libraries.
            if not callable(value) or getattr(value, "__module__", None) == subject.__module__ or _is_module(value):
                yield name, value
    elif hasattr(subject, "__wrapped__"):
        yield "", subject.__wrapped__


def _parameters(subject: Any, path: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Any]]:
    """The arrays and modules of nnx that `subject` and the user's functions that it calls have hold of, by path."""
    seen = set() if seen is None else seen
    if id(subject) in seen:
        return
    seen.add(id(subject))
    if _is_module(subject):
        yield path, subject
    elif isinstance(subject, partial | MethodType | FunctionType) or hasattr(subject, "__wrapped__"):
        for name, value in _held(subject):
            # A global of a function that is called has its own name; what a closure holds is the closure's.
            inner = "" if callable(value) and isinstance(value, FunctionType) else ".".join(filter(None, (path, name)))
            yield from _parameters(value, inner, seen)
    else:
        try:
            yield from leaves(subject, path).items()
        except (TypeError, ValueError):  # a dictionary whose keys have no order is no pytree
            return


def _copied(subject: Any, dtype: str | None, made: dict[int, Any]) -> Any:
    """`subject` around copies of what it has hold of, its arrays in `dtype` where one is given.

    `made` holds what has been copied already, by identity.
    """
    if id(subject) in made:
        return made[id(subject)]
    made[id(subject)] = subject
    if _is_module(subject):
        from conformance_adapters.flax_live import NnxLive

        made[id(subject)] = NnxLive(subject).copy(dtype)()
    elif isinstance(subject, partial):
        args = (_copied(v, dtype, made) for v in subject.args)
        keywords = {n: _copied(v, dtype, made) for n, v in subject.keywords.items()}
        made[id(subject)] = partial(_copied(subject.func, dtype, made), *args, **keywords)
    elif isinstance(subject, MethodType):
        made[id(subject)] = MethodType(subject.__func__, _copied(subject.__self__, dtype, made))
    elif isinstance(subject, FunctionType):
        made[id(subject)] = _rebuilt(subject, dtype, made)
    elif any(True for _ in _parameters(subject)):
        made[id(subject)] = cast(subject, dtype)
    return made[id(subject)]


def _rebuilt(function: FunctionType, dtype: str | None, made: dict[int, Any]) -> FunctionType:
    """A function of the same code that has hold of copies; itself where it has hold of nothing."""
    held = {n: v for n, v in _held(function) if any(True for _ in _parameters(v))}
    if not held:
        return function
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    closure = {n: CellType() if n in held else cell for n, cell in cells}
    known = dict(function.__globals__)
    copied = FunctionType(function.__code__, known, function.__name__, function.__defaults__, tuple(closure.values()))
    copied.__kwdefaults__ = function.__kwdefaults__
    made[id(function)] = copied  # before what it has hold of: that may be itself
    for name, value in held.items():
        if name in closure:
            closure[name].cell_contents = _copied(value, dtype, made)
        else:
            known[name] = _copied(value, dtype, made)
    return copied
