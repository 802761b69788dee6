"""Faults in TensorFlow's own functions, as people write them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
from planted import Corpus
from problem import attention, lengths, weightless
from problems import (
    CAPPED_DOT_PRODUCT,
    CAUSAL_DOT_PRODUCT,
    CROSS,
    DEAD_DOT_PRODUCT,
    DOT_PRODUCT,
    GELU,
    GROUPED_CONVOLUTION,
    LINEAR,
    LSTM,
    NORM,
    OWN_SCALE_DOT_PRODUCT,
    PADDED_DOT_PRODUCT,
    ROTARY,
    SELF,
    SOFTMAX,
    STRIDE_OF_THREE,
)
from watched_tensorflow import in_tensorflow

Tensor = tf.Tensor
Weights = Mapping[str, Tensor]
Config = Mapping[str, Any]
Call = Callable[..., Tensor]

FAULTS = Corpus("TensorFlow", in_tensorflow)

PADDED = attention(mask=lengths(3, 4, times=5))


# -- attention -----------------------------------------------------------------------------------------------


def dot_product_attention(query: Tensor, key: Tensor, value: Tensor, scale: float = 0.5, added: Any = None) -> Tensor:
    scores = tf.matmul(query, key, transpose_b=True) * tf.constant(scale, query.dtype)
    if added is not None:
        scores = scores + added
    return tf.matmul(tf.nn.softmax(scores), value)


@FAULTS.plant(DOT_PRODUCT, "scaled", {"attention.scale": "1/head_dim"})
@weightless
def tensorflow_scaled_without_root(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return dot_product_attention(query, key, value, 0.25)


@FAULTS.plant(PADDED_DOT_PRODUCT, "masked", {"attention.mask-fill": "additive-0-1"})
@weightless
def tensorflow_mask_added_as_ones(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    return dot_product_attention(query, key, value, added=tf.cast(mask, query.dtype)[:, None, None, :])


@FAULTS.plant(PADDED_DOT_PRODUCT, "masked", {"attention.mask-polarity": "true-blocks"}, compiled=True)
@weightless
def tensorflow_ones_are_padding(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """The mask times a large negative number, as in TensorFlow's Transformer tutorial, where ones are padding."""
    return dot_product_attention(query, key, value, added=tf.cast(mask, query.dtype)[:, None, None, :] * -1e9)


