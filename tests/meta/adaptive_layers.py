"""Adaptive pools in plain PyTorch, JAX, TensorFlow, Keras and NumPy, right and wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow as tf
import torch
import torch.nn.functional as F
from clean import Clean, CleanCorpus
from keras_attention import keras, ops
from notebook import Notebook, in_numpy
from planted import Corpus, Planted
from problem import Problem, by_position, drawn
from watched_jax import in_jax
from watched_tensorflow import in_tensorflow

Weights = Mapping[str, Any]
Config = Mapping[str, Any]
Call = Callable[..., Any]
Windows = list[tuple[int, int]]

# Three windows of eight elements and four of eleven: no pool of one width and stride has them.
ADAPTIVE = Problem("adaptive_average_pool2d", {"size": [3, 4]}, {"x": drawn("adaptive x", 2, 8, 11, 3)})
EVEN = Problem("adaptive_average_pool2d", {"size": [4, 3]}, {"x": drawn("adaptive even", 2, 8, 12, 3)})
BOTH = {"uneven": ADAPTIVE, "even": EVEN}

IN_TORCH, RIGHT_IN_TORCH = Corpus(), CleanCorpus()
IN_JAX, RIGHT_IN_JAX = Corpus("JAX", in_jax), CleanCorpus("JAX", in_jax)
IN_TENSORFLOW, RIGHT_IN_TENSORFLOW = Corpus("TensorFlow", in_tensorflow), CleanCorpus("TensorFlow", in_tensorflow)
IN_KERAS, RIGHT_IN_KERAS = Corpus("Keras", in_tensorflow), CleanCorpus("Keras", in_tensorflow)
IN_NUMPY, RIGHT_IN_NUMPY = Corpus("NumPy", in_numpy), CleanCorpus("NumPy", in_numpy)


def overlapping(n: int, size: int) -> Windows:
    return [(math.floor(i * n / size), math.ceil((i + 1) * n / size)) for i in range(size)]


def side_by_side(n: int, size: int) -> Windows:
    """The ends of one are the beginnings of the next."""
    ends = np.linspace(0, n, size + 1).astype(int).tolist()
    return list(pairwise(ends))


def averages(windows: Windows, n: int) -> np.ndarray:
    """A row for each window, whose product with an axis of n elements is the window's mean."""
    made = np.zeros((len(windows), n))
    for row, (first, last) in zip(made, windows, strict=True):
        row[first:last] = 1 / (last - first)
    return made


def both(c: Config, x: Any, windows: Callable[[int, int], Windows] = overlapping) -> list[Windows]:
    return [windows(n, size) for n, size in zip(x.shape[1:3], c["size"], strict=True)]


