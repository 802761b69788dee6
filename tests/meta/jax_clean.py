"""What is right in JAX, in other forms than the oracle's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from clean import CleanCorpus
from jax import Array
from problem import by_position, weightless
from problems import (
    ATTENDED,
    CONVOLUTIONS,
    EVEN_DOT_PRODUCT,
    GELU,
    INTERLEAVED_ROTARY,
    LINEARS,
    LSTM,
    NORMS,
    ROTARY,
    SOFTMAXES,
    TANH_GELU,
    UP_TO_TEN,
    margins,
    seen,
)
from watched_jax import in_jax

Weights = Mapping[str, Array]
Config = Mapping[str, Any]
Call = Callable[..., Array]

CLEAN = CleanCorpus("JAX", in_jax)


# -- attention -----------------------------------------------------------------------------------------------


def core(function: Callable[[Array, Array, Array, Any], Array]) -> Callable[[Weights, Config], Call]:
    """`function` of query, key, value and which keys are seen (None: all), as what is built."""

    def build(w: Weights, c: Config) -> Call:
        def call(query: Array, key: Array, value: Array, mask: Array | None = None) -> Array:
            return function(query, key, value, seen(c, query, key, mask))

        return call

    build.__name__ = function.__name__
    return build


def hidden(scores: Array, attended: Any) -> Array:
    return scores if attended is None else jnp.where(attended, scores, -jnp.inf)


@CLEAN.add(ATTENDED, compiled=True)
@core
def jax_scaled_on_both_sides(query: Array, key: Array, value: Array, attended: Any) -> Array:
    root = query.shape[-1] ** -0.25
    return jax.nn.softmax(hidden((query * root) @ jnp.swapaxes(key * root, -1, -2), attended)) @ value


@CLEAN.add(ATTENDED, layout="key-query")
@core
def jax_key_major(query: Array, key: Array, value: Array, attended: Any) -> Array:
    scores = jnp.einsum("bhkd,bhqd->bhkq", key, query) / math.sqrt(query.shape[-1])
    scores = scores if attended is None else hidden(scores, jnp.swapaxes(jnp.asarray(attended), -1, -2))
    return jnp.einsum("bhkq,bhkd->bhqd", jax.nn.softmax(scores, axis=2), value)


@CLEAN.add(ATTENDED, compiled=True)
@core
def jax_weighted_sum_by_hand(query: Array, key: Array, value: Array, attended: Any) -> Array:
    """Powers that are zero where nothing is seen, and one division at the end."""
    scores = jnp.einsum("...qd,...kd->...qk", query, key) * 0.5
    powers = jnp.exp(scores - scores.max(-1, keepdims=True))
    powers = powers if attended is None else powers * attended
    return powers @ value / powers.sum(-1, keepdims=True)


@CLEAN.add(ATTENDED)
@core
def jax_online(query: Array, key: Array, value: Array, attended: Any) -> Array:
    """A scan over the keys, one at a time, with a running maximum."""
    bias = jnp.zeros((2, 1, query.shape[2], key.shape[2]), query.dtype)
    bias = bias if attended is None else bias + jnp.where(attended, 0, -1e30)

    def one(state: tuple[Array, ...], now: tuple[Array, ...]) -> tuple[tuple[Array, ...], None]:
        largest, total, context = state
        k, v, b = now
        scores = (query * k[:, :, None, :]).sum(-1) / 2 + b
        new = jnp.maximum(largest, scores)
        power, kept = jnp.exp(scores - new), jnp.exp(largest - new)
        return (new, total * kept + power, context * kept[..., None] + power[..., None] * v[:, :, None, :]), None

    start = jnp.full(query.shape[:3], -1e30, query.dtype), jnp.zeros(query.shape[:3], query.dtype)
    state = (*start, jnp.zeros((*query.shape[:3], value.shape[-1]), query.dtype))
    sequence = tuple(jnp.moveaxis(x, axis, 0) for x, axis in ((key, 2), (value, 2), (bias, 3)))
    (_, total, context), _ = jax.lax.scan(one, state, sequence)
    return context / total[..., None]


@CLEAN.add(EVEN_DOT_PRODUCT, dtypes=("float32",), compiled=True)
@weightless
def jax_own_attention(query: Array, key: Array, value: Array) -> Array:
    query, key, value = (jnp.swapaxes(x, 1, 2) for x in (query, key, value))
    return jnp.swapaxes(jax.nn.dot_product_attention(query, key, value), 1, 2)


# -- layer norm ----------------------------------------------------------------------------------------------


@CLEAN.add(NORMS, compiled=True)
def jax_norm_multiplied_out(w: Weights, c: Config) -> Call:
    """x * r - mean * r."""

    def call(x: Array) -> Array:
        r = jax.lax.rsqrt(x.var(-1, keepdims=True) + c["epsilon"]) * w["scale"]
        return x * r + (w["bias"] - x.mean(-1, keepdims=True) * r)

    return call


@CLEAN.add(NORMS)
def jax_standardize(w: Weights, c: Config) -> Call:
    return lambda x: (
        jax.nn.standardize(x, epsilon=c["epsilon"], variance=x.var(-1, keepdims=True)) * w["scale"] + w["bias"]
    )


@CLEAN.add(NORMS)
def jax_norm_of_one_row_mapped(w: Weights, c: Config) -> Call:
    def row(x: Array) -> Array:
        centred = x - jnp.mean(x)
        return centred / jnp.sqrt(jnp.dot(centred, centred) / len(x) + c["epsilon"]) * w["scale"] + w["bias"]

    return by_position(jnp.vectorize(row, signature="(n)->(n)"))


# -- other layers --------------------------------------------------------------------------------------------


@CLEAN.add(LINEARS)
def jax_linear_bias_first(w: Weights, c: Config) -> Call:
    """The product is added to the bias in halves of the channels."""

    def call(x: Array) -> Array:
        total = w["bias"]
        for part, kernel in zip(jnp.split(x, 2, axis=-1), jnp.split(w["kernel"], 2), strict=True):
            total = total + part @ kernel
        return total

    return call


@CLEAN.add(LINEARS, compiled=True)
def jax_linear_of_rows(w: Weights, c: Config) -> Call:
    """A row at a time, by dot products with the kernel's columns."""
    columns = w["kernel"].T

    def call(x: Array) -> Array:
        rows = jax.vmap(lambda row: jax.vmap(lambda column: jnp.dot(row, column))(columns))(x.reshape(-1, x.shape[-1]))
        return rows.reshape(*x.shape[:-1], -1) + w["bias"]

    return call


