"""What a user hands over of JAX: a module of Flax, a function, or a callable pytree of arrays.

The user's process is left as it was: float64 is switched on around a run that asks for it, and off again.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import MethodType
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.errors import ConformanceError
from conformance.subject import Argument, Call, Own, Part, matched, one_tensor
from conformance.trace import Trace
from conformance_adapters.jax_tape import record, to_numpy

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What users call the switch between training and inference, and where it stands for inference.
_INFERENCE = {
    "deterministic": True,
    "use_running_average": True,
    "train": False,
    "training": False,
    "is_training": False,
}


def owns(subject: Any) -> bool:
    """Whether `subject` is of JAX or Flax, told by its type alone where they are not imported."""
    if isinstance(subject, partial):
        return owns(subject.func) or _holds_arrays((subject.args, subject.keywords))
    if isinstance(subject, MethodType):
        return owns(subject.__self__)
    if isinstance(subject, tuple):
        return len(subject) == 2 and _of_flax(subject[0])
    if _of_flax(subject) or any(_package(c) in ("jax", "jaxlib") for c in type(subject).__mro__):
        return not _is_array(subject)
    if inspect.isfunction(subject):
        return _package(subject) in ("jax", "flax")
    return callable(subject) and _holds_arrays(subject)


def _holds_arrays(tree: Any) -> bool:
    jax = sys.modules.get("jax")
    return jax is not None and any(map(_is_array, jax.tree.leaves(tree)))


def _package(thing: Any) -> str:
    return str(getattr(thing, "__module__", "")).partition(".")[0]


def _of_flax(subject: Any) -> bool:
    return any(_package(c) == "flax" for c in type(subject).__mro__)


def _is_array(value: Any) -> bool:
    return any(_package(c) in ("jax", "jaxlib") and c.__name__ in ("Array", "ArrayImpl") for c in type(value).__mro__)


def opened(subject: Any) -> JaxLive:
    """A module of Flax, or a callable. Raises ConformanceError for anything else."""
    if isinstance(subject, type):
        raise ConformanceError(f"{subject.__name__} is a class: give an instance, with its parameters")
    if isinstance(subject, tuple) or _of_flax(subject):
        from conformance_adapters.flax_live import opened_flax

        live = opened_flax(subject)
        if live is not None:
            return live
    if not callable(subject):
        raise ConformanceError(f"a {type(subject).__name__} is neither a module of Flax nor a function of JAX arrays")
    from conformance_adapters.jax_function import FunctionLive

    return FunctionLive(subject)


@contextmanager
def precision(dtype: str) -> Iterator[None]:
    """While this holds, JAX has `dtype`: it has float64 only where it is told to."""
    import jax

    if dtype != "float64" or jax.config.jax_enable_x64:
        yield
        return
    if hasattr(jax, "enable_x64"):
        enable: Callable[[bool], Any] = jax.enable_x64
    else:  # before JAX 0.8
        from jax.experimental import enable_x64 as enable
    with enable(True):
        yield


def is_floating(array: Any) -> bool:
    """Whether this is an array of floating-point numbers, of JAX or NumPy."""
    import jax.numpy as jnp

    return (_is_array(array) or isinstance(array, np.ndarray)) and jnp.issubdtype(array.dtype, jnp.floating)


def cast(tree: Any, dtype: str | None) -> Any:
    """The pytree with its floating-point arrays in `dtype`; None leaves them as they are."""
    import jax
    import jax.numpy as jnp

    if dtype is None:
        return jax.tree.map(lambda leaf: leaf, tree)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.dtype(dtype)) if is_floating(leaf) else leaf, tree)


def leaves(tree: Any, path: str = "") -> dict[str, Any]:
    """The floating-point arrays of a pytree, by the path to each below `path`."""
    import jax

    found = {}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(keys, simple=True, separator=".")
        if is_floating(leaf):
            found[".".join(filter(None, (path, name)))] = leaf
    return found


def canonical(arrays: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """JAX's arrays as NumPy's, the floating-point ones in float64."""
    made = {n: to_numpy(a) for n, a in arrays.items()}
    return {n: a.astype(np.float64) if a.dtype.kind == "f" else a for n, a in made.items()}


def versions() -> dict[str, str]:
    """Of JAX, and of Flax where it is in use."""
    found = {n: getattr(sys.modules.get(n), "__version__", None) for n in ("jax", "jaxlib", "flax")}
    return {n: v for n, v in found.items() if v is not None}


class JaxLive:
    """A callable of JAX arrays. What runs is always a copy, so that no state of the user's object changes."""

    adapter = "jax"
    name: str

    def arrays(self) -> Mapping[str, Any]:
        """The floating-point arrays that it holds, by path."""
        raise NotImplementedError

    def copy(self, dtype: str | None) -> Callable[[], Any]:
        """What gives a fresh copy at each call, its arrays in `dtype`. The conversion itself is done here."""
        raise NotImplementedError

    def signature(self) -> inspect.Signature | None:
        """The parameters of a call, if they can be told."""
        raise NotImplementedError

    def bind(self, copied: Any) -> Callable[..., Any]:
        """What a copy is called by."""
        return copied

    def paths(self, copied: Any) -> Callable[[Any], str | None]:
        """What tells the path of a module inside a copy."""
        return lambda module: None

    @property
    def dtype(self) -> str | None:
        """The dtype to which its arrays promote."""
        import jax.numpy as jnp

        # A float64 array of JAX keeps its dtype where x64 is off by now; one of NumPy becomes what JAX has.
        found = [a.dtype if _is_array(a) else jnp.asarray(a).dtype for a in self.arrays().values()]
        with precision("float64"):  # without it, float64 is taken for float32
            return jnp.result_type(*found).name if found else None

    def own(self) -> Own | None:
        """Nothing: a user's."""
        return None

    def canonical_call(self, call: Call) -> Callable[[], Any] | None:
        """What calls the framework's own `call.layer` with the canonical inputs, if this is it."""
        return None

    def parameters(self) -> Mapping[str, NDArray[Any]]:
        """The arrays in their own dtype (bfloat16 as float32), by path."""
        return {n: to_numpy(a) for n, a in self.arrays().items()}

    def first_argument(self) -> Argument | None:
        """What the layer that reads the input takes, if it can be told."""
        return None

    def arguments(self) -> Sequence[Argument]:
        """One for every argument that must be given, as wide as the first layer wants."""
        shape = self.first_argument()
        if shape is None:
            raise ConformanceError(f"{self.name} does not tell the shapes of its inputs: give them (`inputs`)")
        names, required = self._positional({})
        return [replace(shape, name=n) for n in names[: max(required, 1)] or ["x"]]  # `*args` has no names

    def _positional(self, inputs: Mapping[str, Any]) -> tuple[list[str], int]:
        """The parameters that inputs can be, and how many of them must be given. Keyword-only ones come by name."""
        signature = self.signature()
        if signature is None:
            return [], 0
        found = [
            p
            for p in signature.parameters.values()
            if p.name not in _INFERENCE or p.name in inputs
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) or (p.kind is p.KEYWORD_ONLY and p.name in inputs)
        ]
        return [p.name for p in found], sum(p.default is p.empty for p in found)

    def _arranged(self, given: Mapping[str, Any], stand_ins: Mapping[str, str]) -> tuple[list[Any], dict[str, Any]]:
        """How the tensors are given: `matched`, with the switches that stand on inference."""
        names, required = self._positional(given)
        args, kwargs = matched(names, required, given, stand_ins)
        signature = self.signature()
        parameters = {} if signature is None else signature.parameters
        for name, parameter in parameters.items():
            if parameter.kind is parameter.POSITIONAL_ONLY and name in kwargs:
                args.append(kwargs.pop(name))
        bound = getattr(getattr(self, "subject", None), "keywords", {})  # of a partial: what the user has chosen
        switches = {n: v for n, v in _INFERENCE.items() if n in parameters and n not in given and n not in bound}
        return args, {**kwargs, **switches}

    def called(self, copied: Any, given: Mapping[str, Any], call: Call) -> Any:
        """What a copy returns for tensors by name."""
        if call.through is not None:
            return call.through(copied, **given)
        args, kwargs = self._arranged(given, call.stand_ins)
        return self.bind(copied)(*args, **kwargs)

    def _tensors(self, call: Call) -> dict[str, Any]:
        import jax.numpy as jnp

        return {
            n: jnp.asarray(a, jnp.dtype(call.dtype)) if a.dtype.kind == "f" else jnp.asarray(a)
            for n, a in call.inputs.items()
        }

    def run(self, call: Call) -> Trace:
        """Plain, and operation by operation.

        Where Python decides by values, so that JAX cannot trace it, a warning says so, and there is no tape.
        """
        import jax

        with precision(call.dtype):
            known = self.canonical_call(call) if call.through is None else None
            if known is not None:
                function, given = known, {}
            else:
                fresh = self.copy(call.dtype)
                function, given = (lambda **tensors: self.called(fresh(), tensors, call)), self._tensors(call)

            def first(tensors: Mapping[str, Any]) -> Any:
                returned = jax.tree.leaves(function(**tensors))
                return one_tensor((v for v in returned if hasattr(v, "dtype")), self.name)

            output = to_numpy(first(given))
            try:
                observed, tape = record(first, given)
            except jax.errors.JAXTypeError as error:
                why = str(error).strip().partition("\n")[0]
                warnings.warn(f"only the output of {self.name} is judged: JAX cannot trace it ({why})", stacklevel=2)
                return Trace(output, environment=versions())
            return Trace(output, tape, to_numpy(observed), environment=versions())

    def parts(self, call: Call) -> Iterable[Part]:
        """Every one of Flax's own modules that a run calls, with what it was called with.

        It runs without compilation, so that what is inside `jit` and `scan` has values too.
        """
        import jax

        if "flax" not in sys.modules:
            return []
        from conformance_adapters.flax_parts import Watch

        with precision(call.dtype), jax.disable_jit():
            copied = self.copy(call.dtype)()
            with Watch(self.paths(copied)) as watch:
                self.called(copied, self._tensors(call), call)
            return watch.parts()