# -------------------------------------------------------------------------------------------- PyTorch
def second(pool: Callable[[torch.Tensor], torch.Tensor]) -> Call:
    """A pool of channels second, of channels last."""
    return lambda x: pool(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


@RIGHT_IN_TORCH.add(BOTH)
def adaptive_mean(w: Weights, c: Config) -> Call:
    return second(lambda x: F.adaptive_avg_pool2d(x, c["size"]))


@RIGHT_IN_TORCH.add(EVEN)
def adaptive_mean_of_windows_side_by_side(w: Weights, c: Config) -> Call:
    """Where there is nothing left over, a pool of one window does."""
    return second(lambda x: F.avg_pool2d(x, (2, 4)))


@IN_TORCH.plant(ADAPTIVE, "output", {"pool.adaptive-windows": "floor,floor"})
def AdaptiveOfWindowsSideBySide(w: Weights, c: Config) -> Call:
    def call(x: torch.Tensor) -> torch.Tensor:
        rows, columns = both(c, x, side_by_side)
        made = [torch.stack([x[:, a:b, p:q].mean((1, 2)) for p, q in columns], 1) for a, b in rows]
        return torch.stack(made, 1)

    return call


@IN_TORCH.plant(ADAPTIVE, "output", {"pool.adaptive-windows": "fixed"})
def AdaptiveOfOneWindowAndStride(w: Weights, c: Config) -> Call:
    """What exporters put in its place."""

    def pool(x: torch.Tensor) -> torch.Tensor:
        strides = [n // size for n, size in zip(x.shape[2:], c["size"], strict=True)]
        windows = [n - (k - 1) * s for n, k, s in zip(x.shape[2:], c["size"], strides, strict=True)]
        return F.avg_pool2d(x, windows, strides)

    return second(pool)


# ------------------------------------------------------------------------------------------------ JAX
@RIGHT_IN_JAX.add(BOTH, compiled=True)
def jax_adaptive(w: Weights, c: Config) -> Call:
    """Sums of windows, over how many elements they have."""

    def call(x: jax.Array) -> jax.Array:
        rows, columns = both(c, x)
        sums = [jnp.stack([x[:, a:b, p:q].sum((1, 2)) for p, q in columns], 1) for a, b in rows]
        counts = np.outer([b - a for a, b in rows], [q - p for p, q in columns])
        return jnp.stack(sums, 1) / counts[..., None].astype(x.dtype)

    return call


@IN_JAX.plant(ADAPTIVE, "output", {"pool.adaptive-windows": "floor,floor"})
def jax_adaptive_side_by_side(w: Weights, c: Config) -> Call:
    def call(x: jax.Array) -> jax.Array:
        rows, columns = (averages(k, n) for k, n in zip(both(c, x, side_by_side), x.shape[1:3], strict=True))
        return jnp.einsum("ph,qw,bhwc->bpqc", rows.astype(x.dtype), columns.astype(x.dtype), x)

    return call


# ----------------------------------------------------------------------------------------- TensorFlow
@RIGHT_IN_TENSORFLOW.add(BOTH)
def tensorflow_adaptive(w: Weights, c: Config) -> Call:
    """As a product with a matrix for each axis."""

    def call(x: tf.Tensor) -> tf.Tensor:
        rows, columns = (tf.constant(averages(k, n), x.dtype) for k, n in zip(both(c, x), x.shape[1:3], strict=True))
        return tf.einsum("qw,bpwc->bpqc", columns, tf.einsum("ph,bhwc->bpwc", rows, x))

    return call


@IN_TENSORFLOW.plant(ADAPTIVE, "output", {"pool.adaptive-windows": "fixed"})
def tensorflow_adaptive_of_one_window(w: Weights, c: Config) -> Call:
    """As onnx-tf and others have it."""
    return lambda x: tf.nn.avg_pool2d(x, (4, 5), (2, 2), "VALID")


# ---------------------------------------------------------------------------------------------- Keras
@RIGHT_IN_KERAS.add(BOTH)
def keras_adaptive(w: Weights, c: Config) -> Call:
    """The layer."""
    return lambda x: keras.layers.AdaptiveAveragePooling2D(c["size"], dtype=x.dtype.name)(x)


@IN_KERAS.plant(ADAPTIVE, "output", {"pool.adaptive-windows": "divided"})
def keras_adaptive_that_leaves_the_rest_out(w: Weights, c: Config) -> Call:
    return by_position(lambda x: ops.average_pool(x[:, :6, :8], 2, 2))


# ---------------------------------------------------------------------------------------------- NumPy
@RIGHT_IN_NUMPY.add(BOTH)
def numpy_adaptive(note: Notebook, w: Weights, c: Config) -> Call:
    """One axis after the other."""

    def call(x: np.ndarray) -> np.ndarray:
        rows, columns = both(c, x)
        high = note("rows", np.stack([x[:, a:b].mean(1) for a, b in rows], 1))
        return note("columns", np.stack([high[:, :, p:q].mean(2) for p, q in columns], 2))

    return call


@IN_NUMPY.plant(ADAPTIVE, "output", {"pool.adaptive-windows": "divided"})
def numpy_adaptive_by_reshaping(note: Notebook, w: Weights, c: Config) -> Call:
    """What is left over is cut off, so that a reshape does."""

    def call(x: np.ndarray) -> np.ndarray:
        blocks = x[:, :6, :8].reshape(2, 3, 2, 4, 2, 3)
        return note("mean", blocks.mean((2, 4)))

    return call


FAULTS: list[Planted] = [*IN_TORCH, *IN_JAX, *IN_TENSORFLOW, *IN_KERAS, *IN_NUMPY]
CLEAN: list[Clean] = [*RIGHT_IN_TORCH, *RIGHT_IN_JAX, *RIGHT_IN_TENSORFLOW, *RIGHT_IN_KERAS, *RIGHT_IN_NUMPY]
