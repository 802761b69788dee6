"""Multi-head attention in plain PyTorch, as people write it: a method per line of the formula.

A planted fault overrides one of the methods.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Attention:
    """Attention with `weights` and `config` by their canonical names."""

    def __init__(self, weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
        self.w = weights
        self.heads: int = config["heads"]
        self.kv_heads: int = config["kv_heads"] or self.heads
        self.causal: str | None = config.get("causal")
        self.softcap: float | None = config.get("softcap")
        self.rotary: bool = bool(config.get("rotary"))

    def __call__(
        self,
        query_input: Tensor,
        key_input: Tensor | None = None,
        value_input: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        key_input = query_input if key_input is None else key_input
        value_input = key_input if value_input is None else value_input
        query = self.split_query(self.query(query_input))
        key = self.split_key(self.key(key_input))
        value = self.split_value(self.value(value_input))
        if self.rotary:
            query, key = self.rotated_query(query), self.rotated_key(key)
        scores = self.scaled(self.scores(query, key))
        if self.softcap is not None:
            scores = self.softcapped(scores)
        seen = self.seen(mask, query.shape[-2], key.shape[-2])
        if seen is not None:
            scores = self.masked(scores, seen)
        weights = self.weights(scores, seen)
        return self.output(self.merged(self.context(weights, value)))

    # -- projections ----------------------------------------------------------------------------------

    def query(self, x: Tensor) -> Tensor:
        return x @ self.w["query_kernel"] + self.w["query_bias"]

    def key(self, x: Tensor) -> Tensor:
        return x @ self.w["key_kernel"] + self.w["key_bias"]

    def value(self, x: Tensor) -> Tensor:
        return x @ self.w["value_kernel"] + self.w["value_bias"]

    def split(self, x: Tensor, heads: int) -> Tensor:
        """`batch time hdim` as `batch head time dim`."""
        batch, time, width = x.shape
        return x.view(batch, time, heads, width // heads).transpose(1, 2)

    def split_query(self, query: Tensor) -> Tensor:
        return self.split(query, self.heads)

    def split_key(self, key: Tensor) -> Tensor:
        return self.repeated(self.split(key, self.kv_heads))

    def split_value(self, value: Tensor) -> Tensor:
        return self.repeated(self.split(value, self.kv_heads))

    def repeated(self, x: Tensor) -> Tensor:
        """Key or value heads, one for each query head."""
        return x.repeat_interleave(self.heads // self.kv_heads, dim=1) if self.heads != self.kv_heads else x

    # -- rotary position embedding -----------------------------------------------------------------------

    def angles(self, x: Tensor) -> Tensor:
        """`time pair`."""
        frequencies = 10000.0 ** (-torch.arange(0, x.shape[-1], 2, dtype=x.dtype) / x.shape[-1])
        return torch.arange(x.shape[-2], dtype=x.dtype)[:, None] * frequencies

    def rotated(self, x: Tensor) -> Tensor:
        angles = torch.cat([self.angles(x)] * 2, dim=-1)
        first, second = x.chunk(2, dim=-1)
        return x * angles.cos() + torch.cat([-second, first], dim=-1) * angles.sin()

    def rotated_query(self, query: Tensor) -> Tensor:
        return self.rotated(query)

    def rotated_key(self, key: Tensor) -> Tensor:
        return self.rotated(key)

    # -- scores -------------------------------------------------------------------------------------------

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        self.head_dim = query.shape[-1]
        return query @ key.transpose(-1, -2)

    def scaled(self, scores: Tensor) -> Tensor:
        return scores / math.sqrt(self.head_dim)

    def softcapped(self, scores: Tensor) -> Tensor:
        assert self.softcap is not None
        return torch.tanh(scores / self.softcap) * self.softcap

    def seen(self, mask: Tensor | None, queries: int, keys: int) -> Tensor | None:
        """Which keys a query attends to: true where it does."""
        seen = None if mask is None else self.widened(mask)
        if self.causal is not None:
            triangle = self.triangle(queries, keys)
            seen = triangle if seen is None else seen & triangle
        return seen

    def widened(self, mask: Tensor) -> Tensor:
        """A mask of keys (`batch key`) or of scores (`batch query key`) for all heads."""
        return mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]

    def triangle(self, queries: int, keys: int) -> Tensor:
        return torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries if self.causal == "bottom-right" else 0)

    def masked(self, scores: Tensor, seen: Tensor) -> Tensor:
        return scores.masked_fill(~seen, -math.inf)

    def weights(self, scores: Tensor, seen: Tensor | None) -> Tensor:
        weights = torch.softmax(scores, dim=-1)
        return weights if seen is None else torch.where(seen.any(-1, keepdim=True), weights, 0.0)

    # -- and back ---------------------------------------------------------------------------------------

    def context(self, weights: Tensor, value: Tensor) -> Tensor:
        return weights @ value

    def merged(self, context: Tensor) -> Tensor:
        return context.transpose(1, 2).flatten(2)

    def output(self, merged: Tensor) -> Tensor:
        return merged @ self.w["output_kernel"] + self.w["output_bias"]
