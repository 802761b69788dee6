"""Resizing in plain PyTorch, JAX, TensorFlow and NumPy, right and wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import tensorflow as tf
import torch
import torch.nn.functional as F
from clean import Clean, CleanCorpus
from notebook import Notebook, in_numpy
from planted import Corpus, Planted
from problem import Problem, drawn
from watched_jax import in_jax
from watched_tensorflow import in_tensorflow

Weights = Mapping[str, Any]
Config = Mapping[str, Any]
Call = Callable[..., Any]

X = drawn("resize x", 2, 6, 8, 3)
NEAREST = Problem("resize", {"size": [2, 3]}, {"x": drawn("resize even", 2, 8, 12, 3)})
LARGER = Problem("resize", {"size": [9, 13], "mode": "bilinear"}, {"x": X})
SMALLER = Problem("resize", {"size": [3, 5], "mode": "bilinear", "outside": "excluded", "antialias": True}, {"x": X})
CUBIC = Problem("resize", {"size": [9, 13], "mode": "bicubic"}, {"x": X})
KEYS = CUBIC.with_config(cubic_coefficient=-0.5, outside="excluded")

IN_TORCH, RIGHT_IN_TORCH = Corpus(), CleanCorpus()
IN_JAX, RIGHT_IN_JAX = Corpus("JAX", in_jax), CleanCorpus("JAX", in_jax)
IN_TENSORFLOW, RIGHT_IN_TENSORFLOW = Corpus("TensorFlow", in_tensorflow), CleanCorpus("TensorFlow", in_tensorflow)
IN_NUMPY, RIGHT_IN_NUMPY = Corpus("NumPy", in_numpy), CleanCorpus("NumPy", in_numpy)


# -------------------------------------------------------------------------------------------- PyTorch
def second(resize: Callable[[torch.Tensor], torch.Tensor]) -> Call:
    """A resize of channels second, of channels last."""
    return lambda x: resize(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


@RIGHT_IN_TORCH.add(LARGER)
def bilinear_by_grid_sample(w: Weights, c: Config) -> Call:
    def resize(x: torch.Tensor) -> torch.Tensor:
        rows, columns = ((2 * torch.arange(n, dtype=x.dtype) + 1) / n - 1 for n in (9, 13))
        grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)
        return F.grid_sample(x, grid.expand(2, -1, -1, -1), padding_mode="border", align_corners=False)

    return second(resize)


@IN_TORCH.plant(LARGER, "coordinates", {"resize.coordinates": "align-corners"})
def BilinearFromCornerToCorner(w: Weights, c: Config) -> Call:
    return second(lambda x: F.interpolate(x, (9, 13), mode="bilinear", align_corners=True))


@IN_TORCH.plant(SMALLER, "output", {"resize.antialias": "off"})
def BilinearThatPassesElementsOver(w: Weights, c: Config) -> Call:
    """The default of PyTorch, where Pillow was meant."""
    return second(lambda x: F.interpolate(x, (3, 5), mode="bilinear"))


# ------------------------------------------------------------------------------------------------ JAX
@RIGHT_IN_JAX.add(SMALLER, compiled=True)
def jax_smaller(w: Weights, c: Config) -> Call:
    return lambda x: jax.image.resize(x, (2, 3, 5, 3), "bilinear")


@IN_JAX.plant(CUBIC, "output", {"resize.cubic-coefficient": "-0.5", "resize.outside": "excluded"}, faults=2)
def jax_cubic(w: Weights, c: Config) -> Call:
    """jax#15768: not the kernel of torch.nn.functional.interpolate."""
    return lambda x: jax.image.resize(x, (2, 9, 13, 3), "bicubic")


# ----------------------------------------------------------------------------------------- TensorFlow
@IN_TENSORFLOW.plant(KEYS, "output", {"resize.cubic-table": "1024"})
def tensorflow_cubic(w: Weights, c: Config) -> Call:
    return lambda x: tf.image.resize(x, (9, 13), "bicubic")


@RIGHT_IN_TENSORFLOW.add(LARGER)
def tensorflow_larger(w: Weights, c: Config) -> Call:
    """As a product with a matrix for each axis: tf.image.resize has no float64."""

    def matrix(inside: int, count: int) -> np.ndarray:
        at = np.clip((np.arange(count) + 0.5) * inside / count - 0.5, 0, inside - 1)
        return np.maximum(1 - np.abs(at[:, None] - np.arange(inside)), 0)

    def resize(x: tf.Tensor) -> tf.Tensor:
        rows, columns = (tf.constant(m, x.dtype) for m in (matrix(6, 9), matrix(8, 13)))
        return tf.einsum("qw,bpwc->bpqc", columns, tf.einsum("ph,bhwc->bpwc", rows, x))

    return resize


# ---------------------------------------------------------------------------------------------- NumPy
@RIGHT_IN_NUMPY.add(LARGER)
def numpy_larger(note: Notebook, w: Weights, c: Config) -> Call:
    """As a product with a matrix for each axis."""

    def matrix(inside: int, count: int) -> np.ndarray:
        at = np.clip((np.arange(count) + 0.5) * inside / count - 0.5, 0, inside - 1)
        return np.maximum(1 - np.abs(at[:, None] - np.arange(inside)), 0)

    def resize(x: np.ndarray) -> np.ndarray:
        rows, columns = matrix(6, 9).astype(x.dtype), matrix(8, 13).astype(x.dtype)
        return note("columns", np.einsum("qw,bpwc->bpqc", columns, note("rows", np.einsum("ph,bhwc->bpwc", rows, x))))

    return resize


@IN_NUMPY.plant(NEAREST, "output", {"resize.nearest-rounding": "half-down"})
def numpy_lower_of_two(note: Notebook, w: Weights, c: Config) -> Call:
    """As ONNX has it, where both are as near."""
    return lambda x: note("nearest", x[:, 1::4, 1::4])


FAULTS: list[Planted] = [*IN_TORCH, *IN_JAX, *IN_TENSORFLOW, *IN_NUMPY]
CLEAN: list[Clean] = [*RIGHT_IN_TORCH, *RIGHT_IN_JAX, *RIGHT_IN_TENSORFLOW, *RIGHT_IN_NUMPY]
