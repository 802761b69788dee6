"""Activations: functions of one value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from conformance.elementwise import Elementwise, erf, hard_sigmoid, hard_sigmoid_fifth, relu, sigmoid
from conformance.errors import ConformanceError
from conformance.layer import Layer, nearest

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Float

    from conformance.array import Array

_BY_NAME: dict[str, Callable[[Array], Array] | Elementwise] = {
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "hard_sigmoid": hard_sigmoid,
    "hard_sigmoid_fifth": hard_sigmoid_fifth,
    "relu": relu,
    "linear": lambda x: x,
}


def activate(name: str, x: Array) -> Array:
    """The activation called `name` of `x`. Raises ConformanceError for an unknown one."""
    if name not in _BY_NAME:
        raise ConformanceError(f"unknown activation {name!r}{nearest(name, _BY_NAME)}; known are {', '.join(_BY_NAME)}")
    result: Array = _BY_NAME[name](x)
    return result


def gelu_output(
    x: Float[Array, "*shape"], approximation: str, *, gelu_approximation: str = "<config>"
) -> Float[Array, "*shape"]:
    form = approximation if gelu_approximation == "<config>" else gelu_approximation
    if form == "tanh":
        inner = (x + x * np.square(x) * 0.044715) * math.sqrt(2 / math.pi)
        return x * 0.5 * (np.tanh(inner) + 1.0)
    if form == "sigmoid":
        return x * sigmoid(x * 1.702)
    if form != "none":
        raise ConformanceError(f"gelu has no approximation {form!r}; it has 'none', 'tanh' and 'sigmoid'")
    return x * 0.5 * (erf(x / math.sqrt(2)) + 1.0)


gelu = Layer.define(
    "gelu",
    summary="The Gaussian error linear unit.",
    formula="output = x/2 (1 + erf(x / sqrt 2))",
    source="Hendrycks and Gimpel, Gaussian Error Linear Units (2016), section 2, with both approximations",
    inputs={"x": "*shape"},
    weights={},
    config={"approximation": "none"},
    steps={"output": gelu_output},
)

LAYERS = {"gelu": gelu}
