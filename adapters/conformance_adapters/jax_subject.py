"""A layer of JAX or Flax as a subject: its weights through declared layouts, its inputs as JAX arrays.

A `Parameter` here may name several parameters of the framework, separated by spaces: they are the parts
of its array along the leading axis. Names are the path to the parameter, joined by dots.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from conformance import layout
from conformance.errors import Unsupported
from conformance.layout import Parameter

if TYPE_CHECKING:
    import jax
    from numpy.typing import NDArray

    from conformance.trace import Request


def accepts(function: Callable[..., Any], option: str) -> None:
    """Raise Unsupported where this version of `function` has no `option`."""
    if option not in inspect.signature(function).parameters:
        raise Unsupported(f"{function.__module__}.{function.__qualname__} has no {option} in this version")


class JaxSubject:
    """A function of JAX. A subclass says what it computes (`forward`)."""

    name: ClassVar[str]
    layer: ClassVar[str]

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """Why the layer cannot express `request`, or None where it can."""
        return None

    def __init__(self, request: Request) -> None:
        import jax.numpy as jnp

        self.request = request
        self.config = request.config
        self.dtype = jnp.dtype(request.dtype)
        self.inputs = {n: self.array(v) for n, v in request.inputs.items() if v is not None}

    def array(self, values: NDArray[Any]) -> jax.Array:
        """The values as a JAX array, in the request's dtype where they are floating-point numbers."""
        import jax.numpy as jnp

        return jnp.asarray(values, self.dtype if values.dtype.kind == "f" else None)

    def weights(self) -> dict[str, NDArray[Any]]:
        """The canonical weights that the layer holds."""
        return {}

    def forward(self) -> jax.Array:
        """What the layer gives for `inputs`, in canonical axes."""
        raise NotImplementedError

    def __call__(self) -> jax.Array:
        """The output, computed as a user computes it for inference."""
        return self.forward()


