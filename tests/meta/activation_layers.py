"""Activations in plain PyTorch, JAX, TensorFlow and NumPy, right and wrong."""

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
from problem import Problem, by_position, drawn
from torch import Tensor
from watched_jax import in_jax
from watched_tensorflow import in_tensorflow

Weights = Mapping[str, Any]
Config = Mapping[str, Any]
Call = Callable[..., Any]

X = drawn("activation x", 5, 6, 8, deviation=2.0)
LEAKY = Problem("leaky_relu", {"slope": 0.01}, {"x": X})
ELU = Problem("elu", {"alpha": 0.3}, {"x": X})
HARD = Problem("hard_sigmoid", {}, {"x": X})
GLU = Problem("glu", {"axis": -1}, {"x": X})
LOGITS = Problem("log_softmax", {"axis": -1}, {"x": drawn("log x", 5, 6, 6, deviation=3.0)})
PRELU = Problem("prelu", {}, {"x": X}, {"slope": drawn("slopes", 8) / 2})

IN_TORCH, RIGHT_IN_TORCH = Corpus(), CleanCorpus()
IN_JAX, RIGHT_IN_JAX = Corpus("JAX", in_jax), CleanCorpus("JAX", in_jax)
IN_TENSORFLOW, RIGHT_IN_TENSORFLOW = Corpus("TensorFlow", in_tensorflow), CleanCorpus("TensorFlow", in_tensorflow)
IN_NUMPY, RIGHT_IN_NUMPY = Corpus("NumPy", in_numpy), CleanCorpus("NumPy", in_numpy)


# -------------------------------------------------------------------------------------------- PyTorch
@RIGHT_IN_TORCH.add(LEAKY)
def leaky_as_a_sum_of_two_parts(w: Weights, c: Config) -> Call:
    return lambda x: F.relu(x) - 0.01 * F.relu(-x)


@RIGHT_IN_TORCH.add(ELU)
def elu_by_exp(w: Weights, c: Config) -> Call:
    """It loses digits near zero, by no more than a roundoff of one."""
    return lambda x: torch.where(x > 0, x, 0.3 * (torch.exp(x) - 1))


@RIGHT_IN_TORCH.add(HARD)
def hard_sigmoid_by_relu6(w: Weights, c: Config) -> Call:
    return lambda x: F.relu6(x + 3) / 6


@RIGHT_IN_TORCH.add(GLU)
def glu_by_chunks(w: Weights, c: Config) -> Call:
    def call(x: Tensor) -> Tensor:
        value, gate = x.chunk(2, dim=-1)
        return value / (1 + torch.exp(-gate))

    return call


@RIGHT_IN_TORCH.add(LOGITS)
def log_softmax_by_log_sum_exp(w: Weights, c: Config) -> Call:
    return lambda x: x - torch.logsumexp(x, -1, keepdim=True)


@RIGHT_IN_TORCH.add(PRELU)
def prelu_of_channels_second(w: Weights, c: Config) -> Call:
    return lambda x: F.prelu(x.transpose(1, 2), w["slope"]).transpose(1, 2)


@IN_TORCH.plant(LEAKY, "output", {"leaky_relu.slope": "0.2"})
def LeakyWithAnotherDefault(w: Weights, c: Config) -> Call:
    """TensorFlow's and that of Keras's function."""
    return lambda x: F.leaky_relu(x, 0.2)


@IN_TORCH.plant(LEAKY, "output")
def LeakyAbove(w: Weights, c: Config) -> Call:
    """The slope is on the wrong side."""
    return lambda x: torch.where(x < 0, x, 0.01 * x)


@IN_TORCH.plant(ELU, "output", {"elu.alpha": "1.0"})
def EluWithoutItsAlpha(w: Weights, c: Config) -> Call:
    return by_position(F.elu)


@IN_TORCH.plant(HARD, "output", {"hard_sigmoid.form": "0.2x+0.5"})
def HardSigmoidOfKeras2(w: Weights, c: Config) -> Call:
    return lambda x: torch.clamp(0.2 * x + 0.5, 0, 1)


@IN_TORCH.plant(GLU, "output", {"glu.halves": "gate|value"})
def GluWithTheGateFirst(w: Weights, c: Config) -> Call:
    def call(x: Tensor) -> Tensor:
        gate, value = x.chunk(2, dim=-1)
        return value * torch.sigmoid(gate)

    return call


@IN_TORCH.plant(LOGITS, "total", also=None)
def LogSoftmaxOverAnotherAxis(w: Weights, c: Config) -> Call:
    def call(x: Tensor) -> Tensor:
        shifted = x - x.amax(-1, keepdim=True)
        return shifted - shifted.exp().sum(1, keepdim=True).log()

    return call


@IN_TORCH.plant(PRELU, "output", {"weights.mismatch": "different weights"})
def PreluWithSlopesReversed(w: Weights, c: Config) -> Call:
    return lambda x: torch.where(x >= 0, x, w["slope"].flip(0) * x)


