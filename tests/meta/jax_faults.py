"""Faults in JAX: functions of arrays, as people write them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from planted import Corpus
from problem import weightless
from problems import (
    BOTTOM_RIGHT_DOT_PRODUCT,
    CAPPED_DOT_PRODUCT,
    CAUSAL_DOT_PRODUCT,
    CONVOLUTION,
    CROSS,
    DEAD_DOT_PRODUCT,
    DOT_PRODUCT,
    EVEN_DOT_PRODUCT,
    GELU,
    GROUPED_DOT_PRODUCT,
    LINEAR,
    LSTM,
    NORM,
    OWN_SCALE_DOT_PRODUCT,
    PADDED_DOT_PRODUCT,
    ROTARY,
)
from watched_jax import in_jax

Weights = Mapping[str, Array]
Config = Mapping[str, Any]
Call = Callable[..., Array]

FAULTS = Corpus("JAX", in_jax)


# -- attention -----------------------------------------------------------------------------------------------


def attention(query: Array, key: Array, value: Array, scale: float = 0.5, seen: Any = None) -> Array:
    scores = jnp.einsum("bhqd,bhkd->bhqk", query, key) * scale
    if seen is not None:
        scores = jnp.where(seen, scores, -jnp.inf)
    return jnp.einsum("bhqk,bhkd->bhqd", jax.nn.softmax(scores, axis=-1), value)


@FAULTS.plant(DOT_PRODUCT, "scaled", {"attention.scale": "1"})
@weightless
def jax_not_scaled(query: Array, key: Array, value: Array) -> Array:
    return attention(query, key, value, 1.0)


@FAULTS.plant(EVEN_DOT_PRODUCT, "scaled", {"attention.scale": "1"}, dtypes=("float32",), compiled=True)
@weightless
def jax_own_not_scaled(query: Array, key: Array, value: Array) -> Array:
    """JAX's own function, which wants `batch time head dim`, and computes in float32 whatever it is given."""
    query, key, value = (jnp.swapaxes(x, 1, 2) for x in (query, key, value))
    return jnp.swapaxes(jax.nn.dot_product_attention(query, key, value, scale=1.0), 1, 2)


@FAULTS.plant(PADDED_DOT_PRODUCT, "masked", {"attention.mask-polarity": "true-blocks"})
@weightless
def jax_mask_inverted(query: Array, key: Array, value: Array, mask: Array) -> Array:
    return attention(query, key, value, seen=~mask[:, None, None, :])


@FAULTS.plant(CAUSAL_DOT_PRODUCT, "masked", {"attention.causal-alignment": "bottom-right"})
@weightless
def jax_causal_from_bottom_right(query: Array, key: Array, value: Array) -> Array:
    return attention(query, key, value, seen=jnp.tril(jnp.ones((5, 7), bool), 2))


@FAULTS.plant(BOTTOM_RIGHT_DOT_PRODUCT, "masked", {"attention.causal-alignment": "top-left"}, compiled=True)
@weightless
def jax_causal_by_positions(query: Array, key: Array, value: Array) -> Array:
    """Positions of queries and keys compared, as if both began together."""
    later = jnp.arange(key.shape[2]) > jnp.arange(query.shape[2])[:, None]
    return attention(query, key, value, seen=~later)


@FAULTS.plant(DOT_PRODUCT, "weights", {"attention.softmax-axis": "query"})
@weightless
def jax_softmax_over_queries_vmapped(query: Array, key: Array, value: Array) -> Array:
    """One head of one sequence, mapped over both."""

    def one(q: Array, k: Array, v: Array) -> Array:
        return jax.nn.softmax(q @ k.T / math.sqrt(q.shape[-1]), axis=0) @ v

    return jax.vmap(jax.vmap(one))(query, key, value)


@FAULTS.plant(GROUPED_DOT_PRODUCT, "scores", {"attention.kv-head-repeat": "tiled"}, also=("context",))
@weightless
def jax_heads_tiled(query: Array, key: Array, value: Array) -> Array:
    return attention(query, jnp.tile(key, (1, 2, 1, 1)), jnp.tile(value, (1, 2, 1, 1)))


@FAULTS.plant(DEAD_DOT_PRODUCT, "weights", {"attention.fully-masked-row": "uniform"})
@weightless
def jax_dead_row_uniform(query: Array, key: Array, value: Array, mask: Array) -> Array:
    """`where=` leaves a row in which nothing is left at the mean of its values."""
    scores = jnp.einsum("bhqd,bhkd->bhqk", query, key) / 2
    scores = jnp.where(mask[:, None, None, :], scores, jnp.finfo(scores.dtype).min)
    return jnp.einsum("bhqk,bhkd->bhqd", jax.nn.softmax(scores), value)


