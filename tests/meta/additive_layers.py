"""Additive attention in plain PyTorch, JAX, TensorFlow and NumPy, right and wrong: projected, and as Keras has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow as tf
import torch
from clean import Clean, CleanCorpus
from notebook import Notebook, in_numpy
from planted import Corpus, Planted
from problem import Problem, drawn, lengths
from torch import Tensor
from watched_jax import in_jax
from watched_tensorflow import in_tensorflow

Weights = Mapping[str, Any]
Config = Mapping[str, Any]
Call = Callable[..., Any]

KERNELS = {
    "query_kernel": drawn("additive query kernel", 5, 6, deviation=0.5),
    "key_kernel": drawn("additive key kernel", 5, 6, deviation=0.5),
    "scale": drawn("additive scale", 6),
}
PROJECTED = Problem(
    "additive_attention",
    {},
    {"query": drawn("additive query", 2, 4, 5), "value": drawn("additive value", 2, 7, 5)},
    KERNELS,
)
PADDED = PROJECTED.with_inputs(mask=lengths(6, 4, times=7))
# As many queries as keys, so that a mask of keys fits the queries.
SQUARE = PROJECTED.with_inputs(query=drawn("additive query", 2, 7, 5), mask=lengths(7, 4, times=7))
EMPTY = PROJECTED.with_inputs(mask=lengths(0, 4, times=7))
ADDED = PROJECTED.with_weights(query_kernel=None, key_kernel=None, scale=drawn("additive scale", 5))
FORMS = {"projected": PROJECTED, "padded": PADDED, "square": SQUARE, "added": ADDED}

IN_TORCH, RIGHT_IN_TORCH = Corpus(), CleanCorpus()
IN_JAX, RIGHT_IN_JAX = Corpus("JAX", in_jax), CleanCorpus("JAX", in_jax)
IN_TENSORFLOW, RIGHT_IN_TENSORFLOW = Corpus("TensorFlow", in_tensorflow), CleanCorpus("TensorFlow", in_tensorflow)
IN_NUMPY, RIGHT_IN_NUMPY = Corpus("NumPy", in_numpy), CleanCorpus("NumPy", in_numpy)


# -------------------------------------------------------------------------------------------- PyTorch
def projected(w: Weights, query: Any, value: Any) -> tuple[Any, Any]:
    return (query @ w["query_kernel"], value @ w["key_kernel"]) if "query_kernel" in w else (query, value)


def scored(w: Weights, query: Tensor, value: Tensor) -> Tensor:
    q, k = projected(w, query, value)
    return torch.tanh(q[:, :, None] + k[:, None]) @ w["scale"]


def blocked(mask: Tensor | None) -> Any:
    return torch.tensor(False) if mask is None else ~mask[:, None]


@RIGHT_IN_TORCH.add(FORMS)
def by_broadcasting(w: Weights, c: Config) -> Call:
    def call(query: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        weights = scored(w, query, value).masked_fill(blocked(mask), -torch.inf).softmax(-1)
        return weights @ value

    return call


@RIGHT_IN_TORCH.add(FORMS)
def one_query_after_the_other(w: Weights, c: Config) -> Call:
    """As a decoder asks, a step at a time."""

    def call(query: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        made = []
        for i in range(query.shape[1]):
            energies = scored(w, query[:, i : i + 1], value)[:, 0]
            energies = energies if mask is None else energies.masked_fill(~mask, -1e9)
            made.append((energies.softmax(-1)[..., None] * value).sum(1))
        return torch.stack(made, 1)

    return call


@RIGHT_IN_TORCH.add({"projected": PROJECTED, "padded": PADDED})
def one_kernel_for_both(w: Weights, c: Config) -> Call:
    """cat((query, value)) through one kernel, as tutorials have it."""
    kernel = torch.cat([w["query_kernel"], w["key_kernel"]])

    def call(query: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        rows, columns = query.shape[1], value.shape[1]
        left = query[:, :, None].expand(-1, -1, columns, -1)
        right = value[:, None].expand(-1, rows, -1, -1)
        energies = torch.tanh(torch.cat([left, right], -1) @ kernel) @ w["scale"]
        return energies.masked_fill(blocked(mask), -torch.inf).softmax(-1) @ value

    return call


@IN_TORCH.plant(PROJECTED, "query", {"additive.kernel-order": "key|query"}, also=("key",))
def TheJoinedKernelsHalvesExchanged(w: Weights, c: Config) -> Call:
    swapped = {**w, "query_kernel": w["key_kernel"], "key_kernel": w["query_kernel"]}
    return by_broadcasting(swapped, c)


@IN_TORCH.plant(PADDED, "weights", {"additive.sharpness": "2"})
def SharpenedAsInEspnet(w: Weights, c: Config) -> Call:
    def call(query: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        energies = scored(w, query, value).masked_fill(blocked(mask), -torch.inf)
        return torch.softmax(2.0 * energies, -1) @ value

    return call


@IN_TORCH.plant(PADDED, "masked", {"attention.mask-polarity": "true-blocks"})
def TheMaskTurnedAround(w: Weights, c: Config) -> Call:
    right = by_broadcasting(w, c)
    return lambda query, value, mask: right(query, value, ~mask)


@IN_TORCH.plant(PADDED, "masked", {"attention.mask-fill": "post-softmax"}, also=("weights",))
def MaskedAfterTheSoftmax(w: Weights, c: Config) -> Call:
    return lambda query, value, mask: (scored(w, query, value).softmax(-1) * mask[:, None]) @ value


@IN_TORCH.plant(EMPTY, "weights", {"attention.fully-masked-row": "uniform"})
def ASampleWithoutKeysIsAveraged(w: Weights, c: Config) -> Call:
    def call(query: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        return scored(w, query, value).masked_fill(blocked(mask), -1e9).softmax(-1) @ value

    return call


@IN_TORCH.plant(PROJECTED, "scores")
def WithoutTheHyperbolicTangent(w: Weights, c: Config) -> Call:
    def call(query: Tensor, value: Tensor) -> Tensor:
        q, k = projected(w, query, value)
        return ((q[:, :, None] + k[:, None]) @ w["scale"]).softmax(-1) @ value

    return call


# ------------------------------------------------------------------------------------------------ JAX
@RIGHT_IN_JAX.add(FORMS, compiled=True)
def jax_additive(w: Weights, c: Config) -> Call:
    def call(query: Any, value: Any, mask: Any = None) -> Any:
        q, k = projected(w, query, value)
        scores = jnp.einsum("bqkd,d->bqk", jnp.tanh(q[:, :, None] + k[:, None]), w["scale"])
        weights = jax.nn.softmax(scores, where=None if mask is None else mask[:, None])
        return jnp.einsum("bqk,bkv->bqv", weights, value)

    return call


@IN_JAX.plant(SQUARE, "masked", {"attention.mask-axis": "query"})
def jax_queries_masked(w: Weights, c: Config) -> Call:
    def call(query: Any, value: Any, mask: Any) -> Any:
        q, k = projected(w, query, value)
        scores = jnp.tanh(q[:, :, None] + k[:, None]) @ w["scale"]
        scores = jnp.where(mask[:, :, None], scores, -jnp.inf)
        dead = jnp.all(jnp.isneginf(scores), -1, keepdims=True)
        weights = jnp.where(dead, 0, jax.nn.softmax(jnp.where(dead, 0, scores)))
        return weights @ value

    return call


# ----------------------------------------------------------------------------------------- TensorFlow
@RIGHT_IN_TENSORFLOW.add(FORMS, compiled=True)
def tensorflow_additive(w: Weights, c: Config) -> Call:
    """As TensorFlow's tutorial on translation had it, for every query at once."""

    def call(query: Any, value: Any, mask: Any = None) -> Any:
        q, k = projected(w, query, value)
        scores = tf.reduce_sum(w["scale"] * tf.nn.tanh(q[:, :, None] + k[:, None]), -1)
        if mask is not None:
            scores += (1 - tf.cast(mask, scores.dtype))[:, None] * -1e9
        return tf.matmul(tf.nn.softmax(scores), value)

    return call


