"""Multi-head attention as a Keras layer, as people write it: Dense for the projections, a method for each step.

A planted fault overrides one of the methods.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import watched_tensorflow  # before Keras: it chooses the back end

import keras  # isort: skip
from keras import ops  # isort: skip

Tensor = watched_tensorflow.tf.Tensor


class Attention(keras.layers.Layer):
    """Attention with `weights` and `config` by their canonical names."""

    def __init__(self, weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
        dtype = weights["query_kernel"].dtype.name
        super().__init__(dtype=dtype)
        self.heads: int = config["heads"]
        self.kv_heads: int = config["kv_heads"] or self.heads
        self.causal: bool = config.get("causal") is not None
        self.dense: dict[str, keras.layers.Dense] = {}
        for part in ("query", "key", "value", "output"):
            kernel, bias = weights[f"{part}_kernel"], weights[f"{part}_bias"]
            self.dense[part] = keras.layers.Dense(kernel.shape[1], name=part, dtype=dtype)
            self.dense[part].build((None, None, kernel.shape[0]))
            self.dense[part].set_weights([kernel, bias])
        self.head_dim: int = weights["query_kernel"].shape[1] // self.heads
        self.supports_masking = True
        self.built = True

    def call(
        self,
        query_input: Tensor,
        key_input: Tensor | None = None,
        value_input: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        key_input = query_input if key_input is None else key_input
        value_input = key_input if value_input is None else value_input
        query = self.split(self.query(query_input), self.heads)
        key = self.repeat(self.split(self.dense["key"](key_input), self.kv_heads))
        value = self.repeat(self.split(self.dense["value"](value_input), self.kv_heads))
        scores = self.scale(ops.matmul(query, ops.swapaxes(key, -1, -2)))
        if mask is not None:
            scores = self.mask(scores, mask[:, None, None, :])
        if self.causal:
            scores = self.mask(scores, self.triangle(*scores.shape[-2:]))
        return self.project(self.merge(ops.matmul(self.normalise(scores), value)))

    def query(self, x: Tensor) -> Tensor:
        return self.dense["query"](x)

    def split(self, x: Tensor, heads: int) -> Tensor:
        """`batch time hdim` as `batch head time dim`."""
        batch, time, width = x.shape
        return ops.transpose(ops.reshape(x, (batch, time, heads, width // heads)), (0, 2, 1, 3))

    def repeat(self, x: Tensor) -> Tensor:
        """Key or value heads, one for each query head."""
        return ops.repeat(x, self.heads // x.shape[1], axis=1)

    def scale(self, scores: Tensor) -> Tensor:
        return scores / ops.sqrt(ops.cast(self.head_dim, self.compute_dtype))

    def mask(self, scores: Tensor, seen: Tensor) -> Tensor:
        return ops.where(seen, scores, ops.cast(-1e9, self.compute_dtype))

    def triangle(self, queries: int, keys: int) -> Tensor:
        return ops.arange(keys)[None, :] <= ops.arange(queries)[:, None]

    def normalise(self, scores: Tensor) -> Tensor:
        return ops.softmax(scores, axis=-1)

    def merge(self, context: Tensor) -> Tensor:
        batch, heads, time, dim = context.shape
        return ops.reshape(ops.transpose(context, (0, 2, 1, 3)), (batch, time, heads * dim))

    def project(self, merged: Tensor) -> Tensor:
        return self.dense["output"](merged)
