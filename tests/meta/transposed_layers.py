"""Transposed convolutions in plain PyTorch, JAX, TensorFlow and NumPy, right and wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow as tf
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

# "same" cuts one row and one column off the end of 9 x 11; as many channels in as out, and a square kernel.
TRANSPOSED = Problem(
    "conv_transpose2d",
    {"padding": "same-upper", "strides": 2},
    {"x": drawn("transposed x", 2, 4, 5, 4)},
    {"kernel": drawn("transposed kernel", 3, 3, 4, 4), "bias": drawn("transposed bias", 4)},
)

IN_TORCH, RIGHT_IN_TORCH = Corpus(), CleanCorpus()
IN_JAX, RIGHT_IN_JAX = Corpus("JAX", in_jax), CleanCorpus("JAX", in_jax)
IN_TENSORFLOW, RIGHT_IN_TENSORFLOW = Corpus("TensorFlow", in_tensorflow), CleanCorpus("TensorFlow", in_tensorflow)
IN_NUMPY, RIGHT_IN_NUMPY = Corpus("NumPy", in_numpy), CleanCorpus("NumPy", in_numpy)


# -------------------------------------------------------------------------------------------- PyTorch
def transposed(w: Weights, x: Tensor, kernel: Tensor | None = None, bias: bool = True, **how: Any) -> Tensor:
    """`batch height width channel`, with a kernel `height width out in`."""
    kernel = (w["kernel"] if kernel is None else kernel).permute(3, 2, 0, 1)
    return F.conv_transpose2d(x.permute(0, 3, 1, 2), kernel, w["bias"] if bias else None, 2, **how).permute(0, 2, 3, 1)


@RIGHT_IN_TORCH.add(TRANSPOSED)
def transposed_and_cropped(w: Weights, c: Config) -> Call:
    return lambda x: transposed(w, x)[:, :8, :10]


@RIGHT_IN_TORCH.add(TRANSPOSED)
def transposed_as_a_convolution_of_what_is_spread(w: Weights, c: Config) -> Call:
    def call(x: Tensor) -> Tensor:
        between = x.new_zeros(2, 4, 7, 9)
        between[:, :, ::2, ::2] = x.permute(0, 3, 1, 2)
        kernel = w["kernel"].flip(0, 1).permute(2, 3, 0, 1)
        return F.conv2d(F.pad(between, (2, 1, 2, 1)), kernel, w["bias"]).permute(0, 2, 3, 1)

    return call


@IN_TORCH.plant(TRANSPOSED, "output", {"conv_transpose.padding": "crop-lower"})
def TransposedAndShifted(w: Weights, c: Config) -> Call:
    """padding=1, output_padding=1: as large as Keras's "same", and one element further (keras#22876)."""
    return lambda x: transposed(w, x, padding=1, output_padding=1)


@IN_TORCH.plant(TRANSPOSED, "output", {"conv_transpose.padding": "crop-both"})
def TransposedWithZerosPutBack(w: Weights, c: Config) -> Call:
    """output_padding, taken for zeros (pytorch#8816)."""
    return lambda x: F.pad(transposed(w, x, bias=False, padding=1), (0, 0, 0, 1, 0, 1)) + w["bias"]


# ------------------------------------------------------------------------------------------------ JAX
@RIGHT_IN_JAX.add(TRANSPOSED, compiled=True)
def jax_transposed(w: Weights, c: Config) -> Call:
    return lambda x: jax.lax.conv_transpose(x, w["kernel"], (2, 2), "SAME", transpose_kernel=True) + w["bias"]


@IN_JAX.plant(TRANSPOSED, "convolved", {"conv_transpose.kernel-layout": "unflipped"})
def jax_transposed_but_not_flipped(w: Weights, c: Config) -> Call:
    """As jax.lax.conv_transpose and Flax have it by default: the kernel is `in out`, and not flipped."""

    def call(x: jax.Array) -> jax.Array:
        return jax.lax.conv_transpose(x, jnp.swapaxes(w["kernel"], 2, 3), (2, 2), "SAME") + w["bias"]

    return call


# ----------------------------------------------------------------------------------------- TensorFlow
@RIGHT_IN_TENSORFLOW.add(TRANSPOSED)
def tensorflow_transposed(w: Weights, c: Config) -> Call:
    return lambda x: tf.nn.conv2d_transpose(x, w["kernel"], (2, 8, 10, 4), 2, "SAME") + w["bias"]


@IN_TENSORFLOW.plant(TRANSPOSED, "output", {"weights.mismatch": "different weights"})
def tensorflow_transposed_without_bias(w: Weights, c: Config) -> Call:
    return lambda x: tf.nn.conv2d_transpose(x, w["kernel"], (2, 9, 11, 4), 2, "VALID")[:, :8, :10]


# ---------------------------------------------------------------------------------------------- NumPy
def scattered(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Every element with the whole kernel, added where they overlap."""
    made = np.zeros((2, 9, 11, 4), x.dtype)
    for i in range(3):
        for j in range(3):
            made[:, i : i + 7 : 2, j : j + 9 : 2] += x @ kernel[i, j].T
    return made


@RIGHT_IN_NUMPY.add(TRANSPOSED)
def numpy_transposed(note: Notebook, w: Weights, c: Config) -> Call:
    return lambda x: note("add", note("scatter", scattered(x, w["kernel"]))[:, :8, :10] + w["bias"])


@IN_NUMPY.plant(TRANSPOSED, "convolved", {"conv_transpose.kernel-layout": "unflipped"})
def numpy_transposed_but_flipped(note: Notebook, w: Weights, c: Config) -> Call:
    return lambda x: note("add", note("scatter", scattered(x, w["kernel"][::-1, ::-1]))[:, :8, :10] + w["bias"])


FAULTS: list[Planted] = [*IN_TORCH, *IN_JAX, *IN_TENSORFLOW, *IN_NUMPY]
CLEAN: list[Clean] = [*RIGHT_IN_TORCH, *RIGHT_IN_JAX, *RIGHT_IN_TENSORFLOW, *RIGHT_IN_NUMPY]
