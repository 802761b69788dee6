"""RMS, group, instance and batch norms as people write them, right and wrong, in PyTorch, JAX, TensorFlow and NumPy.

Each is written once, over the few functions that all four have. What NumPy computes is noted down after each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import tensorflow as tf
import torch
from clean import CleanCorpus
from notebook import Notebook, in_numpy
from planted import Corpus
from problem import Problem, drawn
from watched import in_torch
from watched_jax import in_jax
from watched_tensorflow import in_tensorflow

Weights = Mapping[str, Any]
Call = Callable[[Any], Any]

WIDE = {"x": drawn("wide x", 2, 5, 7, 6) * np.geomspace(2e-3, 0.5, 6) + 0.01}
AFFINE = {"scale": drawn("norm scale 6", 6) + 1, "bias": drawn("norm bias 6", 6)}
AVERAGES = {"moving_mean": drawn("moving mean", 6) * 0.1, "moving_variance": np.geomspace(1e-5, 1, 6)}
RMS = Problem(
    "rms_norm",
    {"epsilon": 1e-5},
    {"x": drawn("rms x", 3, 7, 6) * np.geomspace(1e-3, 1, 7)[:, None]},
    {"scale": AFFINE["scale"]},
)
GROUP = Problem("group_norm", {"groups": 3, "epsilon": 1e-4}, WIDE, AFFINE)
INSTANCE = Problem("instance_norm", {"epsilon": 1e-4}, WIDE, AFFINE)
BATCH = Problem("batch_norm", {"epsilon": 1e-4}, WIDE, {**AFFINE, **AVERAGES})
TRAINING = BATCH.with_config(training=True, momentum=0.9)


class Framework:
    """The functions, over one of the frameworks; `note` keeps what NumPy gives."""

    def __init__(self, own: Any, note: Callable[[str, Any], Any] = lambda operation, value: value) -> None:
        self.own, self.note = own, note

    def mean(self, x: Any, *axes: int) -> Any:
        if self.own is tf:
            return tf.reduce_mean(x, axes, keepdims=True)
        named = {"dim": axes, "keepdim": True} if self.own is torch else {"axis": axes, "keepdims": True}
        return self.note("mean", self.own.mean(x, **named))

    def sqrt(self, x: Any) -> Any:
        return self.note("sqrt", self.own.sqrt(x))

    def reshape(self, x: Any, *shape: int) -> Any:
        return self.own.reshape(x, shape)

    def swap(self, x: Any) -> Any:
        """The last two of five axes exchanged."""
        order = (0, 1, 2, 4, 3)
        return x.permute(order) if self.own is torch else self.own.transpose(x, order)

    def maximum(self, x: Any, least: float) -> Any:
        return torch.clamp(x, min=least) if self.own is torch else self.own.maximum(x, least)


Build = Callable[[Framework, Weights], Call]
FAULTS: list[Any] = []
CLEAN: list[Any] = []
_FRAMEWORKS: tuple[tuple[str, Any, Callable[..., Any]], ...] = (
    ("PyTorch", torch, in_torch),
    ("JAX", jnp, in_jax),
    ("TensorFlow", tf, in_tensorflow),
    ("NumPy", np, in_numpy),
)


def _in(own: Any, build: Build) -> Callable[..., Any]:
    def noted(note: Notebook, w: Weights, c: Mapping[str, Any]) -> Call:
        call = build(Framework(np, note), w)
        return lambda x: note("output", call(x))

    def plain(w: Weights, c: Mapping[str, Any]) -> Call:
        return build(Framework(own), w)

    made = noted if own is np else plain
    made.__name__ = build.__name__
    return made


def everywhere(problem: Problem, *planted: Any, **options: Any) -> Callable[[Build], Build]:
    """Plant what is decorated in all four; without a culprit it is right."""

    def register(build: Build) -> Build:
        for name, own, watch in _FRAMEWORKS:
            if planted:
                corpus = Corpus(name, watch)
                corpus.plant(problem, *planted, **options)(_in(own, build))
                FAULTS.extend(corpus)
            else:
                right = CleanCorpus(name, watch)
                right.add(problem)(_in(own, build))
                CLEAN.extend(right)
        return build

    return register


# -- RMS norm ------------------------------------------------------------------------------------------------


@everywhere(RMS)
def rms_norm_by_the_formula(f: Framework, w: Weights) -> Call:
    return lambda x: x / f.sqrt(f.mean(x * x, -1) + 1e-5) * w["scale"]


@everywhere(RMS)
def rms_norm_with_the_scale_in_the_factor(f: Framework, w: Weights) -> Call:
    return lambda x: x * (w["scale"] / f.sqrt(f.mean(x * x, -1) + 1e-5))


@everywhere(RMS, "normalized", {"norm.epsilon-placement": "outside-sqrt"})
def rms_norm_with_epsilon_outside(f: Framework, w: Weights) -> Call:
    """As in the code of the paper."""
    return lambda x: f.note("divide", x / (f.sqrt(f.mean(x * x, -1)) + 1e-5)) * w["scale"]


@everywhere(RMS, "normalized", {"norm.epsilon": "0.001"})
def rms_norm_with_another_epsilon(f: Framework, w: Weights) -> Call:
    return lambda x: f.note("divide", x / f.sqrt(f.mean(x * x, -1) + 1e-3)) * w["scale"]


@everywhere(RMS, "output", {"rms_norm.weight-offset": "1+w"})
def rms_norm_of_gemma(f: Framework, w: Weights) -> Call:
    return lambda x: f.note("divide", x / f.sqrt(f.mean(x * x, -1) + 1e-5)) * (1 + w["scale"])


# -- group norm and instance norm ----------------------------------------------------------------------------


def standardised(f: Framework, parts: Any, *axes: int) -> Any:
    centred = parts - f.mean(parts, *axes)
    return centred / f.sqrt(f.mean(centred * centred, *axes) + 1e-4)


@everywhere(GROUP)
def group_norm_by_the_formula(f: Framework, w: Weights) -> Call:
    def call(x: Any) -> Any:
        parts = f.reshape(x, 2, 5, 7, 3, 2)
        return f.reshape(standardised(f, parts, 1, 2, 4), 2, 5, 7, 6) * w["scale"] + w["bias"]

    return call


@everywhere(GROUP, "mean", {"group_norm.grouping": "interleaved"}, also=None)
def group_norm_of_every_third_channel(f: Framework, w: Weights) -> Call:
    def call(x: Any) -> Any:
        parts = f.swap(f.reshape(x, 2, 5, 7, 2, 3))
        normalized = f.reshape(f.swap(standardised(f, parts, 1, 2, 4)), 2, 5, 7, 6)
        return f.note("reshape", normalized) * w["scale"] + w["bias"]

    return call


@everywhere(GROUP, "mean", {"norm.axes": "all-but-batch"}, also=None)
def group_norm_of_one_group(f: Framework, w: Weights) -> Call:
    def call(x: Any) -> Any:
        return f.note("divide", standardised(f, x, 1, 2, 3)) * w["scale"] + w["bias"]

    return call


@everywhere(INSTANCE)
def instance_norm_by_the_formula(f: Framework, w: Weights) -> Call:
    return lambda x: f.note("divide", standardised(f, x, 1, 2)) * w["scale"] + w["bias"]


@everywhere(INSTANCE, "mean", {"norm.axes": "all-but-batch"}, also=None)
def instance_norm_over_the_channels_too(f: Framework, w: Weights) -> Call:
    return lambda x: f.note("divide", standardised(f, x, 1, 2, 3)) * w["scale"] + w["bias"]


@everywhere(INSTANCE, "normalized", {"norm.epsilon-placement": "max"})
def instance_norm_with_a_least_variance(f: Framework, w: Weights) -> Call:
    def call(x: Any) -> Any:
        centred = x - f.mean(x, 1, 2)
        least = f.maximum(f.mean(centred * centred, 1, 2), 1e-4)
        return f.note("divide", centred / f.sqrt(least)) * w["scale"] + w["bias"]

    return call


# -- batch norm ----------------------------------------------------------------------------------------------


@everywhere(BATCH)
def batch_norm_folded(f: Framework, w: Weights) -> Call:
    """Scale and shift in one, as layers are fused for inference."""
    factor = w["scale"] / f.sqrt(w["moving_variance"] + 1e-4)
    return lambda x: x * factor + (w["bias"] - w["moving_mean"] * factor)


@everywhere(BATCH, "normalized", {"batch_norm.statistics": "batch"})
def batch_norm_left_in_training(f: Framework, w: Weights) -> Call:
    return lambda x: f.note("divide", standardised(f, x, 0, 1, 2)) * w["scale"] + w["bias"]


def trained(f: Framework, w: Weights, kept: float, unbiased: bool) -> Call:
    def call(x: Any) -> Any:
        mean = f.mean(x, 0, 1, 2)
        centred = x - mean
        variance = f.mean(centred * centred, 0, 1, 2)
        averaged = variance * (70 / 69) if unbiased else variance
        left = [
            f.note("average", w["moving_mean"] * kept + mean * (1 - kept)),
            f.note("average", w["moving_variance"] * kept + averaged * (1 - kept)),
        ]
        normalized = f.note("divide", centred / f.sqrt(variance + 1e-4))
        return normalized * w["scale"] + w["bias"] + 0 * (left[0] + left[1])

    return call


@everywhere(TRAINING)
def batch_norm_in_training(f: Framework, w: Weights) -> Call:
    return trained(f, w, 0.9, False)


@everywhere(TRAINING, "new_moving_variance", {"batch_norm.running-variance": "bessel"})
def batch_norm_that_keeps_the_unbiased_variance(f: Framework, w: Weights) -> Call:
    return trained(f, w, 0.9, True)


@everywhere(
    TRAINING, "new_moving_mean", {"batch_norm.momentum": "weight-of-new"}, also=("new_moving_variance",), faults=2
)
def batch_norm_with_the_momentum_of_pytorch(f: Framework, w: Weights) -> Call:
    return trained(f, w, 0.1, False)
