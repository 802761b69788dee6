"""Batch norm: each channel by its mean and variance over the batch and space, or by moving averages of these.

The input is `batch *space channel`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from conformance.elementwise import Elementwise
from conformance.layer import Layer
from conformance.layers.channel_normalization import output
from conformance.layers.normalization import divisor, spread

if TYPE_CHECKING:
    from jaxtyping import Float

    from conformance.array import Array

# x and the mean, as (x - mean) / r may take them: it may be computed as x / r - mean / r, where each is rounded.
multiplied_out = Elementwise("multiplied_out", lambda x: x, 1.0)


def over_batch(x: Array) -> tuple[int, ...]:
    """All axes but that of the channels."""
    return tuple(range(x.ndim - 1))


# A step that is not asked for passes its first parameter on: in inference the moving averages stand for the batch's.


def mean(moving_mean: Float[Array, " channel"], x: Float[Array, "batch *space channel"]) -> Float[Array, " channel"]:
    return np.mean(x, axis=over_batch(x))


def variance(
    moving_variance: Float[Array, " channel"],
    x: Float[Array, "batch *space channel"],
    mean: Float[Array, " channel"],
    *,
    norm_variance: str = "population",
) -> Float[Array, " channel"]:
    return np.reshape(spread(x, mean, over_batch(x), norm_variance), mean.shape)


def averaged(old: Array, new: Array, momentum: float, batch_norm_momentum: str) -> Array:
    """The moving average: `momentum` is the weight of the old, or of the new if the convention says so."""
    kept = momentum if batch_norm_momentum == "weight-of-old" else 1 - momentum
    return old * kept + new * (1 - kept)


def new_moving_mean(
    moving_mean: Float[Array, " channel"],
    mean: Float[Array, " channel"],
    momentum: float,
    *,
    batch_norm_momentum: str = "weight-of-old",
) -> Float[Array, " channel"]:
    return averaged(moving_mean, mean, momentum, batch_norm_momentum)


def new_moving_variance(
    moving_variance: Float[Array, " channel"],
    variance: Float[Array, " channel"],
    x: Float[Array, "batch *space channel"],
    momentum: float,
    *,
    batch_norm_momentum: str = "weight-of-old",
    batch_norm_running_variance: str = "population",
) -> Float[Array, " channel"]:
    if batch_norm_running_variance == "bessel":
        n = math.prod(x.shape[:-1])
        variance = variance * (n / (n - 1) if n > 1 else np.nan)
    return averaged(moving_variance, variance, momentum, batch_norm_momentum)


def normalized(
    x: Float[Array, "batch *space channel"],
    mean: Float[Array, " channel"],
    variance: Float[Array, " channel"],
    epsilon: float,
    *,
    norm_epsilon: float | str = "<config>",
    norm_epsilon_placement: str = "inside-sqrt",
    batch_norm_statistics: str = "moving",
) -> Float[Array, "batch *space channel"]:
    if batch_norm_statistics == "batch":
        mean = np.mean(x, axis=over_batch(x))
        variance = np.reshape(spread(x, mean, over_batch(x), "population"), mean.shape)
    by = divisor(variance, epsilon, norm_epsilon, norm_epsilon_placement)
    return (multiplied_out(x) - multiplied_out(mean)) / by


batch_norm = Layer.define(
    "batch_norm",
    summary="Normalises each channel by its moving averages or, in training, over the batch and space.",
    formula="output = (x - mean) / sqrt(variance + epsilon) * scale + bias",
    source="Ioffe and Szegedy, Batch Normalization (2015), algorithms 1 and 2; the moving variance is the population's",
    inputs={"x": "batch *space channel"},
    weights={"scale?": "channel", "bias?": "channel", "moving_mean": "channel", "moving_variance": "channel"},
    config={"epsilon": 1e-5, "training": False, "momentum": 0.99},
    # What a call leaves behind comes before what it gives: the last step is the output.
    steps={
        "mean": (mean, "training"),
        "variance": (variance, "training"),
        "new_moving_mean": (new_moving_mean, "training"),
        "new_moving_variance": (new_moving_variance, "training"),
        "normalized": normalized,
        "output": output,
    },
)

LAYERS = {"batch_norm": batch_norm}