@FAULTS.plant(PADDED_DOT_PRODUCT, "masked", {"attention.mask-fill": "ignored"})
@weightless
def tensorflow_mask_forgotten(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    return dot_product_attention(query, key, value)


@FAULTS.plant(CAUSAL_DOT_PRODUCT, "masked", {"attention.causal-alignment": "bottom-right"}, compiled=True)
@weightless
def tensorflow_band_from_the_end(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    seen = tf.linalg.band_part(tf.ones((5, 7), query.dtype), -1, 2)
    return dot_product_attention(query, key, value, added=(1 - seen) * -1e9)


@FAULTS.plant(DOT_PRODUCT, "weights", {"attention.softmax-axis": "query"})
@weightless
def tensorflow_softmax_over_queries(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    weights = tf.nn.softmax(tf.einsum("bhqd,bhkd->bhqk", query, key) / 2, axis=-2)
    return tf.einsum("bhqk,bhkd->bhqd", weights, value)


@FAULTS.plant(DEAD_DOT_PRODUCT, "weights", {"attention.fully-masked-row": "uniform"})
@weightless
def tensorflow_dead_row_uniform(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    scores = tf.matmul(query, key, transpose_b=True) / 2
    scores = tf.where(mask[:, None, None, :], scores, query.dtype.min)
    return tf.matmul(tf.nn.softmax(scores), value)


@FAULTS.plant(DOT_PRODUCT, "context")
@weightless
def tensorflow_values_reversed(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return dot_product_attention(query, key, tf.reverse(value, [2]))


@FAULTS.plant(CAPPED_DOT_PRODUCT, "softcapped")
@weightless
def tensorflow_softcap_by_clipping(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    scores = tf.clip_by_value(tf.matmul(query, key, transpose_b=True) / 2, -1.5, 1.5)
    scores += tf.where(mask, tf.zeros([], query.dtype), -math.inf)[:, None, None, :]
    return tf.matmul(tf.nn.softmax(scores), value)


class Attention(tf.Module):
    """Multi-head attention by tf.tensordot and tf.einsum; a method for what a fault changes."""

    def __init__(self, weights: Weights, config: Config) -> None:
        super().__init__()
        self.w = {name: tf.Variable(array, name=name) for name, array in weights.items()}
        self.heads: int = config["heads"]

    def __call__(self, query_input: Tensor, key_input: Any = None, value_input: Any = None, mask: Any = None) -> Tensor:
        key_input = query_input if key_input is None else key_input
        value_input = key_input if value_input is None else value_input
        query, key, value = (
            self.split(self.project(part, x))
            for part, x in (("query", query_input), ("key", key_input), ("value", value_input))
        )
        weights = self.weights(query, key, mask)
        return self.project("output", self.merge(tf.einsum("bhqk,bkhd->bqhd", weights, value)))

    def project(self, part: str, x: Tensor) -> Tensor:
        return tf.tensordot(x, self.w[f"{part}_kernel"], 1) + self.w[f"{part}_bias"]

    def split(self, x: Tensor) -> Tensor:
        """`batch time head dim`."""
        return tf.reshape(x, (*x.shape[:2], self.heads, -1))

    def weights(self, query: Tensor, key: Tensor, mask: Any) -> Tensor:
        scores = self.scale(tf.einsum("bqhd,bkhd->bhqk", query, key))
        if mask is not None:
            scores = self.mask(scores, mask[:, None, None, :])
        return tf.nn.softmax(scores)

    def scale(self, scores: Tensor) -> Tensor:
        return scores / tf.sqrt(tf.cast(4, scores.dtype))

    def mask(self, scores: Tensor, seen: Tensor) -> Tensor:
        return tf.where(seen, scores, -math.inf)

    def merge(self, context: Tensor) -> Tensor:
        """Of `batch query head dim`."""
        return tf.reshape(context, (*context.shape[:2], -1))


@FAULTS.plant(CROSS, "merged", {"attention.head-merge": "interleaved"})
class TensorflowHeadsLast(Attention):
    def merge(self, context: Tensor) -> Tensor:
        return tf.reshape(tf.transpose(context, (0, 1, 3, 2)), (*context.shape[:2], -1))


@FAULTS.plant(CROSS, "scores", {"attention.head-split": "interleaved"}, also=("context",), compiled=True)
class TensorflowSplitInterleaved(Attention):
    def split(self, x: Tensor) -> Tensor:
        return tf.transpose(tf.reshape(x, (*x.shape[:2], -1, self.heads)), (0, 1, 3, 2))


@FAULTS.plant(SELF, "output")
class TensorflowResidualAdded(Attention):
    def __call__(self, query_input: Tensor) -> Tensor:
        return super().__call__(query_input) + query_input


@FAULTS.plant(
    PADDED,
    "scaled",
    {"attention.scale": "1", "attention.mask-fill": "0"},
    also=("masked",),
    faults=2,
)
class TensorflowNotScaledAndMaskMultiplied(Attention):
    def scale(self, scores: Tensor) -> Tensor:
        return scores

    def mask(self, scores: Tensor, seen: Tensor) -> Tensor:
        return scores * tf.cast(seen, scores.dtype)


@FAULTS.plant(
    CROSS,
    "scores",
    {"attention.head-split": "interleaved", "attention.scale": "sqrt(head_dim)"},
    also=("scaled", "context"),
    faults=2,
)
class TensorflowSplitInterleavedAndMultiplied(TensorflowSplitInterleaved):
    def scale(self, scores: Tensor) -> Tensor:
        return scores * 2


@FAULTS.plant(
    CROSS,
    "weights",
    {"attention.softmax-axis": "query", "attention.head-merge": "interleaved"},
    also=("merged",),
    faults=2,
    compiled=True,
)
class TensorflowOverQueriesAndHeadsLast(TensorflowHeadsLast):
    def weights(self, query: Tensor, key: Tensor, mask: Any) -> Tensor:
        return tf.nn.softmax(self.scale(tf.einsum("bqhd,bkhd->bhqk", query, key)), axis=2)


# -- other layers --------------------------------------------------------------------------------------------


@FAULTS.plant(SOFTMAX, "exponentials")
@weightless
def tensorflow_softmax_of_powers_of_two(x: Tensor) -> Tensor:
    powers = tf.pow(tf.constant(2, x.dtype), x - tf.reduce_max(x, -1, keepdims=True))
    return powers / tf.reduce_sum(powers, -1, keepdims=True)


@FAULTS.plant(LINEAR, "output")
def tensorflow_relu_layer(w: Weights, c: Config) -> Call:
    """The old tf.nn.relu_layer: the activation comes with it."""
    return lambda x: tf.nn.relu(tf.nn.bias_add(tf.matmul(x, w["kernel"]), w["bias"]))


@FAULTS.plant(GELU, "output", {"gelu.approximation": "tanh"}, compiled=True)
@weightless
def tensorflow_gelu_approximate(x: Tensor) -> Tensor:
    return tf.nn.gelu(x, approximate=True)


@FAULTS.plant(NORM, "mean", {"norm.axes": "batch"}, also=("variance",))
def tensorflow_moments_over_the_batch(w: Weights, c: Config) -> Call:
    def call(x: Tensor) -> Tensor:
        mean, variance = tf.nn.moments(x, [0], keepdims=True)
        return tf.nn.batch_normalization(x, mean, variance, w["bias"], w["scale"], c["epsilon"])

    return call


@FAULTS.plant(STRIDE_OF_THREE, "padded", {"conv.same-padding": "symmetric"}, dtypes=("float32",))
def tensorflow_convolution_padded_on_both_sides(w: Weights, c: Config) -> Call:
    pairs = [[0, 0], [2, 2], [2, 2], [0, 0]]
    return lambda x: tf.nn.conv2d(tf.pad(x, pairs), w["kernel"], 3, "VALID") + w["bias"]


@FAULTS.plant(GROUPED_CONVOLUTION, "convolved", {"conv.groups": "interleaved"}, dtypes=("float32",))
def tensorflow_groups_interleaved(w: Weights, c: Config) -> Call:
    def call(x: Tensor) -> Tensor:
        pairs = zip(tf.split(x, 2, axis=-1), tf.split(w["kernel"], 2, axis=-1), strict=True)
        made = tf.stack([tf.nn.conv2d(part, kernel, 1, "VALID") for part, kernel in pairs], axis=-1)
        return tf.reshape(made, (*made.shape[:3], 6)) + w["bias"]

    return call


@FAULTS.plant(LSTM, "forget_gate", {"lstm.forget-bias": "1"})
def tensorflow_lstm_forget_bias(w: Weights, c: Config) -> Call:
    """forget_bias of TensorFlow 1's cells, whose default is one."""

    def call(x: Tensor) -> Tensor:
        hidden = cell = tf.zeros((x.shape[0], 4), x.dtype)
        outputs = []
        for now in tf.unstack(x, axis=1):
            both = tf.matmul(tf.concat([now, hidden], 1), tf.concat([w["kernel"], w["recurrent_kernel"]], 0))
            i, f, g, o = tf.split(tf.nn.bias_add(both, w["bias"]), 4, axis=1)
            cell = tf.sigmoid(f + 1.0) * cell + tf.sigmoid(i) * tf.tanh(g)
            hidden = tf.sigmoid(o) * tf.tanh(cell)
            outputs.append(hidden)
        return tf.stack(outputs, axis=1)

    return call


@FAULTS.plant(ROTARY, "rotated")
@weightless
def tensorflow_sine_and_cosine_swapped(x: Tensor) -> Tensor:
    pairs = tf.range(0, x.shape[-1], 2, x.dtype) / x.shape[-1]
    angles = tf.range(x.shape[1], dtype=x.dtype)[:, None] * tf.constant(1e4, x.dtype) ** -pairs
    cosine, sine = tf.sin(angles)[:, None, :], tf.cos(angles)[:, None, :]
    first, second = tf.split(x, 2, axis=-1)
    return tf.concat([first * cosine - second * sine, second * cosine + first * sine], axis=-1)


# -- two at a time, in attention without projections ---------------------------------------------------------


@FAULTS.plant(
    OWN_SCALE_DOT_PRODUCT,
    "scaled",
    {"attention.scale": "1/head_dim", "attention.softmax-axis": "query"},
    also=("weights",),
    faults=2,
)
@weightless
def tensorflow_own_scale_forgotten_and_over_queries(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = tf.matmul(query, key, transpose_b=True) / 4
    return tf.matmul(tf.nn.softmax(scores, axis=-2), value)


# -- weights and numbers -------------------------------------------------------------------------------------


@FAULTS.plant(LSTM, "forget_gate", {"lstm.gate-order": "i,g,f,o", "lstm.forget-bias": "1"}, also=None, faults=2)
def tensorflow_basic_lstm_cell(w: Weights, c: Config) -> Call:
    """TensorFlow 1's BasicLSTMCell: gates i, j, f, o, and one added to the forget gate."""

    def call(x: Tensor) -> Tensor:
        hidden = cell = tf.zeros((x.shape[0], 4), x.dtype)
        outputs = []
        for now in tf.unstack(x, axis=1):
            inner = tf.matmul(now, w["kernel"]) + tf.matmul(hidden, w["recurrent_kernel"]) + w["bias"]
            i, j, f, o = tf.split(inner, 4, axis=1)
            cell = tf.sigmoid(f + 1.0) * cell + tf.sigmoid(i) * tf.tanh(j)
            hidden = tf.sigmoid(o) * tf.tanh(cell)
            outputs.append(hidden)
        return tf.stack(outputs, axis=1)

    return call


@FAULTS.plant(LINEAR, "product", {"linear.kernel-orientation": "out,in"}, compiled=True)
def tensorflow_transpose_b(w: Weights, c: Config) -> Call:
    return lambda x: tf.matmul(x, w["kernel"], transpose_b=True) + w["bias"]
