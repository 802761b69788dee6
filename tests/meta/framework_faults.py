"""The same faults in JAX, in TensorFlow, and in NumPy with a tape written by hand.

Each framework's functions are called with the arrays of the problem by name: the inputs, and the weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow as tf
from planted import Planted
from problem import Arrays, Observe, Problem, attention, drawn, lengths

from conformance.trace import Entry, Trace
from conformance_adapters import jax_tape, tensorflow_tape

FAULTS: list[Planted] = []
RIGHT: list[Planted] = []  # with nothing wrong, so that the faults are what is found

CROSS = attention(times=(5, 7), channels=(13, 11, 11, 10), value_dim=5)
DOT_PRODUCT = Problem(
    "scaled_dot_product_attention",
    {},
    {"query": drawn("q", 2, 3, 5, 4), "key": drawn("k", 2, 3, 7, 4), "value": drawn("v", 2, 3, 7, 6)},
)
PADDED = DOT_PRODUCT.with_inputs(mask=lengths(4, 6, times=7))
# As many queries as keys, so that a mask of keys fits the queries.
SQUARE = DOT_PRODUCT.with_inputs(query=drawn("q", 2, 3, 7, 4), mask=lengths(4, 6, times=7))
CAUSAL = DOT_PRODUCT.with_config(causal="top-left")


def in_jax(function: Callable[..., Any]) -> Observe:
    """Traced by JAX, in its own precision."""

    def observe(problem: Problem, inputs: Arrays, dtype: str) -> Trace:
        with jax.enable_x64(dtype == "float64"):
            arrays = {
                name: jnp.asarray(array, None if array.dtype == bool else dtype)
                for name, array in {**inputs, **problem.weights}.items()
            }
            plain = jax_tape.to_numpy(function(**arrays))
            observed, tape = jax_tape.record(lambda given: function(**given), arrays)
            return Trace(plain, tape, jax_tape.to_numpy(observed))

    return observe


def in_tensorflow(function: Callable[..., Any]) -> Observe:
    """As a graph of TensorFlow."""

    def observe(problem: Problem, inputs: Arrays, dtype: str) -> Trace:
        arrays = {
            name: tf.constant(array if array.dtype == bool else array.astype(dtype))
            for name, array in {**inputs, **problem.weights}.items()
        }
        observed, tape = tensorflow_tape.record(lambda: function(**arrays))
        return Trace(function(**arrays).numpy(), tape, observed.numpy())

    return observe


class Notebook:
    """A tape that is written by hand, in NumPy."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def __call__(self, operation: str, array: np.ndarray) -> np.ndarray:
        self.entries.append(Entry(operation, np.array(array)))
        return array


def in_numpy(function: Callable[..., Any]) -> Observe:
    """NumPy: `function` writes down what it computes, and cannot be run again by anyone else."""

    def observe(problem: Problem, inputs: Arrays, dtype: str) -> Trace:
        note = Notebook()
        arrays = {
            name: array if array.dtype == bool else array.astype(dtype)
            for name, array in {**inputs, **problem.weights}.items()
        }
        return Trace(function(note, **arrays), note.entries, recorded=True)

    return observe


