"""Normalisation: subtract a mean, divide by a standard deviation, scale and shift."""

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
    over = reduced_axes(x.ndim, axes, norm_axes)
    if norm_variance == "fast":
        return np.mean(np.square(x), axis=over, keepdims=True) - np.square(mean)
    population = np.mean(np.square(x - mean), axis=over, keepdims=True)
    if norm_variance == "population":
        return population
    n = int(np.prod([x.shape[a] for a in over]))
    return population * (n / (n - 1) if n > 1 else np.nan)


def normalized(
    x: Float[Array, "*shape"],
    mean: Float[Array, "*reduced"],
    variance: Float[Array, "*reduced"],
    epsilon: float,
    *,
    norm_epsilon: float | str = "<config>",
    norm_epsilon_placement: str = "inside-sqrt",
) -> Float[Array, "*shape"]:
    small = epsilon if norm_epsilon == "<config>" else float(norm_epsilon)
    if norm_epsilon_placement == "outside-sqrt":
        return (x - mean) / (np.sqrt(variance) + small)
    if norm_epsilon_placement == "max":
        return (x - mean) / np.sqrt(np.maximum(variance, small))
    if norm_epsilon_placement == "none":
        return (x - mean) / np.sqrt(variance)
    return (x - mean) / np.sqrt(variance + small)


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

LAYERS = {"layer_norm": layer_norm}