@FAULTS.plant(PADDED_DOT_PRODUCT, "masked", {"attention.mask-fill": "post-softmax"}, also=("weights",))
@weightless
def jax_masked_after_the_softmax(query: Array, key: Array, value: Array, mask: Array) -> Array:
    weights = jax.nn.softmax(jnp.einsum("bhqd,bhkd->bhqk", query, key) / 2)
    return jnp.einsum("bhqk,bhkd->bhqd", jnp.where(mask[:, None, None, :], weights, 0.0), value)


def heads(x: Array, w: Weights, part: str, letters: str = "btc,chd->bhtd") -> Array:
    """A projection with its kernel as `channel head dim`, as Flax holds it."""
    kernel, bias = (w[f"{part}_{name}"] for name in ("kernel", "bias"))
    return jnp.einsum(letters, x, kernel.reshape(len(kernel), 3, -1)) + bias.reshape(3, 1, -1)


@FAULTS.plant(CROSS, "merged", {"attention.head-merge": "interleaved"}, compiled=True)
def jax_merged_interleaved(w: Weights, c: Config) -> Call:
    @jax.jit
    def call(query_input: Array, key_input: Array, value_input: Array) -> Array:
        query, key, value = (
            heads(x, w, p) for p, x in (("query", query_input), ("key", key_input), ("value", value_input))
        )
        merged = jnp.moveaxis(attention(query, key, value), 1, -1).reshape(2, 5, 15)
        return merged @ w["output_kernel"] + w["output_bias"]

    return call


# -- other layers --------------------------------------------------------------------------------------------


@FAULTS.plant(GELU, "output", {"gelu.approximation": "tanh"})
@weightless
def jax_gelu_by_default(x: Array) -> Array:
    """jax.nn.gelu approximates unless it is told not to."""
    return jax.nn.gelu(x)


@FAULTS.plant(NORM, "variance", {"norm.variance": "bessel"})
def jax_norm_with_bessels_correction(w: Weights, c: Config) -> Call:
    def call(x: Array) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        return centred * jax.lax.rsqrt(x.var(-1, keepdims=True, ddof=1) + c["epsilon"]) * w["scale"] + w["bias"]

    return call


def lstm(w: Weights, gates: Callable[[Array, Array, Array, Array], tuple[Array, ...]]) -> Call:
    """A scan along time of a cell; `gates` turns the four parts of the pre-activation into what the cell takes."""

    def call(x: Array) -> Array:
        def cell(carry: tuple[Array, Array], x: Array) -> tuple[tuple[Array, Array], Array]:
            hidden, state = carry
            i, f, g, o = gates(*jnp.split(x @ w["kernel"] + hidden @ w["recurrent_kernel"] + w["bias"], 4, axis=-1))
            state = f * state + i * g
            hidden = o * jnp.tanh(state)
            return (hidden, state), hidden

        start = jnp.zeros((x.shape[0], w["recurrent_kernel"].shape[0]), x.dtype)
        return jnp.swapaxes(jax.lax.scan(cell, (start, start), jnp.swapaxes(x, 0, 1))[1], 0, 1)

    return call


@FAULTS.plant(LSTM, "forget_gate", {"lstm.forget-bias": "1"})
def jax_lstm_forget_bias(w: Weights, c: Config) -> Call:
    """As Haiku's LSTM has it."""
    sigmoid = jax.nn.sigmoid
    return lstm(w, lambda i, f, g, o: (sigmoid(i), sigmoid(f + 1), jnp.tanh(g), sigmoid(o)))


