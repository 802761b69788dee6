"""Activations: functions of one value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from conformance import elementwise
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


def hard_sigmoid_output(x: Float[Array, "*shape"], *, hard_sigmoid_form: str = "x/6+0.5") -> Float[Array, "*shape"]:
    made: Array = (hard_sigmoid_fifth if hard_sigmoid_form == "0.2x+0.5" else hard_sigmoid)(x)
    return made


def softplus_output(x: Float[Array, "*shape"], *, softplus_threshold: str = "none") -> Float[Array, "*shape"]:
    linear = softplus_threshold == "linear-above-20"
    made: Array = (elementwise.softplus_to_20 if linear else elementwise.softplus)(x)
    return made


def log_sigmoid_output(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    made: Array = -elementwise.softplus(-x)
    return made


def softsign_output(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return x / (np.abs(x) + 1.0)


def tanh_output(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return np.tanh(x)


def mish_output(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return x * np.tanh(elementwise.softplus(x))


def plain(function: Elementwise) -> Callable[[Array], Array]:
    """The step that is `function` of every element."""

    def output(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        made: Array = function(x)
        return made

    return output


def _of_one_value(name: str, step: Callable[..., Array], summary: str, formula: str, source: str) -> Layer:
    return Layer.define(
        name,
        summary=summary,
        formula=f"output = {formula}",
        source=source,
        inputs={"x": "*shape"},
        weights={},
        config={},
        steps={"output": step},
    )


LAYERS = {
    "gelu": gelu,
    "sigmoid": _of_one_value(
        "sigmoid",
        plain(sigmoid),
        "The logistic function.",
        "1 / (1 + exp(-x))",
        "Rumelhart, Hinton and Williams, Learning Representations by Back-Propagating Errors, Nature 323, 1986",
    ),
    "log_sigmoid": _of_one_value(
        "log_sigmoid",
        log_sigmoid_output,
        "The logarithm of the logistic function, which does not overflow.",
        "-log(1 + exp(-x))",
        "The softplus of -x, negated: Maechler, Accurately Computing log(1 - exp(-|a|)) (2012)",
    ),
    "hard_sigmoid": _of_one_value(
        "hard_sigmoid",
        hard_sigmoid_output,
        "A sigmoid of three straight lines.",
        "clip(x / 6 + 0.5, 0, 1)",
        "Howard et al., Searching for MobileNetV3, ICCV 2019, section 5.2",
    ),
    "tanh": _of_one_value(
        "tanh",
        tanh_output,
        "The hyperbolic tangent.",
        "tanh(x)",
        "LeCun, Bottou, Orr and Mueller, Efficient BackProp (1998)",
    ),
    "softplus": _of_one_value(
        "softplus",
        softplus_output,
        "A smooth rectifier.",
        "log(1 + exp(x))",
        "Dugas, Bengio, Belisle, Nadeau and Garcia, NIPS 2000; computed as Maechler (2012) has it",
    ),
    "softsign": _of_one_value(
        "softsign",
        softsign_output,
        "A sigmoid with polynomial tails, from -1 to 1.",
        "x / (1 + |x|)",
        "Glorot and Bengio, Understanding the Difficulty of Training Deep Feedforward Networks, AISTATS 2010",
    ),
    "silu": _of_one_value(
        "silu",
        plain(elementwise.silu),
        "The sigmoid-weighted linear unit, also called swish.",
        "x sigmoid(x)",
        "Elfwing, Uchibe and Doya, Sigmoid-Weighted Linear Units (2017); Ramachandran, Zoph and Le (2017)",
    ),
    "mish": _of_one_value(
        "mish",
        mish_output,
        "A smooth unit that lets small negative values through.",
        "x tanh(log(1 + exp(x)))",
        "Misra, Mish: A Self Regularized Non-Monotonic Activation Function (2019), equation 1",
    ),
    "hard_silu": _of_one_value(
        "hard_silu",
        plain(elementwise.hard_silu),
        "SiLU with a sigmoid of three straight lines, also called hard swish.",
        "x clip(x / 6 + 0.5, 0, 1)",
        "Howard et al., Searching for MobileNetV3, ICCV 2019, section 5.2",
    ),
}
