"""Flax's own modules inside a running model: each call of one, with the values that reached it.

flax.linen has an interface for this (`intercept_methods`). flax.nnx has none: while a watch is on, the `__call__` of
its classes is replaced, for whatever thread calls it.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

from conformance.errors import Unsupported
from conformance.subject import Part
from conformance_adapters.flax_live import FlaxLive, LinenLive, NnxLive
from conformance_adapters.flax_own import arguments, own, own_types
from conformance_adapters.jax_live import canonical


@dataclass(eq=False)
class _Seen:
    """A call of a known module. `leaves`, of `made`, are there once the call has run."""

    path: str | None
    kind: str
    layer: str
    made: Callable[[Sequence[Any]], tuple[dict[str, Any], FlaxLive]] | None = None
    leaves: Sequence[Any] | None = None
    unsupported: str | None = None


class Watch:
    """While this context holds, `parts` gains a part for every call of a known module.

    What a known module calls inside of itself is its own affair. `path` tells where in the model a module of nnx is.
    """

    def __init__(self, path: Callable[[Any], str | None]) -> None:
        self.path = path
        self._seen: list[_Seen] = []
        self._inside = False
        self._undo = ExitStack()

    def parts(self) -> list[Part]:
        """What was called, in order, the second call of `path` as `path#2`."""
        jax.effects_barrier()  # values that are on their way
        calls: Counter[str] = Counter()
        found = []
        for seen in self._seen:
            inputs: dict[str, Any] = {}
            live: FlaxLive | None = None
            if seen.made is not None and seen.leaves is not None:
                inputs, live = seen.made(seen.leaves)
            elif seen.unsupported is None:
                continue  # traced, for its shapes, and not run
            name = seen.path or (self.path(live.module) if isinstance(live, NnxLive) else None) or seen.kind
            calls[name] += 1
            name = name if calls[name] == 1 else f"{name}#{calls[name]}"
            found.append(Part(name, seen.layer, live, canonical(inputs), seen.unsupported))
        return found

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
        self._keep(module, path, args, kwargs)
        self._inside = True
        try:
            return proceed()
        finally:
            self._inside = False

    def _keep(self, module: Any, path: str | None, args: Any, kwargs: Any) -> None:
        known = own(module)
        assert known is not None
        seen = _Seen(path, type(module).__name__, known.subject.layer)
        self._seen.append(seen)
        try:
            if any(type(v).__name__ == "BatchTracer" for v in jax.tree.leaves((args, kwargs))):  # JAX hides the type
                raise Unsupported("it is called under vmap: what reaches it has no batch")
            given = arguments(module, args, kwargs)
            known.config(module, given)
            inputs = known.inputs(module, given)
        except Unsupported as error:
            seen.unsupported = str(error)
            return
        options = {n: v for n, v in given.items() if isinstance(v, bool)}
        leaves, seen.made = _taken_apart(module, inputs, options)
        if any(isinstance(v, jax.core.Tracer) for v in leaves):
            jax.debug.callback(functools.partial(self._ran, seen), leaves)
        else:
            seen.leaves = leaves

    def _ran(self, seen: _Seen, leaves: Sequence[Any]) -> None:
        """What was traced (in a rematerialised block) has run, once more where it is in a loop: here are the values."""
        values = [np.array(v) for v in leaves]
        if seen.leaves is None:
            seen.leaves = values
        else:
            self._seen.append(replace(seen, leaves=values))


def _taken_apart(
    module: Any, inputs: dict[str, Any], options: dict[str, bool]
) -> tuple[list[Any], Callable[[Sequence[Any]], tuple[dict[str, Any], FlaxLive]]]:
    """The arrays of a module and its inputs, and what makes both of such arrays again.

    Keys for random numbers are not among them, since no call-back takes them: for inference nothing is drawn.
    """
    definition, state = nnx.split(module) if isinstance(module, nnx.Module) else _unbound(module)
    leaves, tree = jax.tree.flatten((inputs, state))
    keys = [jnp.issubdtype(leaf.dtype, jax.dtypes.extended) for leaf in leaves]

    def made(values: Sequence[Any]) -> tuple[dict[str, Any], FlaxLive]:
        given = iter(values)
        whole = [jax.random.key(0) if key else jnp.asarray(next(given)) for key in keys]
        found, held = jax.tree.unflatten(tree, whole)
        if isinstance(module, nnx.Module):
            return found, NnxLive(nnx.merge(definition, held), options)
        return found, LinenLive(definition, held, options)

    return [leaf for leaf, key in zip(leaves, keys, strict=True) if not key], made


def _unbound(module: Any) -> tuple[Any, Any]:
    """A module of linen by itself, and its variables. A cell that was made beside its RNN has its own elsewhere."""
    alone, variables = module.unbind()
    cell = getattr(module, "cell", None)
    if cell is not None and cell.scope is not None and "cell" not in variables.get("params", {}):
        variables = {kind: {"cell": held} for kind, held in cell.variables.items()}
    return alone, variables
