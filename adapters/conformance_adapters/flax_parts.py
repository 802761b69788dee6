"""Flax's own modules inside a running model: each call of one, with the values that reached it.

flax.linen has an interface for this (`intercept_methods`). flax.nnx has none: while a watch is on, the `__call__` of
its classes is replaced, for whatever thread calls it.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Self

import jax
from flax import linen, nnx

from conformance.errors import Unsupported
from conformance.subject import Part
from conformance_adapters.flax_own import arguments, own, own_types
from conformance_adapters.jax_live import canonical


class Watch:
    """While this context holds, `parts` gains a part for every call of a known module.

    What a known module calls inside of itself is its own affair. `path` tells where in the model a module of nnx is.
    """

    def __init__(self, path: Callable[[Any], str | None]) -> None:
        self.path = path
        self.parts: list[Part] = []
        self._inside = False
        self._calls: Counter[str] = Counter()
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        self._undo.enter_context(linen.intercept_methods(self._intercept))
        for kind in own_types():
            if issubclass(kind, nnx.Module):
                self._replace(kind)
        return self

    def __exit__(self, *raised: Any) -> None:
        self._undo.close()

    def _replace(self, kind: Any) -> None:
        original = kind.__call__

        @functools.wraps(original)
        def watched(module: Any, *args: Any, **kwargs: Any) -> Any:
            def proceed() -> Any:
                return original(module, *args, **kwargs)

            if type(module) is not kind:  # a user's subclass, which may call its parent's
                return proceed()
            return self._around(module, self.path(module), args, kwargs, proceed)

        kind.__call__ = watched
        self._undo.callback(setattr, kind, "__call__", original)

    def _intercept(self, proceed: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name != "__call__" or type(context.module) not in own_types():
            return proceed(*args, **kwargs)
        path = ".".join(context.module.path)
        return self._around(context.module, path, args, kwargs, lambda: proceed(*args, **kwargs))

    def _around(self, module: Any, path: str | None, args: Any, kwargs: Any, proceed: Callable[[], Any]) -> Any:
        if self._inside or own(module) is None:
            return proceed()
        self._keep(module, path or type(module).__name__, args, kwargs)
        self._inside = True
        try:
            return proceed()
        finally:
            self._inside = False

    def _keep(self, module: Any, path: str, args: Any, kwargs: Any) -> None:
        from conformance_adapters.flax_live import LinenLive, NnxLive

        self._calls[path] += 1
        name = path if self._calls[path] == 1 else f"{path}#{self._calls[path]}"
        known = own(module)
        assert known is not None
        try:
            if any(isinstance(v, jax.core.Tracer) for v in jax.tree.leaves((args, kwargs))):
                raise Unsupported("it is called while JAX traces (vmap, grad): what reaches it has no values")
            given = arguments(module, args, kwargs)
            known.config(module, given)
            inputs = canonical(known.inputs(module, given))
            options = {n: v for n, v in given.items() if isinstance(v, bool)}
            live = (
                NnxLive(nnx.clone(module), options)
                if isinstance(module, nnx.Module)
                else LinenLive(*module.unbind(), options)
            )
            self.parts.append(Part(name, known.subject.layer, live, inputs))
        except Unsupported as error:
            self.parts.append(Part(name, known.subject.layer, unsupported=str(error)))
