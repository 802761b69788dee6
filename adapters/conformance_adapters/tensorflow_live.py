"""What a user hands over of TensorFlow: a tf.Module, a tf.function or a plain function of tensors.

A module is run as a copy of it; what a function does to the variables that it closes over is undone.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from conformance.errors import ConformanceError, Unsupported
from conformance.subject import Argument, Call, Own, Part, matched, one_tensor
from conformance.trace import Trace
from conformance_adapters.tensorflow_eager import watched
from conformance_adapters.tensorflow_ops import missing_kernels
from conformance_adapters.tensorflow_tape import to_numpy

if TYPE_CHECKING:
    from numpy.typing import NDArray


def owns(subject: Any) -> bool:
    """Whether `subject` is a module or function of TensorFlow, told by its type alone. Keras's layers are Keras's."""
    if inspect.isfunction(subject):
        return _package(subject) == "tensorflow"
    if isinstance(subject, type):
        return False
    packages = {_package(c) for c in type(subject).__mro__}
    names = {c.__name__ for c in type(subject).__mro__ if _package(c) == "tensorflow"}
    return "tensorflow" in packages and "keras" not in packages and (callable(subject) or "AutoTrackable" in names)


def _package(thing: Any) -> str:
    return str(getattr(thing, "__module__", "")).partition(".")[0]


def opened(subject: Any) -> TensorFlowLive:
    """A module or function. Raises ConformanceError for anything else."""
    if isinstance(subject, type) or not (callable(subject) or owns(subject)):
        what = subject.__name__ if isinstance(subject, type) else f"a {type(subject).__name__}"
        raise ConformanceError(f"{what} is neither a tf.Module nor a function of tensors: give an instance of one")
    return TensorFlowLive(subject)


class TensorFlowLive:
    """A tf.Module or function. TensorFlow has no layers of its own that hold weights."""

    adapter = "tensorflow"

    def __init__(self, subject: Any) -> None:
        self.subject = subject
        function = getattr(subject, "python_function", subject)
        self.name = str(getattr(function, "__name__", type(subject).__name__))

    @property
    def dtype(self) -> str | None:
        """That of its first floating-point variable."""
        return next((str(v.dtype.name) for v in self._variables().values() if v.dtype.is_floating), None)

    def _variables(self) -> dict[str, Any]:
        import tensorflow as tf

        found = dict(_held(self.subject, "", set())) if _is_module(self.subject) else _closed_over(self.subject)
        return {n: v for n, v in found.items() if isinstance(v, tf.Variable)}

    def own(self) -> Own | None:
        """TensorFlow's own operations are functions: they hold neither config nor weights."""
        return None

    def parameters(self) -> Mapping[str, NDArray[Any]]:
        """Its floating-point variables by path; a function's are those that it closes over."""
        return {n: to_numpy(v.value()) for n, v in self._variables().items() if v.dtype.is_floating}

    def arguments(self) -> Sequence[Argument]:
        """What the signature of a tf.function says. Raises ConformanceError where there is none."""
        function = self.subject
        for specified in (function, getattr(function, "__call__", None)):  # noqa: B004 - a method, not a test
            signature = getattr(specified, "input_signature", None)
            if signature is not None and all(s.shape.rank is not None for s in signature):
                names = positional(function)[0]
                return [
                    Argument(name, tuple(s.shape.as_list()), s.dtype.name)
                    for name, s in zip(names, signature, strict=False)
                ]
        raise ConformanceError(
            f"{self.name} does not tell the shapes of its inputs: give them (`inputs`), or an input_signature"
        )

    def run(self, call: Call) -> Trace:
        """Plain, and as a graph of which every tensor is fetched (eagerly, where it cannot be one)."""
        import tensorflow as tf

        function = self._bound(self._copied(call.dtype), call)
        with self._restored(), missing_kernels(self.adapter):
            output = self._first(function())
            observed, tape = watched(lambda: self._first(function()))
        return Trace(to_numpy(output), tape, to_numpy(observed), environment={"tensorflow": tf.__version__})

    def _first(self, returned: Any) -> Any:
        import tensorflow as tf

        found = (t for t in tf.nest.flatten(returned) if tf.is_tensor(t))
        return tf.convert_to_tensor(one_tensor(found, self.name))

    def _bound(self, subject: Any, call: Call) -> Callable[[], Any]:
        import tensorflow as tf

        given = {n: tf.constant(a, dtype=call.dtype if a.dtype.kind == "f" else None) for n, a in call.inputs.items()}
        if call.through is not None:
            through = call.through
            return lambda: through(subject, **given)
        if not callable(subject):
            raise ConformanceError(f"{self.name} cannot be called: say how with `call`, as in call=lambda m, x: m.f(x)")
        args, kwargs = matched(*positional(subject), given, call.stand_ins)
        return lambda: subject(*args, **kwargs)

    def _copied(self, dtype: str) -> Any:
        """A copy of a module in `dtype`; a function, and a model that was loaded, as it is."""
        import tensorflow as tf

        other = self.dtype not in (None, dtype)
        if not isinstance(self.subject, tf.Module):
            if other:
                raise Unsupported(f"{self.name} has variables of {self.dtype}: it cannot be run in {dtype}")
            return self.subject
        made = copy.deepcopy(self.subject)
        if other:
            _convert(made, dtype, set())
            left = [n for n, v in _held(made, "", set()) if _is_floating(v) and v.dtype.name != dtype]
            if left:
                raise Unsupported(f"{self.name}: its variable {left[0]!r} cannot be converted to {dtype}")
        return made

    @contextmanager
    def _restored(self) -> Iterator[None]:
        """What is assigned to the subject's own variables while this holds is undone."""
        before = [(v, to_numpy(v.value())) for v in self._variables().values() if v.dtype.is_numpy_compatible]
        try:
            yield
        finally:
            for variable, array in before:
                if to_numpy(variable.value()).tobytes() != array.tobytes():
                    variable.assign(array)

    def parts(self, call: Call) -> Iterable[Part]:
        """None: what a tf.Module is made of is its author's."""
        return []


