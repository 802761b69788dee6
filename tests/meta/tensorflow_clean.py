"""What is right in TensorFlow, in other forms than the oracle's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
from clean import CleanCorpus
from problem import weightless
from problems import (
    ATTENDED,
    CONVOLUTIONS,
    CROSS,
    GELU,
    INTERLEAVED_ROTARY,
    LINEARS,
    LSTM,
    NORMS,
    PADDED,
    ROTARY,
    SELF,
    SOFTMAXES,
    TANH_GELU,
    margins,
    seen,
)
from tensorflow_faults import Attention
from watched_tensorflow import in_tensorflow

Tensor = tf.Tensor
Weights = Mapping[str, Tensor]
Config = Mapping[str, Any]
Call = Callable[..., Tensor]

CLEAN = CleanCorpus("TensorFlow", in_tensorflow)
FLOAT32 = ("float32",)  # for what the framework computes in float32, whatever it is given


# -- attention -----------------------------------------------------------------------------------------------


def core(function: Callable[[Tensor, Tensor, Tensor, Any], Tensor]) -> Callable[[Weights, Config], Call]:
    """`function` of query, key, value and what is added to the scores (zero where there is no mask)."""

    def build(w: Weights, c: Config) -> Call:
        def call(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
            attended = seen(c, query, key, mask)
            zero, low = tf.zeros([], query.dtype), tf.constant(-1e30, query.dtype)
            return function(query, key, value, zero if attended is None else tf.where(attended, zero, low))

        return call

    build.__name__ = function.__name__
    return build


@CLEAN.add(ATTENDED, compiled=True)
@core
def tensorflow_query_scaled(query: Tensor, key: Tensor, value: Tensor, added: Tensor) -> Tensor:
    return tf.nn.softmax(tf.matmul(query / 2, key, transpose_b=True) + added) @ value


@CLEAN.add(ATTENDED)
@core
def tensorflow_scaled_on_both_sides(query: Tensor, key: Tensor, value: Tensor, added: Tensor) -> Tensor:
    root = tf.constant(math.sqrt(0.5), query.dtype)
    scores = tf.einsum("bhqd,bhkd->bhqk", query * root, key * root)
    return tf.einsum("bhqk,bhkd->bhqd", tf.nn.softmax(scores + added), value)


@CLEAN.add(ATTENDED, layout="key-query")
@core
def tensorflow_key_major(query: Tensor, key: Tensor, value: Tensor, added: Tensor) -> Tensor:
    added = tf.linalg.matrix_transpose(added) if len(added.shape) else added
    weights = tf.nn.softmax(tf.matmul(key, query, transpose_b=True) / 2 + added, axis=-2)
    return tf.matmul(weights, value, transpose_a=True)


@CLEAN.add(ATTENDED, compiled=True)
@core
def tensorflow_chunked(query: Tensor, key: Tensor, value: Tensor, added: Tensor) -> Tensor:
    """Keys three, three and one at a time, with a running maximum."""
    added = tf.broadcast_to(added, (*query.shape[:3], key.shape[2]))
    largest = tf.fill((*query.shape[:3], 1), tf.constant(-1e30, query.dtype))
    total, context = tf.zeros_like(largest), tf.zeros((*query.shape[:3], value.shape[-1]), query.dtype)
    for first in range(0, key.shape[2], 3):
        part = slice(first, first + 3)
        scores = tf.matmul(query, key[:, :, part], transpose_b=True) / 2 + added[..., part]
        new = tf.maximum(largest, tf.reduce_max(scores, -1, keepdims=True))
        powers, kept = tf.exp(scores - new), tf.exp(largest - new)
        total = total * kept + tf.reduce_sum(powers, -1, keepdims=True)
        context = context * kept + tf.matmul(powers, value[:, :, part])
        largest = new
    return context / total


@CLEAN.add(ATTENDED)
@core
def tensorflow_a_head_at_a_time(query: Tensor, key: Tensor, value: Tensor, added: Tensor) -> Tensor:
    added = tf.broadcast_to(added, (*query.shape[:3], key.shape[2]))
    heads = zip(*(tf.unstack(x, axis=1) for x in (query, key, value, added)), strict=True)
    return tf.stack([tf.nn.softmax(q @ tf.linalg.matrix_transpose(k) * 0.5 + a) @ v for q, k, v, a in heads], axis=1)


CLEAN.add({"self": SELF, "cross": CROSS, "padded": PADDED})(Attention)


@CLEAN.add({"self": SELF, "cross": CROSS}, compiled=True)
class TensorflowKeyAndValueInOne(Attention):
    """One projection for key and value where they are of one input, its kernels side by side."""

    def __call__(self, query_input: Tensor, key_input: Any = None, value_input: Any = None) -> Tensor:
        if value_input is not None:
            return super().__call__(query_input, key_input, value_input)
        kernel, bias = (tf.concat([self.w[f"key_{n}"], self.w[f"value_{n}"]], -1) for n in ("kernel", "bias"))
        key, value = tf.split(tf.tensordot(query_input, kernel, 1) + bias, 2, axis=-1)
        weights = self.weights(self.split(self.project("query", query_input)), self.split(key), None)
        return self.project("output", self.merge(tf.einsum("bhqk,bkhd->bqhd", weights, self.split(value))))


# -- layer norm ----------------------------------------------------------------------------------------------


@CLEAN.add(NORMS)
def tensorflow_norm_by_moments(w: Weights, c: Config) -> Call:
    def call(x: Tensor) -> Tensor:
        mean, variance = tf.nn.moments(x, [-1], keepdims=True)
        return tf.nn.batch_normalization(x, mean, variance, w["bias"], w["scale"], c["epsilon"])

    return call


@CLEAN.add(NORMS, compiled=True)
def tensorflow_norm_divided(w: Weights, c: Config) -> Call:
    def call(x: Tensor) -> Tensor:
        centred = x - tf.reduce_mean(x, -1, keepdims=True)
        variance = tf.reduce_mean(tf.math.squared_difference(centred, tf.zeros_like(centred)), -1, keepdims=True)
        return tf.math.divide(centred, tf.sqrt(variance + c["epsilon"])) * w["scale"] + w["bias"]

    return call


@CLEAN.add(NORMS)
def tensorflow_norm_by_variance(w: Weights, c: Config) -> Call:
    def call(x: Tensor) -> Tensor:
        r = tf.math.rsqrt(tf.math.reduce_variance(x, -1, keepdims=True) + c["epsilon"])
        return x * r * w["scale"] + (w["bias"] - tf.reduce_mean(x, -1, keepdims=True) * r * w["scale"])

    return call


# -- other layers --------------------------------------------------------------------------------------------


@CLEAN.add(LINEARS)
def tensorflow_linear_and_bias(w: Weights, c: Config) -> Call:
    return lambda x: tf.nn.bias_add(tf.tensordot(x, w["kernel"], 1), w["bias"])


@CLEAN.add(LINEARS, compiled=True)
def tensorflow_linear_merged(w: Weights, c: Config) -> Call:
    """A column of ones, and the bias as the kernel's last row."""
    kernel = tf.concat([w["kernel"], w["bias"][None]], 0)
    return lambda x: tf.einsum("...i,io->...o", tf.concat([x, tf.ones_like(x[..., :1])], -1), kernel)