# ------------------------------------------------------------------------------------------------ JAX
@RIGHT_IN_JAX.add(LEAKY, compiled=True)
def jax_leaky(w: Weights, c: Config) -> Call:
    return lambda x: jnp.maximum(x, 0.01 * x)


@RIGHT_IN_JAX.add(ELU, compiled=True)
def jax_elu(w: Weights, c: Config) -> Call:
    return lambda x: jax.nn.elu(x, 0.3)


@RIGHT_IN_JAX.add(HARD)
def jax_hard_sigmoid(w: Weights, c: Config) -> Call:
    return lambda x: jnp.clip(x / 6 + 0.5, 0, 1)


@RIGHT_IN_JAX.add(GLU)
def jax_glu(w: Weights, c: Config) -> Call:
    return lambda x: x[..., :4] * jax.nn.sigmoid(x[..., 4:])


@RIGHT_IN_JAX.add(LOGITS, compiled=True)
def jax_log_softmax(w: Weights, c: Config) -> Call:
    return lambda x: x - jax.nn.logsumexp(x, axis=-1, keepdims=True)


@RIGHT_IN_JAX.add(PRELU)
def jax_prelu(w: Weights, c: Config) -> Call:
    return lambda x: jnp.where(x >= 0, x, w["slope"] * x)


@IN_JAX.plant(LEAKY, "output", {"leaky_relu.slope": "0.3"})
def jax_leaky_of_a_keras_layer(w: Weights, c: Config) -> Call:
    return lambda x: jax.nn.leaky_relu(x, 0.3)


@IN_JAX.plant(ELU, "output", {"elu.alpha": "1.0"})
def jax_elu_without_its_alpha(w: Weights, c: Config) -> Call:
    return lambda x: jnp.where(x > 0, x, jnp.expm1(x))


@IN_JAX.plant(HARD, "output")
def jax_sigmoid_that_is_not_hard(w: Weights, c: Config) -> Call:
    return jax.nn.sigmoid


@IN_JAX.plant(GLU, "output")
def jax_glu_with_every_other_channel(w: Weights, c: Config) -> Call:
    """Value and gate are interleaved."""
    return lambda x: x[..., ::2] * jax.nn.sigmoid(x[..., 1::2])


@IN_JAX.plant(LOGITS, "output")
def jax_log_softmax_without_the_logarithm(w: Weights, c: Config) -> Call:
    def call(x: jax.Array) -> jax.Array:
        shifted = x - x.max(-1, keepdims=True)
        return shifted - jnp.exp(shifted).sum(-1, keepdims=True)

    return call


@IN_JAX.plant(PRELU, "output")
def jax_prelu_with_the_slope_above(w: Weights, c: Config) -> Call:
    return lambda x: jnp.where(x < 0, x, w["slope"] * x)


# ----------------------------------------------------------------------------------------- TensorFlow
@RIGHT_IN_TENSORFLOW.add(LEAKY)
def tensorflow_leaky(w: Weights, c: Config) -> Call:
    return lambda x: tf.nn.relu(x) + tf.constant(0.01, x.dtype) * tf.minimum(x, 0)


@RIGHT_IN_TENSORFLOW.add(ELU)
def tensorflow_elu(w: Weights, c: Config) -> Call:
    return lambda x: tf.nn.relu(x) + tf.constant(0.3, x.dtype) * tf.nn.elu(tf.minimum(x, 0))


@RIGHT_IN_TENSORFLOW.add(HARD)
def tensorflow_hard_sigmoid(w: Weights, c: Config) -> Call:
    return lambda x: tf.nn.relu6(x + 3) / 6


@RIGHT_IN_TENSORFLOW.add(GLU)
def tensorflow_glu(w: Weights, c: Config) -> Call:
    def call(x: tf.Tensor) -> tf.Tensor:
        value, gate = tf.split(x, 2, axis=-1)
        return value * tf.nn.sigmoid(gate)

    return call


@RIGHT_IN_TENSORFLOW.add(LOGITS)
def tensorflow_log_softmax(w: Weights, c: Config) -> Call:
    return by_position(tf.nn.log_softmax)


@RIGHT_IN_TENSORFLOW.add(PRELU)
def tensorflow_prelu(w: Weights, c: Config) -> Call:
    return lambda x: tf.nn.relu(x) - w["slope"] * tf.nn.relu(-x)


@IN_TENSORFLOW.plant(LEAKY, "output", {"leaky_relu.slope": "0.2"})
def tensorflow_leaky_with_its_default(w: Weights, c: Config) -> Call:
    return lambda x: tf.maximum(x, tf.constant(0.2, x.dtype) * x)


@IN_TENSORFLOW.plant(ELU, "output", {"elu.alpha": "1.0"})
def tensorflow_elu_that_has_no_alpha(w: Weights, c: Config) -> Call:
    return by_position(tf.nn.elu)