def positional(function: Any) -> tuple[list[str], int]:
    """The names of what `function` takes in order, and how many of them it must be given."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a built-in, or a function that was saved as graphs
        return [], 0
    names = [p for p in found if p.kind in (p.POSITIONAL_OR_KEYWORD, p.POSITIONAL_ONLY)]
    return [p.name for p in names], sum(p.default is p.empty for p in names)


def _is_module(subject: Any) -> bool:
    return any(c.__name__ == "AutoTrackable" for c in type(subject).__mro__)


def _is_floating(value: Any) -> bool:
    return bool(value.dtype.is_floating)


def _closed_over(function: Any) -> dict[str, Any]:
    function = getattr(function, "python_function", function)
    return dict(inspect.getclosurevars(function).nonlocals) if inspect.isfunction(function) else {}


def _children(value: Any) -> list[tuple[Any, Any]]:
    """What a module or container holds, each with the attribute, key or index that it is under."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    return [(n, v) for n, v in vars(value).items() if not n.startswith("_self_")] if _is_module(value) else []


def _held(value: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Every variable inside `value` with its path."""
    import tensorflow as tf

    if id(value) in seen:
        return
    seen.add(id(value))
    for name, child in _children(value):
        path = f"{prefix}.{name}" if prefix else str(name)
        if not isinstance(child, tf.Variable):
            yield from _held(child, path, seen)
        elif id(child) not in seen:
            seen.add(id(child))
            yield path, child


def _convert(value: Any, dtype: str, seen: set[int]) -> None:
    """Put a variable of `dtype` in the place of every floating-point one inside `value`."""
    import tensorflow as tf

    made: dict[int, Any] = {}

    def walk(value: Any) -> None:
        if id(value) in seen:
            return
        seen.add(id(value))
        for name, child in _children(value):
            if not isinstance(child, tf.Variable):
                walk(child)
            elif child.dtype.is_floating and not isinstance(value, tuple):
                new = made.setdefault(id(child), tf.Variable(tf.cast(child, dtype), trainable=child.trainable))
                if _is_module(value):
                    setattr(value, name, new)
                else:
                    value[name] = new

    walk(value)
