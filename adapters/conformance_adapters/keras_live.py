"""What a user hands over of Keras: a layer, a model, a `.keras` file or a plain function of tensors.

It runs as the user runs it, called with `training=False`, in a scope that keeps every update from its variables.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from conformance.errors import ConformanceError, Unsupported
from conformance.subject import Argument, Call, Own, Part, matched, one_tensor
from conformance.trace import Request, Trace
from conformance_adapters import keras_own
from conformance_adapters.keras_arguments import arguments, closed_over, positional, taken
from conformance_adapters.keras_file import load
from conformance_adapters.keras_parts import paths, variables, watched
from conformance_adapters.keras_subject import seen_as, to_numpy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance_adapters.keras_layers import KerasAdapter


def opened(subject: Any, adapter: KerasAdapter) -> KerasLive:
    """A layer, a model, the file of one, or a callable. Raises ConformanceError for anything else."""
    if isinstance(subject, Path):
        return KerasLive(load(subject), adapter, subject.name)
    if callable(subject) and not isinstance(subject, type):
        return KerasLive(subject, adapter)
    if isinstance(subject, type):
        raise ConformanceError(f"{subject.__name__} is a class: give an instance of it, built or called once")
    raise ConformanceError(f"a {type(subject).__name__} is neither a Keras layer or model nor a function of tensors")


class KerasLive:
    """A layer, model or function. `asked` is config that the call of a layer asked for; with `before_activation` a
    layer is judged on what it computes before its activation."""

    def __init__(
        self,
        subject: Any,
        adapter: KerasAdapter,
        name: str = "",
        asked: Mapping[str, Any] | None = None,
        before_activation: bool = False,
    ) -> None:
        import keras

        self.subject, self.framework, self.adapter = subject, adapter, adapter.name
        self.asked, self.before_activation = dict(asked or {}), before_activation
        self.is_layer = isinstance(subject, keras.Layer)
        known = keras_own.own(subject) if self.is_layer else None
        self.name = name or getattr(subject, "__name__", type(subject).__name__)
        if known is not None and not name:
            self.name = known.subject.name
            if before_activation:
                self.name += f" before its activation {keras_own.activation_of(subject)}"

    @property
    def dtype(self) -> str | None:
        """The dtype in which its first layer that has floating-point weights computes; without any, that of its own."""
        if not self.is_layer:
            return None
        for layer in (self.subject, *self._layers()):
            if any("float" in str(v.dtype) for v in layer._trainable_variables + layer._non_trainable_variables):
                return str(layer.compute_dtype)
        own = str(self.subject.compute_dtype)
        return own if "float" in own else None

    def _layers(self) -> list[Any]:
        return list(self.subject._flatten_layers(include_self=False))

    def own(self) -> Own | None:
        """Its layer, config and weights, where it is one of Keras's own layers."""
        known = keras_own.own(self.subject) if self.is_layer else None
        if known is None:
            return None
        activation = keras_own.activation_of(self.subject)
        if activation is not None and not self.before_activation:
            raise Unsupported(
                f"{self.name} with activation={activation!r} is more than {known.subject.layer}: give it without the "
                "activation, or check the model that it is in, where it is judged on what it computes before that"
            )
        config = {**keras_own.config(self.subject), **self.asked}
        return Own(known.subject.layer, config, keras_own.weights(self.subject))

    def parameters(self) -> Mapping[str, NDArray[Any]]:
        """Its floating-point variables by their path: attributes, or the names of a Functional model's layers.

        Those of a function are the variables that it closes over.
        """
        if self.is_layer:
            held = variables(self.subject)
        else:
            held = ((n, v) for n, v in closed_over(self.subject).items() if isinstance(v, _held_types()))
        named: dict[str, NDArray[Any]] = {}
        for path, variable in held:
            while path in named:  # layers of the same name
                path += "'"
            if "float" in str(variable.dtype):
                named[path] = to_numpy(getattr(variable, "value", variable))
        return named

    def arguments(self) -> Sequence[Argument]:
        """The inputs of a Functional or Sequential model, or what a layer was built with."""
        return arguments(self.subject, self.name, self.is_layer)

    def run(self, call: Call) -> Trace:
        """Plain, and observed as the back end can be."""
        self._build(call)
        with self._ready(call.dtype):
            function = self._function(call)
            output = self._first(function())
            environment = self.framework.versions()
            try:
                observed, tape = self.framework.watch(
                    lambda: self._first(function()), decomposed=call.decomposed, loops=self.is_layer
                )
            except self.framework.untraceable() as error:
                why = str(error).strip().partition("\n")[0]
                warnings.warn(f"only the output of {self.name} is judged: it cannot be traced ({why})", stacklevel=2)
                return Trace(to_numpy(output), environment=environment)
            return Trace(to_numpy(output), tape, to_numpy(observed), environment=environment)

    def _first(self, returned: Any) -> Any:
        from keras import ops, tree

        return one_tensor((t for t in tree.flatten(returned) if ops.is_tensor(t)), self.name)

    def _function(self, call: Call) -> Callable[[], Any]:
        known = keras_own.own(self.subject) if self.is_layer else None
        if known is not None and known.subject.layer == call.layer and call.through is None:
            config = {"heads": 1, "kv_heads": None, "scale": None, "causal": None, "window": None}
            config |= {**keras_own.config(self.subject), **self.asked}
            request = Request(call.layer, "", config, call.inputs, {}, call.dtype)
            return keras_own.around(self.subject, self.framework.backend, request)
        given = {n: self._tensor(a, call.dtype) for n, a in call.inputs.items()}
        subject = self.subject
        if call.through is not None:
            through = call.through
            return lambda: through(subject, **given)
        args, kwargs = taken(subject, *matched(*positional(subject), given, call.stand_ins))
        if self.is_layer and "training" in inspect.signature(subject.call).parameters:
            kwargs["training"] = False
        return lambda: subject(*args, **kwargs)

    def _tensor(self, array: NDArray[Any], dtype: str) -> Any:
        from keras import ops

        return ops.convert_to_tensor(array, dtype=dtype if array.dtype.kind == "f" else None)

    @contextmanager
    def _ready(self, dtype: str) -> Iterator[None]:
        """What a run needs around it: no gradients, no update of a variable, every layer in `dtype`."""
        import keras

        with ExitStack() as stack:
            stack.enter_context(self.framework.precision(dtype))
            stack.enter_context(self.framework.inference())
            scope = stack.enter_context(keras.StatelessScope(initialize_variables=False))
            if self.is_layer:
                layers = [self.subject, *self._layers()]
                stack.enter_context(seen_as(keras.Layer, built=True))
                stack.enter_context(_as_they_were(layers))
                if self.dtype not in (None, dtype):
                    stack.enter_context(_converted(layers, dtype, scope))
            if self.before_activation:
                stack.enter_context(keras_own.before_activation(self.subject))
            yield

    def _build(self, call: Call) -> None:
        """Where a layer has no weights yet, go on with a copy of it that has: a call of the layer would change it.

        Raises ConformanceError where it does not say how to make a copy.
        """
        missing = self._not_built()
        if missing is None:
            return
        try:
            self.subject = _made_again(self.subject)
        except (NotImplementedError, TypeError, ValueError) as error:
            raise ConformanceError(
                f"{self.name}: its layer {missing!r} is not built, so it has no weights yet; "
                "call it once on any input, or build it, first"
            ) from error
        with self.framework.precision(call.dtype), self.framework.inference():
            self._function(call)()

    def _not_built(self) -> str | None:
        """The name of a layer that gets its weights in a call to come."""
        import keras

        plain = (keras.Layer.build, keras.Model.build)
        layers = (self.subject, *self._layers()) if self.is_layer else ()
        return next((layer.name for layer in layers if not layer.built and type(layer).build not in plain), None)

    def parts(self, call: Call) -> Iterable[Part]:
        """Every one of Keras's own layers that a run calls, with what it was called with."""
        if not self.is_layer:
            return []
        self._build(call)
        where, seen, counts = paths(self.subject), list[Part](), dict[str, int]()

        def keep(layer: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            path = where.get(id(layer), layer.name)
            counts[path] = counts.get(path, 0) + 1
            seen.append(self._part(path if counts[path] == 1 else f"{path}#{counts[path]}", layer, args, kwargs))

        with self._ready(call.dtype):
            function = self._function(call)
            with watched(keep):
                function()
        return seen

    def _part(self, path: str, layer: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Part:
        known = keras_own.own(layer)
        assert known is not None
        activation = keras_own.activation_of(layer)
        if activation is not None:
            path += f" (before {activation})"
        try:
            tensors, asked = keras_own.captured(layer, args, kwargs)
            live = KerasLive(layer, self.framework, asked=asked, before_activation=activation is not None)
            live.own()
            inputs = {n: self._array(t, layer) for n, t in tensors.items()}
        except Unsupported as error:
            return Part(path, known.subject.layer, unsupported=str(error))
        return Part(path, known.subject.layer, live, inputs)

    def _array(self, value: Any, layer: Any) -> NDArray[Any]:
        """What reached a layer, as it comes to it: in the dtype in which it computes, held in float64."""
        from keras import ops

        if self.framework.is_symbolic(value):
            raise Unsupported("it runs inside a loop or function that Keras compiles, where no values can be seen")
        tensor = ops.convert_to_tensor(value)
        if "float" not in str(tensor.dtype):
            return to_numpy(tensor)
        return to_numpy(ops.cast(tensor, layer.compute_dtype)).astype("float64")


def _made_again(layer: Any) -> Any:
    """A layer made from the config of `layer`, of which a class of a user's own may take a part only.

    Raises what Keras or the class raises where that does not make one.
    """
    config = layer.get_config()
    taken = inspect.signature(type(layer)).parameters.values()
    if not any(p.kind is p.VAR_KEYWORD for p in taken):
        config = {n: v for n, v in config.items() if n in {p.name for p in taken}}
    return type(layer).from_config(config)


def _held_types() -> tuple[type, ...]:
    import keras

    return keras.Variable, type(keras.ops.zeros(()))


@contextmanager
def _as_they_were(layers: list[Any]) -> Iterator[None]:
    """What Keras, or a layer of a user's own, notes down in a layer when it is called is taken back."""
    before = [(vars(layer), dict(vars(layer))) for layer in layers]
    try:
        yield
    finally:
        for now, then in before:
            now.clear()
            now.update(then)


@contextmanager
def _converted(layers: list[Any], dtype: str, scope: Any) -> Iterator[None]:
    """While this holds, the `layers` compute in `dtype`, on values of their variables that `scope` holds for them.

    Neither layers nor variables are changed: properties of their classes stand in front of what they say.
    """
    import keras

    for layer in layers:
        if getattr(layer, "quantization_mode", None) is not None:
            raise Unsupported(f"{layer.name} has quantised weights: it cannot be run in {dtype}")
    policy = keras.DTypePolicy(dtype)
    ours = {id(layer) for layer in layers}
    floats = {id(v): v for layer in layers for v in layer.weights if "float" in str(v.dtype)}
    for variable in floats.values():
        scope.add_update((variable, keras.ops.cast(variable.value, dtype)))

    def instead(kind: type, name: str, value: Any, chosen: Callable[[Any], bool]) -> Any:
        plain = getattr(kind, name)
        made = property(lambda self: value if chosen(self) else plain.fget(self), plain.fset)
        return patch.object(kind, name, made)

    def is_ours(layer: Any) -> bool:
        return id(layer) in ours and "float" in str(layer._dtype_policy.compute_dtype)

    with ExitStack() as stack:
        for name, value in (("dtype_policy", policy), ("compute_dtype", dtype), ("variable_dtype", dtype)):
            stack.enter_context(instead(keras.Layer, name, value, is_ours))
        stack.enter_context(instead(keras.layers.InputLayer, "dtype", dtype, lambda x: "float" in str(x._dtype)))
        stack.enter_context(instead(keras.Variable, "dtype", dtype, lambda v: id(v) in floats))
        stack.enter_context(instead(keras.KerasTensor, "dtype", dtype, lambda t: "float" in str(t._dtype)))
        yield
