"""MatConvNet's networks: `net.layers`, a cell array of structs with a `type`, and `weights` where they have some.

Sources: the help texts of vl_simplenn, vl_nnconv, vl_nnconvt, vl_nnbnorm and vl_nnpool
(https://www.vlfeat.org/matconvnet/mfiles/). In its older form a layer has `filters` and `biases`.

A batch normalisation has moments in place of a mean and a variance: the second is `sqrt(variance + epsilon)`, and no
epsilon is added to it again. The canonical layer has it squared, with an epsilon of 0: the root of a square is the
number itself, also in floating point.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.errors import Unsupported
from conformance.subject import Own
from conformance_adapters.matlab_properties import Properties, text

if TYPE_CHECKING:
    from numpy.typing import NDArray

CELL = re.compile(r"((?:\w+\.)?layers\{\d+\})\.(weights\{\d\}|\w+)$")
_OLDER = {"filters": "weights{1}", "biases": "weights{2}"}


def own(properties: Properties, layer: str | None = None, config: Mapping[str, Any] | None = None) -> Own:
    """The canonical layer that a cell's struct is, or `layer` where that is given; `config` goes before the struct's.

    Raises Unsupported for one that no canonical layer is.
    """
    there = {_OLDER.get(n, n): value for n, value in properties.items() if np.size(value)}
    kind = there.get("type", "conv" if "weights{1}" in there else "")
    if not isinstance(kind, str) or kind not in _READ:
        known = ", ".join(_READ)
        raise Unsupported(f"a layer of MatConvNet's type {kind!r} is no canonical layer; there are {known}")
    made = _READ[kind](there)
    if layer is not None and layer != made.layer:
        raise Unsupported(f"a layer of MatConvNet's type {kind!r} is a {made.layer}, and no {layer}")
    return Own(made.layer, {**made.config, **(config or {})}, made.weights)


def _array(properties: Properties, name: str, axes: int | None = None) -> NDArray[Any]:
    value = properties.get(name)
    if value is None or isinstance(value, str):
        raise Unsupported(f"it has no {name}")
    return value if axes is None else value.reshape(value.shape + (1,) * (axes - value.ndim))


def _sides(properties: Properties, name: str, default: int, count: int) -> list[int]:
    """One number for all sides, or one for each."""
    value = properties.get(name, np.full(1, default))
    if isinstance(value, str) or value.size not in (1, count):
        raise Unsupported(f"its {name} is neither one number nor {count}")
    return [int(n) for n in np.resize(value.ravel(), count)]


def _pads(properties: Properties, name: str) -> Any:
    """`[top bottom left right]` as pairs."""
    top, bottom, left, right = _sides(properties, name, 0, 4)
    return [[top, bottom], [left, right]] if any((top, bottom, left, right)) else "valid"


def _bias(properties: Properties) -> dict[str, NDArray[Any]]:
    value = properties.get("weights{2}")
    return {} if value is None or isinstance(value, str) else {"bias": value.ravel()}


def _convolution(properties: Properties) -> Own:
    config = {
        "strides": _sides(properties, "stride", 1, 2),
        "padding": _pads(properties, "pad"),
        "dilation": _sides(properties, "dilate", 1, 2),
    }
    return Own("conv2d", config, {"kernel": _array(properties, "weights{1}", 4), **_bias(properties)})


def _transposed(properties: Properties) -> Own:
    if _sides(properties, "numGroups", 1, 1) != [1]:
        raise Unsupported("a canonical transposed convolution has no groups")
    config = {"strides": _sides(properties, "upsample", 1, 2), "padding": _pads(properties, "crop")}
    return Own("conv_transpose2d", config, {"kernel": _array(properties, "weights{1}", 4), **_bias(properties)})


def _batch_norm(properties: Properties) -> Own:
    scale, moments = _array(properties, "weights{1}").ravel(), _array(properties, "weights{3}")
    if moments.shape != (scale.size, 2):
        raise Unsupported(f"its moments are {moments.shape[0]}x{moments.shape[1]}, not {scale.size}x2")
    sigma = moments[:, 1]
    weights = {"scale": scale, **_bias(properties), "moving_mean": moments[:, 0], "moving_variance": sigma * sigma}
    return Own("batch_norm", {"epsilon": 0.0}, weights)


def _pool(properties: Properties) -> Own:
    config = {"size": _sides(properties, "pool", 1, 2), "strides": _sides(properties, "stride", 1, 2)}
    padding = _pads(properties, "pad")
    if text(properties, "method") == "avg":
        if padding != "valid":
            raise Unsupported("what the padding of its average pool counts is not documented")
        return Own("average_pool2d", config, {})
    return Own("max_pool2d", {**config, "padding": padding}, {})


def _relu(properties: Properties) -> Own:
    leak = properties.get("leak", np.zeros(1))
    if isinstance(leak, str) or not leak.any():
        return Own("relu", {}, {})
    return Own("leaky_relu", {"slope": float(leak.ravel()[0])}, {})


def _dropout(properties: Properties) -> Own:
    rate = properties.get("rate", np.full(1, 0.5))
    return Own("dropout", {} if isinstance(rate, str) else {"rate": float(rate.ravel()[0])}, {})


_READ = {
    "conv": _convolution,
    "convt": _transposed,
    "bnorm": _batch_norm,
    "pool": _pool,
    "relu": _relu,
    "sigmoid": lambda properties: Own("sigmoid", {}, {}),
    "softmax": lambda properties: Own("softmax", {}, {}),
    "dropout": _dropout,
}