@CLEAN.add(SOFTMAXES)
def tensorflow_own_softmax(w: Weights, c: Config) -> Call:
    return lambda x: tf.nn.softmax(x, axis=c["axis"])


@CLEAN.add(SOFTMAXES, compiled=True)
def tensorflow_softmax_from_its_logarithm(w: Weights, c: Config) -> Call:
    return lambda x: tf.exp(tf.nn.log_softmax(x, axis=c["axis"]))


@CLEAN.add(GELU)
@weightless
def tensorflow_gelu_by_erfc(x: Tensor) -> Tensor:
    return x / 2 * tf.math.erfc(-x / tf.sqrt(tf.constant(2, x.dtype)))


@CLEAN.add(TANH_GELU, compiled=True)
@weightless
def tensorflow_gelu_by_tanh(x: Tensor) -> Tensor:
    inner = tf.constant(math.sqrt(2 / math.pi), x.dtype) * x * (1 + tf.constant(0.044715, x.dtype) * x * x)
    return x * (1 + tf.tanh(inner)) / 2


@CLEAN.add(LSTM, compiled=True)
def tensorflow_lstm_with_split_gates(w: Weights, c: Config) -> Call:
    """A kernel for each gate."""
    kernels, recurrent, biases = (tf.split(w[n], 4, axis=-1) for n in ("kernel", "recurrent_kernel", "bias"))

    def call(x: Tensor) -> Tensor:
        hidden = cell = tf.zeros((x.shape[0], 4), x.dtype)
        outputs = []
        for now in tf.unstack(x, axis=1):
            gates = zip(kernels, recurrent, biases, strict=True)
            i, f, g, o = (now @ kernel + hidden @ state + bias for kernel, state, bias in gates)
            cell = tf.sigmoid(f) * cell + tf.sigmoid(i) * tf.tanh(g)
            hidden = tf.sigmoid(o) * tf.tanh(cell)
            outputs.append(hidden)
        return tf.stack(outputs, axis=1)

    return call


@CLEAN.add(CONVOLUTIONS, dtypes=FLOAT32)
def tensorflow_own_convolution(w: Weights, c: Config) -> Call:
    return lambda x: tf.nn.bias_add(tf.nn.conv2d(x, w["kernel"], c["strides"], "SAME"), w["bias"])


@CLEAN.add(CONVOLUTIONS)
def tensorflow_convolution_by_patches(w: Weights, c: Config) -> Call:
    """im2col."""

    def call(x: Tensor) -> Tensor:
        height, width = w["kernel"].shape[:2]
        strides = [1, c["strides"], c["strides"], 1]
        padded = tf.pad(x, margins(c, x, w["kernel"]))
        patches = tf.image.extract_patches(padded, [1, height, width, 1], strides, [1, 1, 1, 1], "VALID")
        return tf.tensordot(patches, tf.reshape(w["kernel"], (-1, w["kernel"].shape[-1])), 1) + w["bias"]

    return call


def turns(x: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine, `time head pair`."""
    pairs = tf.range(0, x.shape[-1], 2, x.dtype) / x.shape[-1]
    angles = tf.range(x.shape[1], dtype=x.dtype)[:, None, None] * tf.constant(1e4, x.dtype) ** -pairs
    return tf.cos(angles), tf.sin(angles)


@CLEAN.add(ROTARY)
@weightless
def tensorflow_rotated_halves(x: Tensor) -> Tensor:
    cosine, sine = (tf.concat([part, part], -1) for part in turns(x))
    first, second = tf.split(x, 2, axis=-1)
    return x * cosine + tf.concat([-second, first], -1) * sine


@CLEAN.add(INTERLEAVED_ROTARY, compiled=True)
@weightless
def tensorflow_rotated_as_complex_numbers(x: Tensor) -> Tensor:
    pairs = tf.reshape(x, (*x.shape[:3], -1, 2))
    turned = tf.complex(pairs[..., 0], pairs[..., 1]) * tf.complex(*turns(x))
    return tf.reshape(tf.stack([tf.math.real(turned), tf.math.imag(turned)], -1), x.shape)
