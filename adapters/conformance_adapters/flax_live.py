"""Modules of flax.nnx and flax.linen that a user hands over."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx
from flax.core import FrozenDict

from conformance.errors import ConformanceError, Unsupported
from conformance.subject import Argument, Call, Own
from conformance.trace import Request
from conformance_adapters.flax_own import computes_in, own
from conformance_adapters.jax_live import JaxLive, canonical, cast, is_floating, leaves, precision


def opened_flax(subject: Any) -> JaxLive | None:
    """A module of nnx; one of linen that is bound, or comes with its variables; None for what is no module.

    Raises ConformanceError for a module of linen without variables.
    """
    if isinstance(subject, nnx.Module):
        return NnxLive(subject)
    if isinstance(subject, linen.Module):
        if subject.scope is None:
            raise ConformanceError(
                f"{type(subject).__name__} of flax.linen has no parameters of its own: "
                "give (module, variables), with the variables that init gave, or module.bind(variables)"
            )
        return LinenLive(*subject.unbind(), bound=True)
    if isinstance(subject, tuple):
        if len(subject) != 2 or not isinstance(subject[0], linen.Module):
            raise ConformanceError("of tuples, a module of flax.linen with its variables is known: (module, variables)")
        module, variables = subject
        if not isinstance(variables, Mapping) or not all(isinstance(v, Mapping) for v in variables.values()):
            raise ConformanceError(
                f"the variables of {type(module).__name__} must be what init gave: {{'params': {{...}}}}"
            )
        return LinenLive(module, variables)
    return None


class FlaxLive(JaxLive):
    """A module. `options` are arguments that its calls are given in the model that it comes from."""

    def __init__(self, module: Any, options: Mapping[str, Any] | None = None) -> None:
        self.module, self.options = module, options or {}
        kind = type(module)
        library = "nnx" if isinstance(module, nnx.Module) else "linen"
        self.name = f"flax.{library}.{kind.__name__}" if own(module) is not None else kind.__name__

    @property
    def dtype(self) -> str | None:
        """What one of Flax's own modules was told to compute in; else that of the parameters."""
        return self._told or super().dtype

    @property
    def _told(self) -> str | None:
        return computes_in(self.module) if own(self.module) is not None else None

    def held(self, dtype: str | None) -> Any:
        """What a subject is made around: a copy in `dtype`, to be run for inference."""
        raise NotImplementedError

    def own(self) -> Own | None:
        """Its layer, config and weights, where it is one of Flax's own modules."""
        known = own(self.module)
        if known is None:
            return None
        config = known.config(self.module, self.options)
        dtype = self.dtype or "float32"
        with precision(dtype):
            request = Request(known.subject.layer, known.subject.name, config, {}, {}, dtype)
            weights = known.subject.around(self.held(dtype), request).all_weights()
        return Own(known.subject.layer, config, canonical(weights))

    def canonical_call(self, call: Call) -> Callable[[], Any] | None:
        """The subject around a copy of the module."""
        if (known := own(self.module)) is None or known.subject.layer != call.layer:
            return None
        found = self.own()
        assert found is not None
        request = Request(found.layer, known.subject.name, found.config, call.inputs, found.weights, call.dtype)
        if reason := known.subject.refuses(request):
            raise Unsupported(f"{self.name}: {reason}")
        return known.subject.around(self.held(call.dtype), request)


class NnxLive(FlaxLive):
    """A module of flax.nnx."""

    @cached_property
    def _split(self) -> tuple[Any, Any]:
        return nnx.split(self.module)

    def arrays(self) -> Mapping[str, Any]:
        """The arrays of its variables, and those that it holds as they are."""
        flat = {".".join(map(str, path)): v[...] for path, v in nnx.to_flat_state(self._split[1])}
        return {n: v for n, v in flat.items() if is_floating(v)}

    def held(self, dtype: str | None) -> Any:
        """A copy, switched to inference."""
        return self.copy(dtype)()

    def copy(self, dtype: str | None) -> Callable[[], Any]:
        """Copies in `dtype`; their modules are told so where they were told another one."""
        definition, state = self._split
        if dtype == self.dtype and self._told is None:
            dtype = None
        kept = cast(cast(state, self._told), dtype)  # what it was told to compute in, it rounds its weights to

        def fresh() -> Any:
            module = nnx.merge(definition, cast(kept, None))
            for _, inner in nnx.iter_modules(module):
                for option in ("dtype", "param_dtype"):
                    if dtype is not None and getattr(inner, option, None) is not None:
                        setattr(inner, option, jnp.dtype(dtype))
            module.eval()
            return module

        return fresh

    def signature(self) -> inspect.Signature | None:
        """That of its `__call__`."""
        return inspect.signature(self.module) if callable(self.module) else None

    def paths(self, copied: Any) -> Callable[[Any], str | None]:
        """By the module itself, or, where a transformation has made it anew, by an array that it holds."""
        return path_finder({"": copied})

    def first_argument(self) -> Argument | None:
        """What the module that was made first, of those that tell, takes."""
        return next((a for m in _in_order(self.module) if (a := _wanted(m)) is not None), None)