def plant(
    how: Callable[[Callable[..., Any]], Observe], problem: Problem, culprit: str, **named: str
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Plant what is decorated. `named` is the convention's name within attention, underscores for hyphens."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        conventions = {f"attention.{name.replace('_', '-')}": value for name, value in named.items()}
        FAULTS.append(Planted(function.__name__, problem, how(function), culprit, conventions))
        return function

    return register


def right(
    how: Callable[[Callable[..., Any]], Observe], problem: Problem
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """List what is decorated as right."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        RIGHT.append(Planted(function.__name__, problem, how(function), ""))
        return function

    return register


# -- JAX -----------------------------------------------------------------------------------------------------


def jax_attention(query: Any, key: Any, value: Any, scale: float, seen: Any = None) -> Any:
    scores = jnp.einsum("bhqd,bhkd->bhqk", query, key) * scale
    if seen is not None:
        scores = jnp.where(seen, scores, -jnp.inf)
    return jnp.einsum("bhqk,bhkd->bhqd", jax.nn.softmax(scores, axis=-1), value)


@right(in_jax, DOT_PRODUCT)
def jax_right(query: Any, key: Any, value: Any) -> Any:
    return jax_attention(query, key, value, 0.5)


@plant(in_jax, DOT_PRODUCT, "scaled", scale="1")
def jax_not_scaled(query: Any, key: Any, value: Any) -> Any:
    return jax_attention(query, key, value, 1.0)


@plant(in_jax, PADDED, "masked", mask_polarity="true-blocks")
def jax_mask_inverted(query: Any, key: Any, value: Any, mask: Any) -> Any:
    return jax_attention(query, key, value, 0.5, ~mask[:, None, None, :])


@plant(in_jax, CAUSAL, "masked", causal_alignment="bottom-right")
def jax_causal_from_bottom_right(query: Any, key: Any, value: Any) -> Any:
    return jax_attention(query, key, value, 0.5, jnp.tril(jnp.ones((5, 7), bool), 2))


@plant(in_jax, DOT_PRODUCT, "weights", softmax_axis="query")
def jax_softmax_over_queries_vmapped(query: Any, key: Any, value: Any) -> Any:
    """One head of one sequence, mapped over both."""

    def one(q: Any, k: Any, v: Any) -> Any:
        return jax.nn.softmax(q @ k.T / math.sqrt(q.shape[-1]), axis=0) @ v

    return jax.vmap(jax.vmap(one))(query, key, value)


@plant(in_jax, CROSS, "merged", head_merge="interleaved")
@jax.jit
def jax_merged_interleaved(query_input: Any, key_input: Any, value_input: Any, **w: Any) -> Any:
    query, key, value = (
        jnp.moveaxis((x @ w[f"{part}_kernel"] + w[f"{part}_bias"]).reshape(2, x.shape[1], 3, -1), 2, 1)
        for part, x in (("query", query_input), ("key", key_input), ("value", value_input))
    )
    context = jax_attention(query, key, value, 0.5)
    return jnp.moveaxis(context, 1, -1).reshape(2, 5, 15) @ w["output_kernel"] + w["output_bias"]


# -- TensorFlow ----------------------------------------------------------------------------------------------


def tensorflow_attention(query: Any, key: Any, value: Any, scale: float, added: Any = None) -> Any:
    scores = tf.matmul(query, key, transpose_b=True) * tf.constant(scale, query.dtype)
    if added is not None:
        scores = scores + added
    return tf.matmul(tf.nn.softmax(scores), value)


@right(in_tensorflow, PADDED)
def tensorflow_right(query: Any, key: Any, value: Any, mask: Any) -> Any:
    added = (1 - tf.cast(mask, query.dtype)[:, None, None, :]) * -1e9
    return tensorflow_attention(query, key, value, 0.5, added)


@plant(in_tensorflow, DOT_PRODUCT, "scaled", scale="1/head_dim")
def tensorflow_scaled_without_root(query: Any, key: Any, value: Any) -> Any:
    return tensorflow_attention(query, key, value, 0.25)


@plant(in_tensorflow, PADDED, "masked", mask_fill="additive-0-1")
def tensorflow_mask_added_as_ones(query: Any, key: Any, value: Any, mask: Any) -> Any:
    return tensorflow_attention(query, key, value, 0.5, tf.cast(mask, query.dtype)[:, None, None, :])


@plant(in_tensorflow, CROSS, "output")
def tensorflow_output_without_bias(query_input: Any, key_input: Any, value_input: Any, **w: Any) -> Any:
    query, key, value = (
        tf.transpose(tf.reshape(x @ w[f"{part}_kernel"] + w[f"{part}_bias"], (2, x.shape[1], 3, -1)), (0, 2, 1, 3))
        for part, x in (("query", query_input), ("key", key_input), ("value", value_input))
    )
    context = tensorflow_attention(query, key, value, 0.5)
    return tf.reshape(tf.transpose(context, (0, 2, 1, 3)), (2, 5, 15)) @ w["output_kernel"]


# -- NumPy ---------------------------------------------------------------------------------------------------


def softmax(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


@right(in_numpy, DOT_PRODUCT)
def numpy_right(note: Notebook, query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
    scores = note("scores", query @ key.swapaxes(-1, -2))
    weights = note("softmax", softmax(note("scaled", scores / 2)))
    return note("product", weights @ value)


@plant(in_numpy, DOT_PRODUCT, "scaled", scale="sqrt(head_dim)")
def numpy_multiplied_by_the_root(note: Notebook, query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
    scores = note("scores", query @ key.swapaxes(-1, -2))
    weights = note("softmax", softmax(note("scaled", scores * 2)))
    return note("product", weights @ value)


@plant(in_numpy, SQUARE, "masked", mask_axis="query")
def numpy_mask_on_queries(
    note: Notebook, query: np.ndarray, key: np.ndarray, value: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    scores = note("scaled", query @ key.swapaxes(-1, -2) / 2)
    masked = note("masked", np.where(mask[:, None, :, None], scores, -np.inf))
    dead = np.isneginf(masked).all(-1, keepdims=True)
    weights = note("weights", np.where(dead, 0, softmax(np.where(dead, 0, masked)))).astype(query.dtype)
    return note("product", weights @ value)


@plant(in_numpy, DOT_PRODUCT, "weights", softmax_axis="query")
def numpy_softmax_over_queries_key_major(
    note: Notebook, query: np.ndarray, key: np.ndarray, value: np.ndarray
) -> np.ndarray:
    """k q^T, as in MATLAB, and the softmax still over the last axis."""
    weights = note("softmax", softmax(note("scaled", key @ query.swapaxes(-1, -2) / 2)))
    return note("product", weights.swapaxes(-1, -2) @ value)


@plant(in_numpy, DOT_PRODUCT, "context")
def numpy_values_of_the_other_sequence(
    note: Notebook, query: np.ndarray, key: np.ndarray, value: np.ndarray
) -> np.ndarray:
    weights = note("softmax", softmax(query @ key.swapaxes(-1, -2) / 2))
    return note("product", weights @ value[::-1])
