"""Pools in plain PyTorch, JAX, TensorFlow and NumPy, right and wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow as tf
import torch
import torch.nn.functional as F
from clean import Clean, CleanCorpus
from notebook import Notebook, in_numpy
from planted import Corpus, Planted
from problem import Problem, drawn
from torch import Tensor
from watched_jax import in_jax
from watched_tensorflow import in_tensorflow

Weights = Mapping[str, Any]
Config = Mapping[str, Any]
Call = Callable[..., Any]

X = drawn("pool x", 2, 8, 10, 3) - 2  # mostly negative: a zero is larger
MAXIMUM = Problem("max_pool2d", {"size": 3, "strides": 2, "padding": "same-upper"}, {"x": X})
MEAN = Problem("average_pool2d", {"size": 3, "strides": 2, "padding": "same-upper"}, {"x": X})
COUNTED = MEAN.with_config(padding=[[1, 1], [1, 1]], count_include_pad=True)
ROUNDED_UP = COUNTED.with_config(ceil_mode=True)
ROUNDED_DOWN = MAXIMUM.with_config(padding="valid")

IN_TORCH, RIGHT_IN_TORCH = Corpus(), CleanCorpus()
IN_JAX, RIGHT_IN_JAX = Corpus("JAX", in_jax), CleanCorpus("JAX", in_jax)
IN_TENSORFLOW, RIGHT_IN_TENSORFLOW = Corpus("TensorFlow", in_tensorflow), CleanCorpus("TensorFlow", in_tensorflow)
IN_NUMPY, RIGHT_IN_NUMPY = Corpus("NumPy", in_numpy), CleanCorpus("NumPy", in_numpy)

# -------------------------------------------------------------------------------------------- PyTorch


def second(pool: Callable[[Tensor], Tensor]) -> Call:
    """A pool of channels second, of channels last."""
    return lambda x: pool(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


@RIGHT_IN_TORCH.add(MAXIMUM)
def maximum_behind_a_padding_of_its_own(w: Weights, c: Config) -> Call:
    return second(lambda x: F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-torch.inf), 3, 2))


@RIGHT_IN_TORCH.add(MAXIMUM)
def maximum_of_one_axis_after_the_other(w: Weights, c: Config) -> Call:
    def pool(x: Tensor) -> Tensor:
        wide = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-torch.inf), (1, 3), (1, 2))
        return F.max_pool2d(wide, (3, 1), (2, 1))

    return second(pool)


@RIGHT_IN_TORCH.add(MEAN)
def mean_as_a_quotient_of_two_sums(w: Weights, c: Config) -> Call:
    def pool(x: Tensor) -> Tensor:
        sums, counts = (F.avg_pool2d(F.pad(a, (0, 1, 0, 1)), 3, 2) for a in (x, torch.ones_like(x)))
        return sums / counts

    return second(pool)


@RIGHT_IN_TORCH.add(COUNTED)
def mean_as_a_convolution(w: Weights, c: Config) -> Call:
    def pool(x: Tensor) -> Tensor:
        kernel = torch.full((3, 1, 3, 3), 1 / 9, dtype=x.dtype)
        return F.conv2d(x, kernel, stride=2, padding=1, groups=3)

    return second(pool)


@IN_TORCH.plant(MAXIMUM, "padded", {"pool.padding-value": "0"})
def MaximumBehindZeros(w: Weights, c: Config) -> Call:
    return second(lambda x: F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 3, 2))


@IN_TORCH.plant(ROUNDED_DOWN, "output", {"pool.ceil-mode": "ceil"})
def MaximumOfMoreWindows(w: Weights, c: Config) -> Call:
    """As Caffe counts them: the output is larger."""
    return second(lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True))


@IN_TORCH.plant(COUNTED.with_config(count_include_pad=False), "output", {"pool.count-include-pad": "include"})
def MeanThatCountsItsPadding(w: Weights, c: Config) -> Call:
    """The default of torch.nn.AvgPool2d."""
    return second(lambda x: F.avg_pool2d(x, 3, 2, 1))


@IN_TORCH.plant(ROUNDED_UP, "output", {"pool.ceil-mode": "ceil-divisor"})
def MeanThatCountsWhatIsBehindThePadding(w: Weights, c: Config) -> Call:
    """The model that torch 2.12 exports to ONNX, in older runtimes (pytorch#183528)."""
    return second(lambda x: F.avg_pool2d(F.pad(x, (1, 2, 1, 2)), 3, 2))


# ------------------------------------------------------------------------------------------------ JAX
def reduced(x: jax.Array, start: float, function: Any, padding: Any) -> jax.Array:
    pads = padding if isinstance(padding, str) else ((0, 0), *padding, (0, 0))
    return jax.lax.reduce_window(x, jnp.asarray(start, x.dtype), function, (1, 3, 3, 1), (1, 2, 2, 1), pads)


@RIGHT_IN_JAX.add(MAXIMUM, compiled=True)
def jax_maximum(w: Weights, c: Config) -> Call:
    return lambda x: reduced(x, -jnp.inf, jax.lax.max, "SAME")


@RIGHT_IN_JAX.add(MEAN)
def jax_mean(w: Weights, c: Config) -> Call:
    return lambda x: reduced(x, 0, jax.lax.add, "SAME") / reduced(jnp.ones_like(x), 0, jax.lax.add, "SAME")


@IN_JAX.plant(MAXIMUM, "padded", {"conv.same-padding": "same-lower"})
def jax_maximum_padded_above(w: Weights, c: Config) -> Call:
    return lambda x: reduced(x, -jnp.inf, jax.lax.max, "SAME_LOWER")


@IN_JAX.plant(MEAN, "output", {"pool.count-include-pad": "include"})
def jax_mean_of_whole_windows(w: Weights, c: Config) -> Call:
    """The default of flax.linen.avg_pool."""
    return lambda x: reduced(x, 0, jax.lax.add, "SAME") / 9


# ----------------------------------------------------------------------------------------- TensorFlow
@RIGHT_IN_TENSORFLOW.add(MAXIMUM)
def tensorflow_maximum(w: Weights, c: Config) -> Call:
    return lambda x: tf.nn.max_pool2d(x, 3, 2, "SAME")


@RIGHT_IN_TENSORFLOW.add(MEAN)
def tensorflow_mean(w: Weights, c: Config) -> Call:
    return lambda x: tf.nn.avg_pool2d(x, 3, 2, "SAME")


@IN_TENSORFLOW.plant(MAXIMUM, "padded", {"pool.padding-value": "0"})
def tensorflow_maximum_behind_zeros(w: Weights, c: Config) -> Call:
    """Keras's ResNet50 pads with a layer of zeros in front of its first pool."""
    return lambda x: tf.nn.max_pool2d(tf.pad(x, [[0, 0], [0, 1], [0, 1], [0, 0]]), 3, 2, "VALID")


@IN_TENSORFLOW.plant(MEAN, "output", {"pool.count-include-pad": "include"})
def tensorflow_mean_behind_zeros(w: Weights, c: Config) -> Call:
    return lambda x: tf.nn.avg_pool2d(tf.pad(x, [[0, 0], [0, 1], [0, 1], [0, 0]]), 3, 2, "VALID")


# ---------------------------------------------------------------------------------------------- NumPy
def windows(padded: np.ndarray) -> np.ndarray:
    """`batch height width channel 3 3`."""
    return np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2]