@CLEAN.add(UP_TO_TEN, compiled=True)
def jax_softmax_by_logsumexp(w: Weights, c: Config) -> Call:
    return lambda x: jnp.exp(x - jax.nn.logsumexp(x, axis=c["axis"], keepdims=True))


@CLEAN.add(SOFTMAXES)
def jax_own_softmax(w: Weights, c: Config) -> Call:
    return lambda x: jax.nn.softmax(x, axis=c["axis"])


@CLEAN.add(GELU)
@weightless
def jax_gelu_by_erfc(x: Array) -> Array:
    return 0.5 * x * jax.scipy.special.erfc(-x * math.sqrt(0.5))


@CLEAN.add(TANH_GELU, compiled=True)
@weightless
def jax_gelu_by_logistic(x: Array) -> Array:
    """(1 + tanh(a)) / 2 is the logistic function of 2 a."""
    return x * jax.nn.sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))


@CLEAN.add(LSTM)
def jax_lstm_scanned(w: Weights, c: Config) -> Call:
    """Inputs projected for all times at once, gates split by reshaping."""

    def call(x: Array) -> Array:
        inner = jnp.swapaxes(x @ w["kernel"] + w["bias"], 0, 1)
        recurrent = w["recurrent_kernel"].reshape(4, 4, 4)

        def cell(carry: tuple[Array, Array], now: Array) -> tuple[tuple[Array, Array], Array]:
            hidden, state = carry
            parts = now.reshape(-1, 4, 4) + jnp.einsum("bs,sgu->bgu", hidden, recurrent)
            i, f, o = (jax.nn.sigmoid(parts[:, gate]) for gate in (0, 1, 3))
            state = f * state + i * jnp.tanh(parts[:, 2])
            hidden = o * jnp.tanh(state)
            return (hidden, state), hidden

        start = jnp.zeros((x.shape[0], 4), x.dtype)
        return jnp.swapaxes(jax.lax.scan(cell, (start, start), inner)[1], 0, 1)

    return call


@CLEAN.add(CONVOLUTIONS)
def jax_convolution_padded_by_hand(w: Weights, c: Config) -> Call:
    def call(x: Array) -> Array:
        numbers = ("NHWC", "HWIO", "NHWC")
        padded = jnp.pad(x, margins(c, x, w["kernel"]))
        strides = (c["strides"],) * 2
        return (
            jax.lax.conv_general_dilated(padded, w["kernel"], strides, "VALID", dimension_numbers=numbers) + w["bias"]
        )

    return call


@CLEAN.add(CONVOLUTIONS, compiled=True)
def jax_convolution_by_patches(w: Weights, c: Config) -> Call:
    """im2col, channels before the window."""

    def call(x: Array) -> Array:
        kernel, strides = w["kernel"], (c["strides"],) * 2
        patches = jax.lax.conv_general_dilated_patches(
            x, kernel.shape[:2], strides, "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return patches @ jnp.moveaxis(kernel, 2, 0).reshape(-1, kernel.shape[-1]) + w["bias"]

    return call


def turns(x: Array) -> tuple[Array, Array]:
    """Cosine and sine, `time head pair`."""
    pairs = jnp.arange(0, x.shape[-1], 2, dtype=x.dtype)
    angles = jnp.arange(x.shape[1], dtype=x.dtype)[:, None, None] * 10000.0 ** (-pairs / x.shape[-1])
    return jnp.cos(angles), jnp.sin(angles)


@CLEAN.add(ROTARY, compiled=True)
@weightless
def jax_rotated_by_rolling(x: Array) -> Array:
    cosine, sine = turns(x)
    both = jnp.concatenate([cosine, cosine], -1), jnp.concatenate([-sine, sine], -1)
    return x * both[0] + jnp.roll(x, x.shape[-1] // 2, axis=-1) * both[1]


@CLEAN.add(INTERLEAVED_ROTARY)
@weightless
def jax_rotated_by_matrices(x: Array) -> Array:
    """A matrix of two by two for each pair."""
    cosine, sine = turns(x)
    matrix = jnp.stack([jnp.stack([cosine, -sine], -1), jnp.stack([sine, cosine], -1)], -2)
    return jnp.einsum("thpij,bthpj->bthpi", matrix, x.reshape(*x.shape[:3], -1, 2)).reshape(x.shape)