@IN_TENSORFLOW.plant(PROJECTED, "weights", {"attention.softmax-axis": "query"})
def tensorflow_softmax_over_the_queries(w: Weights, c: Config) -> Call:
    def call(query: Any, value: Any) -> Any:
        q, k = projected(w, query, value)
        scores = tf.reduce_sum(w["scale"] * tf.nn.tanh(q[:, :, None] + k[:, None]), -1)
        return tf.matmul(tf.nn.softmax(scores, axis=1), value)

    return call


# ---------------------------------------------------------------------------------------------- NumPy
@RIGHT_IN_NUMPY.add(FORMS)
def numpy_additive(note: Notebook, w: Weights, c: Config, sharpness: float = 1.0) -> Call:
    def call(query: Any, value: Any, mask: Any = None) -> Any:
        q, k = projected(w, query, value)
        scores = note("scores", (np.tanh(q[:, :, None] + k[:, None]) * w["scale"]).sum(-1))
        if mask is not None:
            scores = note("masked", np.where(mask[:, None], scores, -np.inf).astype(scores.dtype))
        powers = note("powers", np.exp(np.asarray(sharpness, scores.dtype) * (scores - scores.max(-1, keepdims=True))))
        return note("context", note("weights", powers / powers.sum(-1, keepdims=True)) @ value)

    return call


@IN_NUMPY.plant(PADDED, "weights", {"additive.sharpness": "0.5"})
def numpy_tempered(note: Notebook, w: Weights, c: Config) -> Call:
    return numpy_additive(note, w, c, 0.5)


FAULTS: list[Planted] = [*IN_TORCH, *IN_JAX, *IN_TENSORFLOW, *IN_NUMPY]
CLEAN: list[Clean] = [*RIGHT_IN_TORCH, *RIGHT_IN_JAX, *RIGHT_IN_TENSORFLOW, *RIGHT_IN_NUMPY]
