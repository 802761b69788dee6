"""Which layer of MATLAB's some properties are of: by its class, or by their names and shapes.

The class is text called `Type` or `Class`: `nnet.cnn.layer.LSTMLayer` as MATLAB's `class` gives it, or `lstmLayer` as
the function that makes it is called. What names and shapes leave open is told as several layers, the likeliest first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod

import numpy as np

from conformance_adapters.matlab_layers import CHANNEL_WISE, LAYERS, is_over_space
from conformance_adapters.matlab_properties import Properties, text

CLASS = ("Type", "Class", "type", "class")
_SPELLED = {"transposedconvolution": "transposedconv", "networklayer": ""}
_KERNELS = ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
_PATHS = {  # how the last part of a path names a normalisation
    "layer_norm": re.compile(r"(?i)(layer_?norm\w*|ln|norm)(_?\d+)?|\w*layer_?norm\w*"),
    "instance_norm": re.compile(r"(?i)\w*instance_?norm\w*|in(_?\d+)?"),
}


def plain(name: str) -> str:
    """The name of a class or function of MATLAB's, without what both do not share."""
    bare = re.sub(r"[\W_]", "", name.rpartition(".")[2].lower()).removesuffix("layer")
    for spelled, other in _SPELLED.items():
        bare = bare.replace(spelled, other)
    return bare


_NONE = {  # layers of MATLAB's that no canonical layer is, and why
    "lstmprojected": "its weights are kept as products with its projectors",
    "gruprojected": "its weights are kept as products with its projectors",
    "flatten": "it flattens the first axis fastest, and the canonical layer the last",
    "crosschannelnormalization": "no canonical layer normalises over neighbouring channels",
    "attention": "its heads are split and merged, which is a part of multi_head_attention, with no parameters",
    "resize2d": "where it takes its samples is not confirmed",
    "resize3d": "where it takes its samples is not confirmed",
    "depthtospace2d": "the order of its blocks is not confirmed",
    "sinusoidalpositionencoding": "the order of its sines and cosines is not confirmed",
    "positionembedding": "the axes of its table are not confirmed",
}

_BY_CLASS: Mapping[str, str] = {plain(own.function): own.layer for own in reversed(LAYERS)}


def why_none(said: str) -> str:
    """Why no canonical layer is the layer of this class."""
    return f"{said}: {_NONE.get(plain(said), 'no canonical layer is known to be it')}"


def class_of(properties: Properties) -> str | None:
    """What the properties say that their class is; None where they do not."""
    said = [value for name in CLASS if isinstance(value := properties.get(name), str)]
    return said[0] if said else None


def told(properties: Properties, path: str = "") -> tuple[str, ...]:
    """The canonical layers that `properties` may be of, the likeliest first; none where no such layer is known.

    `path` is that of the struct, whose last part may name a normalisation.
    """
    there = {n: value for n, value in properties.items() if np.size(value)}
    said = class_of(there)
    known = None if said is None else _BY_CLASS.get(plain(said))
    if known is not None:
        return (_normal(known, there),)
    arrays = {n: np.shape(value) for n, value in there.items() if not isinstance(value, str)}
    if "QueryWeights" in arrays:
        return ("multi_head_attention",)
    if {"InputWeights", "RecurrentWeights"} <= arrays.keys():
        return _recurrent(arrays)
    if {"TrainedMean", "TrainedVariance"} & arrays.keys():
        return ("batch_norm",)
    if {"Scale", "Offset"} <= arrays.keys():
        return _normalisation(there, path)
    if "Weights" in arrays:
        return tuple(_normal(layer, there) for layer in _weights(arrays, "NumGroups" in there))
    return ()


def _normal(layer: str, properties: Properties) -> str:
    """The canonical layer of its own that a layer is with some options."""
    if layer == "layer_norm" and is_over_space(properties):
        return "group_norm"
    if text(properties, "NumGroups") == CHANNEL_WISE:
        return {"group_norm": "instance_norm", "conv2d": "depthwise_conv2d"}.get(layer, layer)
    return layer


def _recurrent(arrays: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    if {"InputProjector", "OutputProjector"} & arrays.keys():  # lstmProjectedLayer: W Q Q' x
        return ()
    gates, units = arrays["InputWeights"][0], arrays["RecurrentWeights"][1]
    return {4: ("lstm",), 8: ("lstm",), 3: ("gru",)}.get(gates // units if units and gates % units == 0 else 0, ())


def _normalisation(properties: Properties, path: str) -> tuple[str, ...]:
    if "NumGroups" in properties:
        return (_normal("group_norm", properties),)
    if "OperationDimension" in properties:
        return (_normal("layer_norm", properties),)
    last = re.sub(r"\W", "_", path.rpartition(".")[2])
    named = tuple(layer for layer, spelled in _PATHS.items() if last and spelled.fullmatch(last))
    return named or ("layer_norm", "instance_norm")


def _weights(arrays: Mapping[str, tuple[int, ...]], grouped: bool) -> tuple[str, ...]:
    """What has `Weights`: by its axes, by its biases and by the properties that only some have."""
    weights, bias = arrays["Weights"], arrays.get("Bias")
    if "Dimension" in arrays or "NumWords" in arrays:
        return ("embedding",)
    counted = (prod(arrays.get(n, ())) for n in ("FilterSize", "Stride", "DilationFactor"))
    axes = next((count for count in counted if count > 1), None)  # one number may be that of each axis
    if axes is None and len(weights) == 2:
        return ("linear",) if bias is not None or "OutputSize" in arrays else ("linear", "embedding")
    if grouped or "NumChannelsPerGroup" in arrays or "NumFiltersPerGroup" in arrays:
        return ("conv2d",)
    found = [layer for layer in _KERNELS if axes in (None, int(layer[-2])) and _has_axes(layer, weights, bias)]
    least = min((int(layer[-2]) for layer in found), default=0)  # the fewest trailing axes that MATLAB dropped
    found = [layer for layer in found if int(layer[-2]) == least]
    if "CroppingSize" in arrays or "Cropping" in arrays:
        found = [layer for layer in found if "transpose" in layer]
    elif "PaddingSize" in arrays or "DilationFactor" in arrays:
        found = [layer for layer in found if "transpose" not in layer]
    if len(weights) == 5 and axes != 3 and _is_grouped(weights, bias):
        found = ["conv2d", *found]
    return tuple(dict.fromkeys(found))


def _has_axes(layer: str, weights: tuple[int, ...], bias: tuple[int, ...] | None) -> bool:
    """Whether a kernel of `layer` may have this size, and biases of that: trailing axes of length 1 are dropped."""
    space = int(layer[-2])
    if len(weights) > space + 2:
        return False
    whole = weights + (1,) * (space + 2 - len(weights))
    filters = whole[-2] if "transpose" in layer else whole[-1]
    return bias is None or (prod(bias) == filters and (prod(bias) == 1 or len(bias) in (2, space + 1)))


def _is_grouped(weights: tuple[int, ...], bias: tuple[int, ...] | None) -> bool:
    return bias is None or prod(bias) == weights[3] * weights[4]
