"""The layers inside a Keras model: where each is, and what a call of the model gives to those of Keras's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from conformance_adapters.keras_own import own


def paths(model: Any) -> dict[int, str]:
    """The path to every layer inside `model`, by the layer's id, as people write it: the names of the layers of a
    Functional or Sequential model, the attributes of any other, and the names of what those hide."""
    found: dict[int, str] = {id(model): model.name}
    _walk(model, "", found)
    return found


def variables(model: Any) -> Iterator[tuple[str, Any]]:
    """Every variable inside `model` with its path: the layer's, and the attribute that holds it or else its name."""
    where = {id(model): "", **{key: f"{path}." for key, path in paths(model).items() if key != id(model)}}
    for layer in model._flatten_layers():
        for variable in layer._trainable_variables + layer._non_trainable_variables:
            attribute = (n for n, v in vars(layer).items() if v is variable and not n.startswith("_"))
            yield where.get(id(layer), f"{layer.name}.") + next(attribute, str(variable.name)), variable


def _walk(layer: Any, prefix: str, found: dict[int, str]) -> None:
    from keras import Layer

    for name, value in _children(layer):
        path = f"{prefix}.{name}" if prefix else name
        if isinstance(value, Layer):
            if id(value) not in found:
                found[id(value)] = path
                _walk(value, path, found)
        else:
            _walk(value, path, found)


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    """The layers, and the containers of layers, that `value` holds."""
    from keras import Layer, Sequential

    if isinstance(value, dict):
        held = ((str(k), v) for k, v in value.items())
    elif isinstance(value, list | tuple):
        held = ((str(i), v) for i, v in enumerate(value))
    elif isinstance(value, Sequential) or _functional(value):
        held = ((layer.name, layer) for layer in value.layers)
    else:
        attributes = {**vars(value), **vars(value).get("_modules", {})}  # PyTorch keeps modules apart
        held = ((n, v) for n, v in attributes.items() if not n.startswith("_"))
    yield from ((n, v) for n, v in held if isinstance(v, Layer) or (isinstance(v, dict | list | tuple) and _holds(v)))
    if isinstance(value, Layer):
        yield from ((layer.name, layer) for layer in value._layers)


def _functional(value: Any) -> bool:
    return any(c.__name__ == "Functional" and c.__module__.startswith("keras.") for c in type(value).__mro__)


def _holds(container: Any) -> bool:
    """Whether a container has layers directly in it (what is nested deeper goes by its name)."""
    from keras import Layer

    return any(isinstance(v, Layer) for v in (container.values() if isinstance(container, dict) else container))


@contextmanager
def watched(seen: Callable[[Any, tuple[Any, ...], Mapping[str, Any]], None]) -> Iterator[None]:
    """While this holds, `seen(layer, args, kwargs)` is called before every call of one of Keras's own layers.

    What such a layer calls inside of itself is its own affair. The layers are left alone: it is the method of Keras's
    base class that is stood in for.
    """
    from keras import Layer

    plain = Layer.__call__
    inside: list[Any] = []

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if inside or own(self) is None:
            return plain(self, *args, **kwargs)
        seen(self, args, kwargs)
        inside.append(self)
        try:
            return plain(self, *args, **kwargs)
        finally:
            inside.pop()

    with patch.object(Layer, "__call__", call):
        yield
