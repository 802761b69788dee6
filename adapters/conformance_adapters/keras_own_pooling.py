"""Keras's own pools as they are met in a user's model: the subject and the config of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance.errors import Unsupported
from conformance_adapters.keras_pooling import POOLS, Pool


def _refuse(condition: object, sentence: str) -> None:
    if condition:
        raise Unsupported(sentence)


def _named(layer: Any) -> str:
    _refuse(layer.data_format != "channels_last", f"keras.layers.{type(layer).__name__} with channels first")
    return f"keras.layers.{type(layer).__name__}"


def windowed(layer: Any) -> dict[str, Any]:
    """The config of a maximum or a mean of windows. Raises Unsupported for channels first."""
    _named(layer)
    return {
        "size": list(layer.pool_size),
        "strides": list(layer.strides),
        "padding": {"same": "same-upper"}.get(layer.padding, layer.padding),
    }


def whole(layer: Any) -> dict[str, Any]:
    """Of a pool over all of a channel, which has no config. Raises Unsupported for channels first or kept axes."""
    _refuse(layer.keepdims, f"{_named(layer)} that keeps the axes (keepdims)")
    return {}


def adaptive(layer: Any) -> dict[str, Any]:
    """How many windows there are along each axis. Raises Unsupported for channels first."""
    _named(layer)
    return {"size": list(layer.output_size)}


def own_pools() -> dict[type, tuple[type[Pool], Callable[[Any], dict[str, Any]]]]:
    """Every pool of this version of Keras that is a canonical layer."""
    from keras import layers

    made: dict[type, tuple[type[Pool], Callable[[Any], dict[str, Any]]]] = {}
    for kind, subject in POOLS.items():
        if hasattr(layers, kind):  # the adaptive ones are younger than the rest
            config = whole if kind.startswith("Global") else adaptive if kind.startswith("Adaptive") else windowed
            made[getattr(layers, kind)] = subject, config
    return made
