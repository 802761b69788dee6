"""Rectifiers: what is positive passes, what is negative is cut off, made small or bent.

They are sums of a positive and of a negative part, `max(x, 0)` and something of `min(x, 0)`, of which one is zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from conformance.elementwise import relu as positive
from conformance.elementwise import relu6 as positive_to_6
from conformance.layer import Layer
from conformance.refit import linear_in

if TYPE_CHECKING:
    from jaxtyping import Float

    from conformance.array import Array

# With these, mean 0 and variance 1 are a fixed point (Klambauer, Unterthiner, Mayr and Hochreiter, 2017).
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def relu_output(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    made: Array = positive(x)
    return made


def relu6_output(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    made: Array = positive_to_6(x)
    return made


def leaky_relu_output(
    x: Float[Array, "*shape"], slope: float, *, leaky_relu_slope: float | str = "<config>"
) -> Float[Array, "*shape"]:
    below = slope if leaky_relu_slope == "<config>" else float(leaky_relu_slope)
    return np.maximum(x, 0) + np.minimum(x, 0) * below


@linear_in(vectors=("slope",))
def prelu_output(x: Float[Array, "*shape"], slope: Float[Array, "*slope"]) -> Float[Array, "*shape"]:
    return np.maximum(x, 0) + np.minimum(x, 0) * np.broadcast_to(slope, np.shape(x))


def exponential(x: Array, alpha: float) -> Array:
    """x where it is positive, alpha (exp(x) - 1) where it is not; any axes."""
    return np.maximum(x, 0) + np.expm1(np.minimum(x, 0)) * alpha


def elu_output(
    x: Float[Array, "*shape"], alpha: float, *, elu_alpha: float | str = "<config>"
) -> Float[Array, "*shape"]:
    return exponential(x, alpha if elu_alpha == "<config>" else float(elu_alpha))


def selu_output(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return exponential(x, SELU_ALPHA) * SELU_SCALE


def celu_output(
    x: Float[Array, "*shape"], alpha: float, *, elu_alpha: float | str = "<config>"
) -> Float[Array, "*shape"]:
    used = alpha if elu_alpha == "<config>" else float(elu_alpha)
    return np.maximum(x, 0) + np.expm1(np.minimum(x, 0) / used) * used


relu = Layer.define(
    "relu",
    summary="The rectified linear unit.",
    formula="output = max(x, 0)",
    source="Nair and Hinton, Rectified Linear Units Improve Restricted Boltzmann Machines, ICML 2010",
    inputs={"x": "*shape"},
    weights={},
    config={},
    steps={"output": relu_output},
)

relu6 = Layer.define(
    "relu6",
    summary="The rectified linear unit, cut off at six.",
    formula="output = min(max(x, 0), 6)",
    source="Krizhevsky, Convolutional Deep Belief Networks on CIFAR-10 (2010)",
    inputs={"x": "*shape"},
    weights={},
    config={},
    steps={"output": relu6_output},
)

leaky_relu = Layer.define(
    "leaky_relu",
    summary="A rectifier with a slope of its own for negative values.",
    formula="output = where(x >= 0, x, slope x)",
    source="Maas, Hannun and Ng, Rectifier Nonlinearities Improve Neural Network Acoustic Models, ICML 2013",
    inputs={"x": "*shape"},
    weights={},
    config={"slope": 0.01},
    steps={"output": leaky_relu_output},
)

prelu = Layer.define(
    "prelu",
    summary="A rectifier whose slope for negative values is learned: one number, or one per channel.",
    formula="output = where(x >= 0, x, slope x)",
    source="He, Zhang, Ren and Sun, Delving Deep into Rectifiers, ICCV 2015, equation 1",
    inputs={"x": "*shape"},
    weights={"slope": "*slope"},
    config={},
    steps={"output": prelu_output},
)

elu = Layer.define(
    "elu",
    summary="The exponential linear unit.",
    formula="output = where(x >= 0, x, alpha (exp(x) - 1))",
    source="Clevert, Unterthiner and Hochreiter, Fast and Accurate Deep Network Learning by ELUs, ICLR 2016",
    inputs={"x": "*shape"},
    weights={},
    config={"alpha": 1.0},
    steps={"output": elu_output},
)

selu = Layer.define(
    "selu",
    summary="The self-normalising exponential linear unit, an ELU with two fixed numbers.",
    formula="output = 1.0507 where(x >= 0, x, 1.67326 (exp(x) - 1))",
    source="Klambauer, Unterthiner, Mayr and Hochreiter, Self-Normalizing Neural Networks (2017), equation 2",
    inputs={"x": "*shape"},
    weights={},
    config={},
    steps={"output": selu_output},
)

celu = Layer.define(
    "celu",
    summary="The continuously differentiable exponential linear unit.",
    formula="output = where(x >= 0, x, alpha (exp(x / alpha) - 1))",
    source="Barron, Continuously Differentiable Exponential Linear Units (2017)",
    inputs={"x": "*shape"},
    weights={},
    config={"alpha": 1.0},
    steps={"output": celu_output},
)

LAYERS = {made.name: made for made in (relu, relu6, leaky_relu, prelu, elu, selu, celu)}
