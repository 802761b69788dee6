"""Bilinear maps in plain PyTorch, JAX, TensorFlow, Keras and NumPy, right and wrong."""

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
from keras_attention import ops
from notebook import Notebook, in_numpy
from planted import Corpus, Planted
from problem import Problem, drawn
from watched_jax import in_jax
from watched_tensorflow import in_tensorflow

Weights = Mapping[str, Any]
Config = Mapping[str, Any]
Call = Callable[..., Any]

# Both inputs are as wide, so that no shape gives away which is which.
BILINEAR = Problem(
    "bilinear",
    {},
    {"first": drawn("bilinear first", 5, 4), "second": drawn("bilinear second", 5, 4)},
    {"kernel": drawn("bilinear kernel", 4, 4, 3), "bias": drawn("bilinear bias", 3)},
)
WIDE = Problem(
    "bilinear",
    {},
    {"first": drawn("bilinear wide", 2, 3, 7), "second": drawn("bilinear narrow", 2, 3, 2)},
    {"kernel": drawn("bilinear long kernel", 7, 2, 5), "bias": drawn("bilinear five", 5)},
)
BOTH = {"as wide": BILINEAR, "a sequence": WIDE}

IN_TORCH, RIGHT_IN_TORCH = Corpus(), CleanCorpus()
IN_JAX, RIGHT_IN_JAX = Corpus("JAX", in_jax), CleanCorpus("JAX", in_jax)
IN_TENSORFLOW, RIGHT_IN_TENSORFLOW = Corpus("TensorFlow", in_tensorflow), CleanCorpus("TensorFlow", in_tensorflow)
IN_KERAS, RIGHT_IN_KERAS = Corpus("Keras", in_tensorflow), CleanCorpus("Keras", in_tensorflow)
IN_NUMPY, RIGHT_IN_NUMPY = Corpus("NumPy", in_numpy), CleanCorpus("NumPy", in_numpy)


# -------------------------------------------------------------------------------------------- PyTorch
@RIGHT_IN_TORCH.add(BOTH)
def bilinear_of_the_framework(w: Weights, c: Config) -> Call:
    weight = w["kernel"].permute(2, 0, 1).contiguous()
    return lambda first, second: F.bilinear(first, second, weight, w["bias"])


@RIGHT_IN_TORCH.add(BOTH)
def bilinear_as_a_product_of_all_pairs(w: Weights, c: Config) -> Call:
    def call(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        pairs = (first[..., :, None] * second[..., None, :]).flatten(-2)
        return F.linear(pairs, w["kernel"].flatten(0, 1).T, w["bias"])

    return call


@IN_TORCH.plant(BILINEAR, "product", {"bilinear.operands": "second,first"})
def BilinearOfExchangedInputs(w: Weights, c: Config) -> Call:
    weight = w["kernel"].permute(2, 0, 1).contiguous()
    return lambda first, second: F.bilinear(second, first, weight) + w["bias"]


@IN_TORCH.plant(BILINEAR, "product", {"bilinear.kernel-layout": "out,first,second"})
def BilinearOfAReshapedKernel(w: Weights, c: Config) -> Call:
    """To torch's `out first second`, which is no matter of reshaping."""
    weight = w["kernel"].reshape(3, 4, 4)
    return lambda first, second: F.bilinear(first, second, weight, w["bias"])


@IN_TORCH.plant(BILINEAR, "output", {"weights.mismatch": "different weights"})
def BilinearWithoutBias(w: Weights, c: Config) -> Call:
    return lambda first, second: torch.einsum("bi,bj,ijo->bo", first, second, w["kernel"])


# ------------------------------------------------------------------------------------------------ JAX
@RIGHT_IN_JAX.add(BOTH, compiled=True)
def jax_bilinear(w: Weights, c: Config) -> Call:
    return lambda first, second: jnp.einsum("...i,...j,ijo->...o", first, second, w["kernel"]) + w["bias"]


@RIGHT_IN_JAX.add(BILINEAR)
def jax_bilinear_of_each_row(w: Weights, c: Config) -> Call:
    """A form for each output, mapped over the rows."""

    def row(first: jax.Array, second: jax.Array) -> jax.Array:
        return jnp.stack([first @ w["kernel"][..., o] @ second for o in range(3)]) + w["bias"]

    mapped: Call = jax.vmap(row)
    return mapped


@IN_JAX.plant(BILINEAR, "product", {"bilinear.operands": "second,first"})
def jax_bilinear_of_exchanged_inputs(w: Weights, c: Config) -> Call:
    return lambda first, second: jnp.einsum("bi,bj,jio->bo", first, second, w["kernel"]) + w["bias"]


# ----------------------------------------------------------------------------------------- TensorFlow
@RIGHT_IN_TENSORFLOW.add(BOTH)
def tensorflow_bilinear(w: Weights, c: Config) -> Call:
    """The first input with the kernel, then with the second."""

    def call(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
        mapped = tf.tensordot(first, w["kernel"], 1)
        return tf.reduce_sum(mapped * second[..., None], -2) + w["bias"]

    return call


@IN_TENSORFLOW.plant(BILINEAR, "output", {"weights.mismatch": "different weights"})
def tensorflow_bilinear_without_bias(w: Weights, c: Config) -> Call:
    return lambda first, second: tf.reduce_sum(tf.tensordot(first, w["kernel"], 1) * second[..., None], -2)


# ---------------------------------------------------------------------------------------------- Keras
@RIGHT_IN_KERAS.add(BOTH)
def keras_bilinear(w: Weights, c: Config) -> Call:
    return lambda first, second: ops.einsum("...i,ijo,...j->...o", first, w["kernel"], second) + w["bias"]


@IN_KERAS.plant(BILINEAR, "product", {"bilinear.operands": "second,first"})
def keras_bilinear_of_exchanged_inputs(w: Weights, c: Config) -> Call:
    return lambda first, second: ops.einsum("bi,ijo,bj->bo", second, w["kernel"], first) + w["bias"]


# ---------------------------------------------------------------------------------------------- NumPy
@RIGHT_IN_NUMPY.add(BOTH)
def numpy_bilinear(note: Notebook, w: Weights, c: Config) -> Call:
    def call(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        product = note("product", np.einsum("...i,ijo,...j->...o", first, w["kernel"], second))
        return note("sum", product + w["bias"])

    return call


@IN_NUMPY.plant(BILINEAR, "product", {"bilinear.kernel-layout": "out,first,second"})
def numpy_bilinear_by_a_reshaped_kernel_of_torch(note: Notebook, w: Weights, c: Config) -> Call:
    """`out first second`, taken for `first second out`."""
    kernel = np.ascontiguousarray(np.moveaxis(w["kernel"], -1, 0)).reshape(4, 4, 3)

    def call(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        product = note("product", np.einsum("bi,ijo,bj->bo", first, kernel, second))
        return note("sum", product + w["bias"])

    return call


FAULTS: list[Planted] = [*IN_TORCH, *IN_JAX, *IN_TENSORFLOW, *IN_KERAS, *IN_NUMPY]
CLEAN: list[Clean] = [*RIGHT_IN_TORCH, *RIGHT_IN_JAX, *RIGHT_IN_TENSORFLOW, *RIGHT_IN_KERAS, *RIGHT_IN_NUMPY]