def around(x: np.ndarray, pair: tuple[int, int], **how: Any) -> np.ndarray:
    return np.pad(x, [(0, 0), pair, pair, (0, 0)], **how)


@RIGHT_IN_NUMPY.add(MAXIMUM)
def numpy_maximum(note: Notebook, w: Weights, c: Config) -> Call:
    return lambda x: note("max", windows(note("pad", around(x, (0, 1), constant_values=-np.inf))).max((-1, -2)))


@RIGHT_IN_NUMPY.add(MEAN)
def numpy_mean(note: Notebook, w: Weights, c: Config) -> Call:
    """Not a number where there is nothing."""
    return lambda x: note("mean", np.nanmean(windows(around(x, (0, 1), constant_values=np.nan)), (-1, -2)))


@IN_NUMPY.plant(MAXIMUM, "padded", {"conv.same-padding": "symmetric"})
def numpy_maximum_padded_on_both_sides(note: Notebook, w: Weights, c: Config) -> Call:
    """torch's padding=1, in place of Keras's 'same'."""
    return lambda x: note("max", windows(note("pad", around(x, (1, 1), constant_values=-np.inf))).max((-1, -2)))


@IN_NUMPY.plant(
    MEAN,
    "padded",
    {"pool.padding-mode": "replicate", "pool.count-include-pad": "include"},
    also=("output",),
    faults=2,
)
def numpy_mean_of_a_repeated_edge(note: Notebook, w: Weights, c: Config) -> Call:
    """As Keras 3.15 on torch has it (keras#23233)."""
    return lambda x: note("mean", windows(note("pad", around(x, (0, 1), mode="edge"))).mean((-1, -2)))


FAULTS: list[Planted] = [*IN_TORCH, *IN_JAX, *IN_TENSORFLOW, *IN_NUMPY]
CLEAN: list[Clean] = [*RIGHT_IN_TORCH, *RIGHT_IN_JAX, *RIGHT_IN_TENSORFLOW, *RIGHT_IN_NUMPY]
