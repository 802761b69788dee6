"""Multi-head attention as a Flax module, as people write it: nnx.Linear for the projections, a method for each step.

A planted fault overrides one of the methods.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array


def loaded(weights: Mapping[str, Array], part: str) -> nnx.Linear:
    """nnx.Linear with the kernel and bias of a projection."""
    kernel = weights[f"{part}_kernel"]
    layer = nnx.Linear(*kernel.shape, param_dtype=kernel.dtype, rngs=nnx.Rngs(0))
    layer.kernel[...], layer.bias[...] = kernel, weights[f"{part}_bias"]
    return layer


class Attention(nnx.Module):
    """Attention with `weights` and `config` by their canonical names."""

    def __init__(self, weights: Mapping[str, Array], config: Mapping[str, Any]) -> None:
        self.query, self.key, self.value, self.output = (
            loaded(weights, part) for part in ("query", "key", "value", "output")
        )
        self.heads: int = config["heads"]
        self.kv_heads: int = config["kv_heads"] or self.heads
        self.head_dim: int = self.query.out_features // self.heads
        self.causal: bool = config.get("causal") is not None

    def __call__(
        self,
        query_input: Array,
        key_input: Array | None = None,
        value_input: Array | None = None,
        mask: Array | None = None,
    ) -> Array:
        key_input = query_input if key_input is None else key_input
        value_input = key_input if value_input is None else value_input
        query = self.split(self.query(query_input), self.heads)
        key = self.repeat(self.split(self.key(key_input), self.kv_heads))
        value = self.repeat(self.split(self.value(value_input), self.kv_heads))
        scores = self.scale(jnp.einsum("bhqd,bhkd->bhqk", query, key))
        if mask is not None:
            scores = self.mask(scores, mask[:, None, None, :])
        if self.causal:
            scores = self.mask(scores, self.triangle(*scores.shape[-2:]))
        context = jnp.einsum("bhqk,bhkd->bhqd", self.normalise(scores), value)
        return self.output(self.merge(context))

    def split(self, x: Array, heads: int) -> Array:
        """`batch time hdim` as `batch head time dim`."""
        return jnp.swapaxes(x.reshape(*x.shape[:2], heads, -1), 1, 2)

    def repeat(self, x: Array) -> Array:
        """Key or value heads, one for each query head."""
        return jnp.repeat(x, self.heads // x.shape[1], axis=1)

    def scale(self, scores: Array) -> Array:
        return scores * self.head_dim**-0.5

    def mask(self, scores: Array, seen: Array) -> Array:
        return jnp.where(seen, scores, -jnp.inf)

    def triangle(self, queries: int, keys: int) -> Array:
        return jnp.tri(queries, keys, dtype=bool)

    def normalise(self, scores: Array) -> Array:
        dead = jnp.isneginf(scores).all(-1, keepdims=True)
        return jnp.where(dead, 0, nnx.softmax(jnp.where(dead, 0, scores)))

    def merge(self, context: Array) -> Array:
        return jnp.swapaxes(context, 1, 2).reshape(context.shape[0], context.shape[2], -1)