def path_finder(models: Mapping[str, Any]) -> Callable[[Any], str | None]:
    """What tells the path of a module inside one of these modules of nnx, by name.

    By the module itself; where a transformation has made it anew, by an array that it holds; and where that has been
    made anew too, by the values of one, if no other array has the same.
    """
    of_module: dict[int, str] = {}
    of_array: dict[int, str] = {}
    of_values: dict[tuple[Any, ...], set[str]] = {}

    def joined(name: str, path: Sequence[Any]) -> str:
        return ".".join([name, *map(str, path)] if name else map(str, path))

    for name, model in models.items():
        for path, module in nnx.iter_modules(model):
            of_module[id(module)] = joined(name, path)
        for path, variable in nnx.to_flat_state(nnx.state(model)):
            array = _value(variable)
            of_array[id(array)] = joined(name, path)
            if is_floating(array):
                of_values.setdefault(_values(array), set()).add(joined(name, path))

    def path(module: Any) -> str | None:
        if id(module) in of_module:
            return of_module[id(module)]
        for inner, variable in nnx.to_flat_state(nnx.state(module)):
            array = _value(variable)
            found = of_array.get(id(array))
            if found is None and is_floating(array) and not isinstance(array, jax.core.Tracer):
                same = of_values.get(_values(array), set())
                found = next(iter(same)) if len(same) == 1 else None
            if found is not None:
                return found.removesuffix(joined("", inner)).removesuffix(".")
        return None

    return path


def _values(array: Any) -> tuple[Any, ...]:
    return array.shape, array.dtype.name, np.asarray(array).tobytes()


def _value(variable: Any) -> Any:
    return variable.get_value() if isinstance(variable, nnx.Variable) else variable


def _in_order(module: Any) -> Iterator[Any]:
    """The modules of nnx inside this one, in the order in which they were set."""
    yield module
    for value in vars(module).values():
        if isinstance(value, nnx.Module):
            yield from _in_order(value)


def _wanted(module: Any) -> Argument | None:
    """What a module that stands at the input takes."""
    if type(module) is nnx.Embed:
        return Argument("", (2, 5), "int64", module.num_embeddings)
    if type(module) in (nnx.Conv, nnx.ConvTranspose):
        return Argument("", (2, *(11, 13, 7)[: len(module.kernel_size)], module.in_features))
    if type(module) is nnx.LayerNorm:
        return Argument("", (2, 5, module.num_features))
    cells = (nnx.LSTMCell, nnx.OptimizedLSTMCell, nnx.GRUCell, nnx.SimpleCell)
    if type(module) in (nnx.Linear, nnx.MultiHeadAttention, *cells):
        return Argument("", (2, 5, module.in_features))
    return None


class LinenLive(FlaxLive):
    """A module of flax.linen with its variables."""

    def __init__(
        self, module: Any, variables: Mapping[str, Any], options: Mapping[str, Any] | None = None, bound: bool = False
    ) -> None:
        super().__init__(module, options)
        plain = variables.unfreeze() if isinstance(variables, FrozenDict) else variables
        self.variables = linen.meta.unbox(plain)
        self.bound = bound

    def arrays(self) -> Mapping[str, Any]:
        """The leaves of the variables; a parameter's path does not say `params`."""
        return {n.removeprefix("params."): v for n, v in leaves(self.variables).items()}

    def held(self, dtype: str | None) -> Any:
        """The module, switched to inference, and its variables, both told of `dtype`."""
        told = {}
        if dtype is not None and computes_in(self.module) not in (None, dtype):
            told["dtype"] = jnp.dtype(dtype)
        if getattr(self.module, "deterministic", True) is None:
            told["deterministic"] = True
        module = self.module
        if told and hasattr(module, "cell"):
            module = module.clone(cell=module.cell.clone(**told))
        elif told:
            module = module.clone(**told)
        return module, cast(cast(self.variables, self._told), dtype)

    def copy(self, dtype: str | None) -> Callable[[], Any]:
        """The module bound to variables in `dtype`, or both as a pair, as they were given."""
        module, variables = self.held(dtype) if own(self.module) else (self.module, cast(self.variables, dtype))
        return lambda: module.bind(variables) if self.bound else (module, variables)

    def bind(self, copied: Any) -> Callable[..., Any]:
        """The bound module."""
        return copied if self.bound else copied[0].bind(copied[1])

    def signature(self) -> inspect.Signature | None:
        """That of its `__call__`."""
        return inspect.signature(self.module) if callable(self.module) else None

    def first_argument(self) -> Argument | None:
        """What one of Flax's own modules takes; what runs first in another is known only when it runs."""
        found = self.own()
        if found is None:
            return None
        names = ("kernel", "query_kernel", "scale", "bias")
        kernel = next((w for n in names if (w := found.weights.get(n)) is not None), None)
        if kernel is None:
            return None
        if found.layer.startswith("conv"):
            space = (11, 13, 7)[: kernel.ndim - 2]
            channels = kernel.shape[-1] if "groups" not in found.config else kernel.shape[-2] * found.config["groups"]
            return Argument("", (2, *space, channels))
        return Argument("", (2, 5, *kernel.shape) if found.layer == "layer_norm" else (2, 5, kernel.shape[0]))
