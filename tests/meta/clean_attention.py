"""Attention that is right, each written in another way than the oracle's.

A function takes (weights, config) and gives what is called with the inputs by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from attention_module import Attention
from clean import CleanCorpus
from problem import attention, lengths
from torch import Tensor

Weights = Mapping[str, Tensor]
Config = Mapping[str, Any]
Call = Callable[..., Tensor]


CLEAN = CleanCorpus()

SELF = attention()
CROSS = attention(times=(5, 7), channels=(13, 11, 11, 10), value_dim=5)
PADDED = attention(mask=lengths(3, 4, times=5))
CAUSAL = attention(causal="top-left", times=(4, 7))


def project(w: Weights, part: str, x: Tensor) -> Tensor:
    """A projection by torch's own linear layer, which wants `out in`."""
    return F.linear(x, w[f"{part}_kernel"].T, w[f"{part}_bias"])


def split(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def join(context: Tensor) -> Tensor:
    return context.transpose(1, 2).flatten(2)


def heads_of(w: Weights, c: Config, query_input: Tensor, key_input: Tensor | None, value_input: Tensor | None):
    """Query, key and value, split."""
    key_input = query_input if key_input is None else key_input
    value_input = key_input if value_input is None else value_input
    inputs = {"query": query_input, "key": key_input, "value": value_input}
    return (split(project(w, part, x), c["heads"]) for part, x in inputs.items())


def around(core: Callable[..., Tensor]) -> Callable[[Weights, Config], Call]:
    """Attention with the projections of this file around `core(query, key, value, mask)`."""

    def build(w: Weights, c: Config) -> Call:
        def call(
            query_input: Tensor,
            key_input: Tensor | None = None,
            value_input: Tensor | None = None,
            mask: Tensor | None = None,
        ) -> Tensor:
            query, key, value = heads_of(w, c, query_input, key_input, value_input)
            return project(w, "output", join(core(query, key, value, mask)))

        return call

    build.__name__ = core.__name__
    return build


# -- scale ---------------------------------------------------------------------------------------------------


@CLEAN.add(CROSS)
@around
def query_scaled_before(query: Tensor, key: Tensor, value: Tensor, mask: None) -> Tensor:
    return (query / math.sqrt(query.shape[-1]) @ key.mT).softmax(-1) @ value


@CLEAN.add(CROSS)
@around
def scale_on_both_sides(query: Tensor, key: Tensor, value: Tensor, mask: None) -> Tensor:
    root = query.shape[-1] ** -0.25
    return ((query * root) @ (key * root).mT).softmax(-1) @ value


@CLEAN.add(CROSS)
@around
def key_scaled_before(query: Tensor, key: Tensor, value: Tensor, mask: None) -> Tensor:
    return (query @ (key * query.shape[-1] ** -0.5).mT).softmax(-1) @ value


@CLEAN.add(CROSS)
def query_kernel_scaled(w: Weights, c: Config) -> Call:
    """The scale is folded into the query's kernel and bias."""
    scale = (w["query_kernel"].shape[1] // c["heads"]) ** -0.5
    folded = {**w, "query_kernel": w["query_kernel"] * scale, "query_bias": w["query_bias"] * scale}

    def call(query_input: Tensor, key_input: Tensor, value_input: Tensor) -> Tensor:
        query, key, value = heads_of(folded, c, query_input, key_input, value_input)
        return project(w, "output", join((query @ key.mT).softmax(-1) @ value))

    return call


# -- layout --------------------------------------------------------------------------------------------------


@CLEAN.add(CROSS, layout="key-query")
@around
def key_major(query: Tensor, key: Tensor, value: Tensor, mask: None) -> Tensor:
    weights = (key @ query.mT / math.sqrt(query.shape[-1])).softmax(-2)
    return weights.mT @ value


@CLEAN.add(SELF, layout="key-query")
def channels_first(w: Weights, c: Config) -> Call:
    """`batch channel time` throughout, kernels `out in`, weights over the first of their axes, as in MATLAB."""

    def call(query_input: Tensor) -> Tensor:
        x = query_input.mT.contiguous()
        q, k, v = (w[f"{p}_kernel"].T @ x + w[f"{p}_bias"][:, None] for p in ("query", "key", "value"))
        q, k, v = (part.unflatten(1, (c["heads"], -1)) for part in (q, k, v))
        weights = torch.softmax(k.mT @ q / math.sqrt(q.shape[2]), dim=2)
        merged = (v @ weights).flatten(1, 2)
        return (w["output_kernel"].T @ merged + w["output_bias"][:, None]).mT

    return call


@CLEAN.add(CROSS)
def heads_folded_into_batch(w: Weights, c: Config) -> Call:
    def call(query_input: Tensor, key_input: Tensor, value_input: Tensor) -> Tensor:
        query, key, value = (x.flatten(0, 1) for x in heads_of(w, c, query_input, key_input, value_input))
        context = torch.bmm(torch.softmax(torch.bmm(query, key.mT) * query.shape[-1] ** -0.5, dim=-1), value)
        return project(w, "output", join(context.unflatten(0, (-1, c["heads"]))))

    return call


@CLEAN.add(CROSS)
def heads_concatenated_along_batch(w: Weights, c: Config) -> Call:
    """`(head batch)`, as the first Keras ports had it: split and concatenated along axis 0, and back."""

    def call(query_input: Tensor, key_input: Tensor, value_input: Tensor) -> Tensor:
        given = zip(("query", "key", "value"), (query_input, key_input, value_input), strict=True)
        query, key, value = (torch.cat(project(w, part, x).chunk(c["heads"], dim=-1)) for part, x in given)
        context = torch.softmax(query @ key.mT / math.sqrt(query.shape[-1]), -1) @ value
        return project(w, "output", torch.cat(context.chunk(c["heads"]), dim=-1))

    return call


@CLEAN.add(CROSS)
def one_head_after_another(w: Weights, c: Config) -> Call:
    """A loop over the heads: no tensor holds the scores of all of them."""

    def call(query_input: Tensor, key_input: Tensor, value_input: Tensor) -> Tensor:
        query, key, value = heads_of(w, c, query_input, key_input, value_input)
        parts = []
        for h in range(c["heads"]):
            scores = query[:, h] @ key[:, h].mT / math.sqrt(query.shape[-1])
            parts.append(scores.softmax(-1) @ value[:, h])
        return project(w, "output", torch.cat(parts, dim=-1))

    return call


@CLEAN.add(CROSS)
def time_first(w: Weights, c: Config) -> Call:
    """`time batch channel`, torch's default."""

    def call(query_input: Tensor, key_input: Tensor, value_input: Tensor) -> Tensor:
        given = zip(("query", "key", "value"), (query_input, key_input, value_input), strict=True)
        query, key, value = (
            project(w, part, x.transpose(0, 1).contiguous()).unflatten(-1, (c["heads"], -1)) for part, x in given
        )
        weights = torch.einsum("qbhd,kbhd->bhqk", query, key).div(math.sqrt(query.shape[-1])).softmax(-1)
        merged = torch.einsum("bhqk,kbhd->qbhd", weights, value).flatten(2)
        return project(w, "output", merged).transpose(0, 1)

    return call


# -- products ------------------------------------------------------------------------------------------------


@CLEAN.add(CROSS)
@around
def by_einsum(query: Tensor, key: Tensor, value: Tensor, mask: None) -> Tensor:
    weights = torch.einsum("bhqd,bhkd->bhqk", query, key).mul(query.shape[-1] ** -0.5).softmax(-1)
    return torch.einsum("bhqk,bhkd->bhqd", weights, value)


@CLEAN.add(CROSS)
def by_einsum_throughout(w: Weights, c: Config) -> Call:
    """Kernels `channel head dim`, as Keras holds them; the output is one contraction over head and dim."""

    def call(query_input: Tensor, key_input: Tensor, value_input: Tensor) -> Tensor:
        given = zip(("query", "key", "value"), (query_input, key_input, value_input), strict=True)
        query, key, value = (
            torch.einsum("btc,chd->bthd", x, w[f"{p}_kernel"].unflatten(-1, (c["heads"], -1)))
            + w[f"{p}_bias"].unflatten(-1, (c["heads"], -1))
            for p, x in given
        )
        weights = torch.einsum("bkhd,bqhd->bhqk", key, query / math.sqrt(query.shape[-1])).softmax(-1)
        context = torch.einsum("bhqk,bkhd->bqhd", weights, value)
        kernel = w["output_kernel"].unflatten(0, (c["heads"], -1))
        return torch.einsum("bqhd,hdo->bqo", context, kernel) + w["output_bias"]

    return call


@CLEAN.add(SELF)
def one_projection_for_all(w: Weights, c: Config) -> Call:
    """A packed kernel for query, key and value."""
    kernel = torch.cat([w[f"{p}_kernel"] for p in ("query", "key", "value")], dim=1)
    bias = torch.cat([w[f"{p}_bias"] for p in ("query", "key", "value")])

    def call(query_input: Tensor) -> Tensor:
        packed = F.linear(query_input, kernel.T, bias)
        query, key, value = (split(x, c["heads"]) for x in packed.chunk(3, dim=-1))
        weights = torch.softmax(query @ key.mT / math.sqrt(query.shape[-1]), -1)
        return project(w, "output", join(weights @ value))

    return call


@CLEAN.add(PADDED)
@around
def mask_added_in_the_product(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """baddbmm: scores, scale and mask in one operation."""
    batch, heads, time, dim = query.shape
    added = torch.zeros(mask.shape, dtype=query.dtype).masked_fill(~mask, -math.inf)
    full = added[:, None, None, :].expand(batch, heads, time, -1).flatten(0, 1)
    scores = torch.baddbmm(full, query.flatten(0, 1), key.flatten(0, 1).mT, alpha=dim**-0.5)
    return (scores.softmax(-1) @ value.flatten(0, 1)).unflatten(0, (batch, heads))


@CLEAN.add(CROSS)
def by_addmm(w: Weights, c: Config) -> Call:
    """Projections of `(batch time) channel`."""

    def projected(part: str, x: Tensor) -> Tensor:
        flat = torch.addmm(w[f"{part}_bias"], x.flatten(0, 1), w[f"{part}_kernel"])
        return flat.unflatten(0, x.shape[:2])

    def call(query_input: Tensor, key_input: Tensor, value_input: Tensor) -> Tensor:
        given = zip(("query", "key", "value"), (query_input, key_input, value_input), strict=True)
        query, key, value = (split(projected(part, x), c["heads"]) for part, x in given)
        weights = torch.softmax(query @ key.mT / math.sqrt(query.shape[-1]), -1)
        return projected("output", join(weights @ value))

    return call


@CLEAN.add(CROSS)
def values_projected_after_the_weights(w: Weights, c: Config) -> Call:
    """(weights @ value_input) @ kernel: the rows of the weights sum to one, so the bias is added at the end."""

    def call(query_input: Tensor, key_input: Tensor, value_input: Tensor) -> Tensor:
        query, key = (split(project(w, p, x), c["heads"]) for p, x in (("query", query_input), ("key", key_input)))
        weights = torch.softmax(query @ key.mT / math.sqrt(query.shape[-1]), -1)
        kernel = w["value_kernel"].unflatten(-1, (c["heads"], -1)).transpose(0, 1)
        context = (weights @ value_input[:, None]) @ kernel
        return project(w, "output", join(context) + w["value_bias"])

    return call


@CLEAN.add(CROSS)
def output_bias_first(w: Weights, c: Config) -> Call:
    """One output projection per head, summed onto the bias."""

    def call(query_input: Tensor, key_input: Tensor, value_input: Tensor) -> Tensor:
        query, key, value = heads_of(w, c, query_input, key_input, value_input)
        context = torch.softmax(query @ key.mT / math.sqrt(query.shape[-1]), -1) @ value
        kernel = w["output_kernel"].unflatten(0, (c["heads"], -1))
        output = w["output_bias"].expand(*query_input.shape[:2], -1).clone()
        for h in range(c["heads"]):
            output += context[:, h] @ kernel[h]
        return output

    return call


@CLEAN.add(CROSS)
def key_without_bias(w: Weights, c: Config) -> Call:
    """A key bias adds one number to all scores of a query, and the softmax drops it."""
    return Attention({**w, "key_bias": torch.zeros_like(w["key_bias"])}, c)