class FlaxSubject(JaxSubject):
    """A module of Flax that holds canonical weights.

    A subclass makes the module (`make`), and says how its parameters are laid out (`layouts`, with
    `sizes` for the axes that shapes do not tell). A parameter that the module always has, and that the
    request has no weight for, is given its neutral value through `neutral`; it is not reported as a weight.
    """

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        held = {**self.neutral(), **request.weights}
        arrays = layout.write(self.layouts(), held, **self.sizes())
        self.load(
            {
                name: self.array(part)
                for names, array in arrays.items()
                for name, part in (zip(names.split(), array, strict=True) if " " in names else [(names, array)])
            }
        )

    @classmethod
    def around(cls, held: Any, request: Request) -> Self:
        """The subject of what exists already (`hold`), to be called with the inputs of `request`."""
        made = cls.__new__(cls)
        JaxSubject.__init__(made, request)
        made.hold(held)
        return made

    def make(self) -> Any:
        """The module, of the request's sizes and options."""
        raise NotImplementedError

    def hold(self, held: Any) -> None:
        """Take what exists already: a module, or a module and its variables. It is not changed."""
        raise NotImplementedError

    def layouts(self) -> Sequence[Parameter]:
        """How each parameter of the module holds canonical weights."""
        return ()

    def sizes(self) -> Mapping[str, int]:
        """The sizes of the layouts' axes that shapes do not tell."""
        return {}

    def neutral(self) -> Mapping[str, NDArray[Any]]:
        """The canonical weights that the module has though the request may not, at the value that changes nothing."""
        return {}

    def load(self, parameters: Mapping[str, jax.Array]) -> None:
        """Put the parameters, by path, into the module."""
        raise NotImplementedError

    def parameters(self) -> Mapping[str, jax.Array]:
        """The module's own parameters, by path."""
        raise NotImplementedError

    def weights(self) -> dict[str, NDArray[Any]]:
        """The canonical weights of the request, read back out of the module."""
        return {n: a for n, a in self.all_weights().items() if n in self.request.weights}

    def all_weights(self) -> dict[str, NDArray[Any]]:
        """The canonical weights that the module's parameters hold."""
        from conformance_adapters.jax_tape import to_numpy

        arrays = {n: to_numpy(p) for n, p in self.parameters().items()}
        for p in self.layouts():
            parts = p.name.split()
            if len(parts) > 1 and all(n in arrays for n in parts):
                arrays[p.name] = np.stack([arrays[n] for n in parts])
        return layout.read(self.layouts(), arrays, **self.sizes())

    def checked(self, parameters: Mapping[str, jax.Array], shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raise ValueError where `parameters` are not exactly those of the module, in name and shape."""
        given = {n: tuple(p.shape) for n, p in parameters.items()}
        if given != dict(shapes):
            raise ValueError(f"{self.name} has the parameters {dict(shapes)}, not {given}")


class NnxSubject(FlaxSubject):
    """A module of flax.nnx: `make` builds it, `apply` calls it."""

    def load(self, parameters: Mapping[str, jax.Array]) -> None:
        """Set the module's state.

        The module is made in the abstract where its parameters are all that it holds: random initial
        values, which are thrown away at once, would take longer to compile than everything else.
        """
        from flax import nnx

        module = nnx.eval_shape(self.make)
        _, state = nnx.split(module)
        if any(not isinstance(variable, nnx.Param) for _, variable in nnx.to_flat_state(state)):
            module = self.make()
        held = {".".join(map(str, path)): v for path, v in nnx.to_flat_state(nnx.state(module, self.kinds()))}
        self.checked(parameters, {n: tuple(v.shape) for n, v in held.items()})
        for name, variable in held.items():
            if hasattr(type(variable), "set_value"):
                variable.set_value(parameters[name])
            else:  # flax before 0.12
                variable.value = parameters[name]
        self.hold(module)

    def hold(self, held: Any) -> None:
        """Take a module."""
        from flax import nnx

        self.definition, self.state = nnx.split(held)

    def parameters(self) -> Mapping[str, jax.Array]:
        """The values of the module's variables of the `kinds` that hold weights."""
        from flax import nnx

        flat = nnx.to_flat_state(nnx.state(self.module(), self.kinds()))
        return {".".join(map(str, path)): v[...] for path, v in flat}

    def kinds(self) -> Any:
        """The kinds of variables that hold weights."""
        from flax import nnx

        return nnx.Param

    def module(self) -> Any:
        """The module with variables of its own, which a trace may change (counters of random streams)."""
        import jax
        from flax import nnx

        return nnx.merge(self.definition, jax.tree.map(lambda leaf: leaf, self.state))

    def apply(self, module: Any) -> jax.Array:
        """What the module gives for `inputs`, in canonical axes."""
        return module(self.inputs["x"])

    def forward(self) -> jax.Array:
        """What the module gives for `inputs`."""
        return self.apply(self.module())


class LinenSubject(FlaxSubject):
    """A module of flax.linen: `make` builds it, `arguments` are what it is called with."""

    def load(self, parameters: Mapping[str, jax.Array]) -> None:
        """Keep the parameters as the module's variables."""
        import jax
        from flax.traverse_util import flatten_dict, unflatten_dict

        self.module = self.make()
        positional, named = self.arguments()
        shapes = jax.eval_shape(lambda: self.module.init(jax.random.key(0), *positional, **named))
        held = flatten_dict(shapes.get("params", {}), sep=".")
        self.checked(parameters, {n: tuple(v.shape) for n, v in held.items()})
        self.variables = {"params": unflatten_dict(parameters, sep=".")}

    def hold(self, held: Any) -> None:
        """Take a module and its variables."""
        self.module, self.variables = held

    def parameters(self) -> Mapping[str, jax.Array]:
        """The leaves of the variables' `params`."""
        from flax.traverse_util import flatten_dict

        return flatten_dict(self.variables.get("params", {}), sep=".")

    def arguments(self) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """What the module is called with."""
        return (self.inputs["x"],), {}

    def forward(self) -> jax.Array:
        """What the module gives for `arguments`."""
        positional, named = self.arguments()
        return self.module.apply(self.variables, *positional, **named)