@FAULTS.plant(CONVOLUTION, "convolved", {"conv.flip": "convolution"})
def jax_convolution_flipped(w: Weights, c: Config) -> Call:
    """What mathematics calls a convolution."""

    def call(x: Array) -> Array:
        made = jax.lax.conv_general_dilated(
            x, jnp.flip(w["kernel"], (0, 1)), (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return made + w["bias"]

    return call


def turned(x: Array, angles: Array) -> Array:
    """Halves turned by `time pair` angles."""
    cosine, sine = jnp.cos(angles)[:, None, :], jnp.sin(angles)[:, None, :]
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)


def angles(x: Array, first: int = 0) -> Array:
    """`time pair`."""
    pairs = jnp.arange(0, x.shape[-1], 2, dtype=x.dtype)
    return jnp.arange(first, x.shape[1] + first, dtype=x.dtype)[:, None] * 10000.0 ** (-pairs / x.shape[-1])


@FAULTS.plant(ROTARY, "rotated", {"rope.direction": "-sin"})
@weightless
def jax_rotated_the_other_way(x: Array) -> Array:
    cosine, sine = (jnp.tile(f(angles(x)), 2)[:, None, :] for f in (jnp.cos, jnp.sin))
    first, second = jnp.split(x, 2, axis=-1)
    return x * cosine + jnp.concatenate([second, -first], axis=-1) * sine


@FAULTS.plant(ROTARY, "angles")
@weightless
def jax_positions_from_one(x: Array) -> Array:
    return turned(x, angles(x, first=1))


# -- two at a time -------------------------------------------------------------------------------------------


@FAULTS.plant(
    DOT_PRODUCT,
    "scaled",
    {"attention.scale": "1", "attention.softmax-axis": "query"},
    also=("weights",),
    faults=2,
    compiled=True,
)
@weightless
def jax_not_scaled_and_over_queries(query: Array, key: Array, value: Array) -> Array:
    weights = jax.nn.softmax(jnp.einsum("bhqd,bhkd->bhqk", query, key), axis=-2)
    return jnp.einsum("bhqk,bhkd->bhqd", weights, value)


@FAULTS.plant(
    CAPPED_DOT_PRODUCT,
    "scaled",
    {"attention.scale": "1", "attention.mask-polarity": "true-blocks"},
    also=("masked",),
    faults=2,
)
@weightless
def jax_not_scaled_and_mask_inverted(query: Array, key: Array, value: Array, mask: Array) -> Array:
    scores = jnp.tanh(jnp.einsum("bhqd,bhkd->bhqk", query, key) / 1.5) * 1.5
    scores = jnp.where(mask[:, None, None, :], -jnp.inf, scores)
    return jnp.einsum("bhqk,bhkd->bhqd", jax.nn.softmax(scores), value)


@FAULTS.plant(
    OWN_SCALE_DOT_PRODUCT,
    "scaled",
    {"attention.scale": "twice", "attention.softmax-axis": "query"},
    also=("weights",),
    faults=2,
)
@weightless
def jax_scaled_twice_and_over_queries(query: Array, key: Array, value: Array) -> Array:
    scores = jnp.einsum("bhqd,bhkd->bhqk", query * 0.3, key) * 0.3
    return jnp.einsum("bhqk,bhkd->bhqd", jax.nn.softmax(scores, axis=-2), value)


@FAULTS.plant(
    NORM, "variance", {"norm.variance": "bessel", "norm.epsilon-placement": "max"}, also=("normalized",), faults=2
)
def jax_norm_bessel_and_maximum(w: Weights, c: Config) -> Call:
    def call(x: Array) -> Array:
        variance = jnp.var(x, -1, keepdims=True, ddof=1)
        normalized = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(jnp.maximum(variance, c["epsilon"]))
        return normalized * w["scale"] + w["bias"]

    return call


@FAULTS.plant(
    LSTM,
    "input_gate",
    {"lstm.recurrent-activation": "hard_sigmoid", "lstm.forget-bias": "1"},
    also=("forget_gate", "output_gate"),
    faults=2,
)
def jax_lstm_hard_sigmoid_and_forget_bias(w: Weights, c: Config) -> Call:
    def gate(x: Array) -> Array:
        return jnp.clip(0.2 * x + 0.5, 0, 1)

    return lstm(w, lambda i, f, g, o: (gate(i), gate(f + 1), jnp.tanh(g), gate(o)))


# -- weights and numbers -------------------------------------------------------------------------------------


@FAULTS.plant(LSTM, "forget_gate", {"lstm.gate-order": "i,g,f,o"}, also=None)
def jax_lstm_gates_of_haiku(w: Weights, c: Config) -> Call:
    """Haiku's order of gates, i, g, f, o, for kernels that hold i, f, g, o."""
    sigmoid = jax.nn.sigmoid
    return lstm(w, lambda i, g, f, o: (sigmoid(i), sigmoid(f), jnp.tanh(g), sigmoid(o)))


@FAULTS.plant(NORM, "normalized", {"norm.epsilon": "0.001"}, compiled=True)
def jax_norm_of_another_epsilon(w: Weights, c: Config) -> Call:
    def call(x: Array) -> Array:
        variance = x.var(-1, keepdims=True)
        return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(variance + 1e-3) * w["scale"] + w["bias"]

    return call


@FAULTS.plant(LINEAR, "product", {"arithmetic.precision": "bfloat16"}, dtypes=("float32",))
def jax_product_in_bfloat16(w: Weights, c: Config) -> Call:
    """Operands cast, sums kept in float32, as on an accelerator at the default precision."""
    kernel = w["kernel"].astype(jnp.bfloat16)
    return lambda x: jnp.matmul(x.astype(jnp.bfloat16), kernel, preferred_element_type=jnp.float32) + w["bias"]