@IN_TENSORFLOW.plant(HARD, "output", {"hard_sigmoid.form": "0.2x+0.5"})
def tensorflow_hard_sigmoid_of_keras_2(w: Weights, c: Config) -> Call:
    return lambda x: tf.clip_by_value(tf.constant(0.2, x.dtype) * x + 0.5, 0, 1)


@IN_TENSORFLOW.plant(GLU, "output", {"glu.halves": "gate|value"})
def tensorflow_glu_with_the_gate_first(w: Weights, c: Config) -> Call:
    return lambda x: tf.nn.sigmoid(x[..., :4]) * x[..., 4:]


@IN_TENSORFLOW.plant(LOGITS, "output", also=None)
def tensorflow_softmax_without_its_logarithm(w: Weights, c: Config) -> Call:
    return by_position(tf.nn.softmax)


@IN_TENSORFLOW.plant(PRELU, "output", {"weights.mismatch": "different weights"})
def tensorflow_prelu_with_one_slope_for_all(w: Weights, c: Config) -> Call:
    return lambda x: tf.nn.relu(x) - w["slope"][0] * tf.nn.relu(-x)


# ---------------------------------------------------------------------------------------------- NumPy
@RIGHT_IN_NUMPY.add(LEAKY)
def numpy_leaky(note: Notebook, w: Weights, c: Config) -> Call:
    return lambda x: note("leaky", np.where(x >= 0, x, x * x.dtype.type(0.01)))


@RIGHT_IN_NUMPY.add(ELU)
def numpy_elu(note: Notebook, w: Weights, c: Config) -> Call:
    return lambda x: note("elu", np.where(x > 0, x, x.dtype.type(0.3) * np.expm1(x)))


@RIGHT_IN_NUMPY.add(HARD)
def numpy_hard_sigmoid(note: Notebook, w: Weights, c: Config) -> Call:
    return lambda x: note("hard", np.minimum(np.maximum((x + 3) / 6, 0), 1))


@RIGHT_IN_NUMPY.add(GLU)
def numpy_glu(note: Notebook, w: Weights, c: Config) -> Call:
    return lambda x: note("glu", x[..., :4] * note("gate", 1 / (1 + np.exp(-x[..., 4:]))))


@RIGHT_IN_NUMPY.add(LOGITS)
def numpy_log_softmax(note: Notebook, w: Weights, c: Config) -> Call:
    def call(x: np.ndarray) -> np.ndarray:
        shifted = note("shifted", x - x.max(-1, keepdims=True))
        return note("log", shifted - np.log(note("sum", np.exp(shifted).sum(-1, keepdims=True))))

    return call


@RIGHT_IN_NUMPY.add(PRELU)
def numpy_prelu(note: Notebook, w: Weights, c: Config) -> Call:
    return lambda x: note("prelu", np.maximum(x, 0) + w["slope"] * np.minimum(x, 0))


@IN_NUMPY.plant(LEAKY, "output", {"leaky_relu.slope": "0.1"})
def numpy_leaky_with_a_slope_of_a_tenth(note: Notebook, w: Weights, c: Config) -> Call:
    return lambda x: note("leaky", np.maximum(x, x / 10))


@IN_NUMPY.plant(ELU, "output", {"elu.alpha": "0.5"})
def numpy_elu_with_another_alpha(note: Notebook, w: Weights, c: Config) -> Call:
    return lambda x: note("elu", np.where(x > 0, x, np.expm1(x) / 2))


@IN_NUMPY.plant(HARD, "output", {"hard_sigmoid.form": "0.2x+0.5"})
def numpy_hard_sigmoid_of_onnx(note: Notebook, w: Weights, c: Config) -> Call:
    return lambda x: note("hard", np.clip(x / 5 + x.dtype.type(0.5), 0, 1))


@IN_NUMPY.plant(GLU, "output")
def numpy_glu_by_tanh(note: Notebook, w: Weights, c: Config) -> Call:
    return lambda x: note("glu", x[..., :4] * note("gate", np.tanh(x[..., 4:])))


@IN_NUMPY.plant(LOGITS, "output")
def numpy_log_softmax_in_bits(note: Notebook, w: Weights, c: Config) -> Call:
    """The binary logarithm."""

    def call(x: np.ndarray) -> np.ndarray:
        shifted = note("shifted", x - x.max(-1, keepdims=True))
        return note("log", shifted - np.log2(note("sum", np.exp(shifted).sum(-1, keepdims=True))))

    return call


@IN_NUMPY.plant(PRELU, "output", {"weights.mismatch": "different weights"})
def numpy_prelu_with_slopes_that_are_positive(note: Notebook, w: Weights, c: Config) -> Call:
    return lambda x: note("prelu", np.maximum(x, 0) + np.abs(w["slope"]) * np.minimum(x, 0))


FAULTS: list[Planted] = [*IN_TORCH, *IN_JAX, *IN_TENSORFLOW, *IN_NUMPY]
CLEAN: list[Clean] = [*RIGHT_IN_TORCH, *RIGHT_IN_JAX, *RIGHT_IN_TENSORFLOW, *RIGHT_IN_NUMPY]
