"""Normalisation of each sample: divide by a standard deviation or a root mean square, scale and shift."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from conformance.layer import Layer
from conformance.refit import linear_in

if TYPE_CHECKING:
    from jaxtyping import Float

    from conformance.array import Array


def reduced_axes(ndim: int, axes: int, choice: str) -> tuple[int, ...]:
    """The axes over which statistics are taken: the last `axes`, or what the convention says instead."""
    if choice == "all-but-batch":
        return tuple(range(1, ndim))
    return (0,) if choice == "batch" else tuple(range(ndim - axes, ndim))


def spread(x: Array, mean: Array, over: tuple[int, ...], norm_variance: str) -> Array:
    """The mean square of x - mean over some axes, which keep a size of one, or what the convention says instead."""
    if norm_variance == "fast":
        return np.mean(np.square(x), axis=over, keepdims=True) - np.square(mean)
    population = np.mean(np.square(x - mean), axis=over, keepdims=True)
    if norm_variance == "population":
        return population
    n = int(np.prod([x.shape[a] for a in over]))
    return population * (n / (n - 1) if n > 1 else np.nan)


def mean(x: Float[Array, "*shape"], axes: int, *, norm_axes: str = "<config>") -> Float[Array, "*reduced"]:
    return np.mean(x, axis=reduced_axes(x.ndim, axes, norm_axes), keepdims=True)


def variance(
    x: Float[Array, "*shape"],
    mean: Float[Array, "*reduced"],
    axes: int,
    *,
    norm_axes: str = "<config>",
    norm_variance: str = "population",
) -> Float[Array, "*reduced"]:
    return spread(x, mean, reduced_axes(x.ndim, axes, norm_axes), norm_variance)


def divisor(variance: Array, epsilon: float, norm_epsilon: float | str, norm_epsilon_placement: str) -> Array:
    """What is divided by: sqrt(variance + epsilon), or what the conventions say instead. Any axes."""
    small = epsilon if norm_epsilon == "<config>" else float(norm_epsilon)
    if norm_epsilon_placement == "outside-sqrt":
        return np.sqrt(variance) + small
    if norm_epsilon_placement == "max":
        return np.sqrt(np.maximum(variance, small))
    return np.sqrt(variance if norm_epsilon_placement == "none" else variance + small)


def normalized(
    x: Float[Array, "*shape"],
    mean: Float[Array, "*reduced"],
    variance: Float[Array, "*reduced"],
    epsilon: float,
    *,
    norm_epsilon: float | str = "<config>",
    norm_epsilon_placement: str = "inside-sqrt",
) -> Float[Array, "*shape"]:
    return (x - mean) / divisor(variance, epsilon, norm_epsilon, norm_epsilon_placement)


@linear_in(vectors=("scale", "bias"))
def output(
    normalized: Float[Array, "*shape"],
    scale: Float[Array, "*axes"] | None = None,
    bias: Float[Array, "*axes"] | None = None,
) -> Float[Array, "*shape"]:
    scaled = normalized if scale is None else normalized * scale
    return scaled if bias is None else scaled + bias


layer_norm = Layer.define(
    "layer_norm",
    summary="Normalises each sample over its last axes.",
    formula="output = (x - mean) / sqrt(variance + epsilon) * scale + bias",
    source="Ba, Kiros, Hinton, Layer Normalization (2016), equations 3 and 4",
    inputs={"x": "*shape"},
    weights={"scale?": "*axes", "bias?": "*axes"},
    config={"axes": 1, "epsilon": 1e-5},
    steps={"mean": mean, "variance": variance, "normalized": normalized, "output": output},
)


def mean_square(x: Float[Array, "*batch channel"]) -> Float[Array, "*batch one"]:
    return np.mean(np.square(x), axis=-1, keepdims=True)


def rms_normalized(
    x: Float[Array, "*batch channel"],
    mean_square: Float[Array, "*batch one"],
    epsilon: float,
    *,
    norm_epsilon: float | str = "<config>",
    norm_epsilon_placement: str = "inside-sqrt",
) -> Float[Array, "*batch channel"]:
    return x / divisor(mean_square, epsilon, norm_epsilon, norm_epsilon_placement)


@linear_in(vectors=("scale", "bias"))
def rms_output(
    normalized: Float[Array, "*batch channel"],
    scale: Float[Array, " channel"] | None = None,
    bias: Float[Array, " channel"] | None = None,
    *,
    rms_norm_weight_offset: str = "w",
) -> Float[Array, "*batch channel"]:
    if scale is not None and rms_norm_weight_offset == "1+w":
        scale = scale + 1.0
    scaled = normalized if scale is None else normalized * scale
    return scaled if bias is None else scaled + bias


rms_norm = Layer.define(
    "rms_norm",
    summary="Divides each sample by its root mean square over the last axis.",
    formula="output = x / sqrt(mean(x^2) + epsilon) * scale + bias",
    source="Zhang and Sennrich, Root Mean Square Layer Normalization (2019), equation 4, with epsilon inside the root",
    inputs={"x": "*batch channel"},
    weights={"scale?": "channel", "bias?": "channel"},
    config={"epsilon": 1e-6},
    steps={"mean_square": mean_square, "normalized": rms_normalized, "output": rms_output},
)

LAYERS = {"layer_norm": layer_norm, "rms_norm": rms_norm}
