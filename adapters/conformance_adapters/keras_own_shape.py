"""Keras's embedding, and its layers that move elements, as they are met in a user's model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from conformance.errors import Unsupported
from conformance_adapters.keras_resize import Resizing, UpSampling2D
from conformance_adapters.keras_shape import ZERO_PADDING, Dropout, Embedding, Flatten
from conformance_adapters.keras_subject import KerasSubject

Known = tuple[type[KerasSubject], Callable[[Any], dict[str, Any]], Callable[[Mapping[str, Any]], dict[str, Any]]]


def _channels_last(layer: Any) -> None:
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise Unsupported(f"keras.layers.{type(layer).__name__} with channels first")


def _embedding(layer: Any) -> dict[str, Any]:
    if getattr(layer, "lora_enabled", False):
        raise Unsupported("keras.layers.Embedding with a low-rank update (lora_rank)")
    return {}


def _flatten(layer: Any) -> dict[str, Any]:
    _channels_last(layer)
    return {}


def _padding(layer: Any) -> dict[str, Any]:
    _channels_last(layer)
    given = layer.padding
    return {"padding": [list(pair) for pair in ([given] if isinstance(given[0], int) else given)]}


def _resizing(layer: Any) -> dict[str, Any]:
    _channels_last(layer)
    for option in ("crop_to_aspect_ratio", "pad_to_aspect_ratio"):
        if getattr(layer, option, False):
            raise Unsupported(f"keras.layers.Resizing that keeps the aspect ratio ({option})")
    size = [layer.height, layer.width]
    return {"size": size, "antialias": bool(getattr(layer, "antialias", False)), **_interpolated(layer)}


def _upsampling(layer: Any) -> dict[str, Any]:
    _channels_last(layer)
    return {"scale": [float(n) for n in layer.size], **_interpolated(layer)}


def _interpolated(layer: Any) -> dict[str, Any]:
    """The kernels of tf.image.resize, whichever back end it is."""
    if layer.interpolation not in ("nearest", "bilinear", "bicubic"):
        raise Unsupported(f"keras.layers.{type(layer).__name__} with interpolation={layer.interpolation!r}")
    return {"mode": layer.interpolation, "cubic_coefficient": -0.5, "outside": "excluded"}


def own_shapes(x: Callable[[Mapping[str, Any]], dict[str, Any]]) -> dict[type, Known]:
    """Each such layer of Keras that is a canonical one; `x` reads the arguments of a call of a layer of one input."""
    from keras import layers

    return {
        layers.Embedding: (Embedding, _embedding, lambda given: {"indices": next(iter(given.values()))}),
        layers.Flatten: (Flatten, _flatten, x),
        layers.Dropout: (Dropout, lambda layer: {"rate": layer.rate}, x),
        layers.Resizing: (Resizing, _resizing, x),
        layers.UpSampling2D: (UpSampling2D, _upsampling, x),
        **{getattr(layers, s.name.rpartition(".")[2]): (s, _padding, x) for s in ZERO_PADDING},
    }
