"""What a Keras layer, model or function asks for, and how it is given that."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from conformance.errors import ConformanceError
from conformance.subject import Argument

_CONTEXT = ("training",)  # what a layer's `call` takes from Keras, not from the user


def positional(subject: Any) -> tuple[list[str], int]:
    """The names of what `subject` takes in order, and how many of them it must be given.

    Those of a model that was made from its inputs are the names of the inputs.
    """
    tensors = _inputs(subject)
    if tensors is not None:
        return [t.name for t in tensors], len(tensors)
    import keras

    function = subject.call if isinstance(subject, keras.Layer) else subject
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a built-in
        return [], 0
    names = [p for p in found if p.kind in (p.POSITIONAL_OR_KEYWORD, p.POSITIONAL_ONLY) and p.name not in _CONTEXT]
    return [p.name for p in names], sum(p.default is p.empty for p in names)


def closed_over(function: Any) -> Mapping[str, Any]:
    """What a Python function reads of the names around it, by name."""
    return inspect.getclosurevars(function).nonlocals if inspect.isfunction(function) else {}


def taken(subject: Any, args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """`args` and `kwargs` as `subject` takes them: a model made from its inputs takes one structure of them all.

    Raises ConformanceError where it has more inputs than were given.
    """
    tensors = _inputs(subject)
    if tensors is None:
        return args, kwargs
    import keras

    left = iter(args)
    flat = [kwargs[t.name] if t.name in kwargs else next(left, None) for t in tensors]
    extra = list(left)
    if extra or any(f is None for f in flat):
        raise ConformanceError(
            f"{subject.name} has {len(tensors)} inputs ({', '.join(t.name for t in tensors)}), "
            f"and was given {len(args) + len(kwargs)}; name them as the model does"
        )
    if isinstance(subject, keras.Sequential):
        return flat, {}
    return [keras.tree.pack_sequence_as(subject.input, flat)], {}


def arguments(subject: Any, name: str, is_layer: bool) -> Sequence[Argument]:
    """The inputs that `subject` asks for. Raises ConformanceError where it does not tell their shapes."""
    if is_layer:
        tensors = _inputs(subject)
        if tensors is not None:
            return [_of_tensor(t, subject) for t in tensors]
        made = list(_of_shapes(subject))
        if made:
            return made
    raise ConformanceError(f"{name} does not tell the shapes of its inputs: give them (`inputs`)")


def _inputs(subject: Any) -> list[Any] | None:
    """The symbolic inputs of a Functional or Sequential model."""
    import keras

    if not isinstance(subject, keras.Model):
        return None
    try:
        return list(subject.inputs)
    except (AttributeError, ValueError, TypeError):  # made otherwise, or not built yet
        return None


def _of_tensor(tensor: Any, model: Any) -> Argument:
    """A symbolic input. What goes into an embedding are indices, whatever the dtype is said to be."""
    shape, dtype = tuple(tensor.shape), str(tensor.dtype)
    tables = list(_tables(model))
    fed = [t.input_dim for t in tables if any(i is tensor for n in t._inbound_nodes for i in n.input_tensors)]
    if fed:
        return Argument(tensor.name, shape, "int64", min(fed))
    if "int" in dtype:
        return Argument(tensor.name, shape, "int64", min((t.input_dim for t in tables), default=2))
    return Argument(tensor.name, shape, dtype)


def _tables(model: Any) -> Iterator[Any]:
    import keras

    yield from (layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Embedding))


def _of_shapes(layer: Any) -> Iterator[Argument]:
    """What a layer was built with, else what it specifies of its first input. The first axis is the batch."""
    names, _ = positional(layer)
    built: Mapping[str, Any] = layer.get_build_config() or {}
    shapes = built.get("shapes_dict") or {}
    if not shapes and "input_shape" in built:
        shapes = {names[0]: built["input_shape"]}
    for key, shape in shapes.items():
        if not isinstance(shape, list | tuple) or not shape or not all(n is None or isinstance(n, int) for n in shape):
            continue
        table = next(_tables(layer), None)
        whole = (None, *shape[1:])
        name = key.removesuffix("_shape")
        yield (
            Argument(name, whole)
            if table is None or len(shape) > 2
            else Argument(name, whole, "int64", table.input_dim)
        )
    if shapes:
        return
    spec = layer.input_spec[0] if isinstance(layer.input_spec, list | tuple) else layer.input_spec
    rank = None if spec is None else spec.ndim or spec.min_ndim
    if rank and spec.axes:
        sizes = [None] * rank
        for axis, size in spec.axes.items():
            sizes[axis] = size
        yield Argument(names[0], tuple(sizes))
