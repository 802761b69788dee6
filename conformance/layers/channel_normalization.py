"""Normalisation of channels over space, alone or in groups. The input is `batch *space channel`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from conformance.layer import Layer
from conformance.layers.normalization import divisor, spread
from conformance.refit import linear_in

if TYPE_CHECKING:
    from jaxtyping import Float

    from conformance.array import Array


@linear_in(vectors=("scale", "bias"))
def output(
    normalized: Float[Array, "batch *space channel"],
    scale: Float[Array, " channel"] | None = None,
    bias: Float[Array, " channel"] | None = None,
) -> Float[Array, "batch *space channel"]:
    scaled = normalized if scale is None else normalized * scale
    return scaled if bias is None else scaled + bias


# -- instance norm -------------------------------------------------------------------------------------------


def over_space(ndim: int, choice: str) -> tuple[int, ...]:
    """The axes over which statistics are taken: all between the first and the last, or what the convention says."""
    if choice == "batch":
        return (0,)
    return tuple(range(1, ndim if choice == "all-but-batch" else ndim - 1))


def instance_mean(
    x: Float[Array, "batch *space channel"], *, norm_axes: str = "<config>"
) -> Float[Array, "batch *ones channel"]:
    return np.mean(x, axis=over_space(x.ndim, norm_axes), keepdims=True)


def instance_variance(
    x: Float[Array, "batch *space channel"],
    mean: Float[Array, "batch *ones channel"],
    *,
    norm_axes: str = "<config>",
    norm_variance: str = "population",
) -> Float[Array, "batch *ones channel"]:
    return spread(x, mean, over_space(x.ndim, norm_axes), norm_variance)


def instance_normalized(
    x: Float[Array, "batch *space channel"],
    mean: Float[Array, "batch *ones channel"],
    variance: Float[Array, "batch *ones channel"],
    epsilon: float,
    *,
    norm_epsilon: float | str = "<config>",
    norm_epsilon_placement: str = "inside-sqrt",
) -> Float[Array, "batch *space channel"]:
    return (x - mean) / divisor(variance, epsilon, norm_epsilon, norm_epsilon_placement)


instance_norm = Layer.define(
    "instance_norm",
    summary="Normalises each channel of each sample over space.",
    formula="output = (x - mean) / sqrt(variance + epsilon) * scale + bias",
    source="Ulyanov, Vedaldi, Lempitsky, Instance Normalization (2016), equation 3",
    inputs={"x": "batch *space channel"},
    weights={"scale?": "channel", "bias?": "channel"},
    config={"epsilon": 1e-5},
    steps={
        "mean": instance_mean,
        "variance": instance_variance,
        "normalized": instance_normalized,
        "output": output,
    },
)


# -- group norm ----------------------------------------------------------------------------------------------


def grouped(x: Array, groups: int, grouping: str) -> Array:
    """`batch *space group size` of `batch *space channel`: a group is channels in a row, or g, g + groups, ..."""
    *rest, channels = x.shape
    if groups < 1 or channels % groups:
        raise ValueError(f"{channels} channels cannot be in {groups} equal groups")
    if grouping == "interleaved":
        return np.swapaxes(np.reshape(x, (*rest, channels // groups, groups)), -1, -2)
    return np.reshape(x, (*rest, groups, channels // groups))


def ungrouped(x: Array, grouping: str) -> Array:
    """The inverse of `grouped`."""
    *rest, groups, size = x.shape
    return np.reshape(np.swapaxes(x, -1, -2) if grouping == "interleaved" else x, (*rest, groups * size))


def over_group(ndim: int, choice: str) -> tuple[int, ...]:
    """The axes of a grouped array over which statistics are taken: space and the channels of a group."""
    every = tuple(range(1, ndim))
    if choice == "batch":
        return (0,)
    return every if choice == "all-but-batch" else (*every[:-2], ndim - 1)


def group_mean(
    x: Float[Array, "batch *space channel"],
    groups: int,
    *,
    norm_axes: str = "<config>",
    group_norm_grouping: str = "contiguous",
) -> Float[Array, "batch *ones group one"]:
    parts = grouped(x, groups, group_norm_grouping)
    return np.mean(parts, axis=over_group(parts.ndim, norm_axes), keepdims=True)


def group_variance(
    x: Float[Array, "batch *space channel"],
    mean: Float[Array, "batch *ones group one"],
    groups: int,
    *,
    norm_axes: str = "<config>",
    norm_variance: str = "population",
    group_norm_grouping: str = "contiguous",
) -> Float[Array, "batch *ones group one"]:
    parts = grouped(x, groups, group_norm_grouping)
    return spread(parts, mean, over_group(parts.ndim, norm_axes), norm_variance)


def group_normalized(
    x: Float[Array, "batch *space channel"],
    mean: Float[Array, "batch *ones group one"],
    variance: Float[Array, "batch *ones group one"],
    groups: int,
    epsilon: float,
    *,
    norm_epsilon: float | str = "<config>",
    norm_epsilon_placement: str = "inside-sqrt",
    group_norm_grouping: str = "contiguous",
) -> Float[Array, "batch *space channel"]:
    by = divisor(variance, epsilon, norm_epsilon, norm_epsilon_placement)
    return ungrouped((grouped(x, groups, group_norm_grouping) - mean) / by, group_norm_grouping)


group_norm = Layer.define(
    "group_norm",
    summary="Normalises each group of channels of each sample over space.",
    formula="output = (x - mean) / sqrt(variance + epsilon) * scale + bias, in each of the groups",
    source="Wu and He, Group Normalization (2018), equations 1, 2 and 7",
    inputs={"x": "batch *space channel"},
    weights={"scale?": "channel", "bias?": "channel"},
    config={"groups": 1, "epsilon": 1e-5},
    steps={"mean": group_mean, "variance": group_variance, "normalized": group_normalized, "output": output},
)

LAYERS = {"group_norm": group_norm, "instance_norm": instance_norm}
