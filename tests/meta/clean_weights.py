"""Attention that is right, with softmax, masks and kernels written in other ways than the oracle's."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from attention_module import Attention
from clean import CleanCorpus
from clean_attention import CROSS, Call, Config, Weights, around, heads_of, join, project, split
from problem import attention, lengths
from torch import Tensor

CLEAN = CleanCorpus()

PADDED = attention(mask=lengths(3, 4, times=5))
CAUSAL = attention(causal="top-left", times=(4, 7))


# -- softmax -------------------------------------------------------------------------------------------------


@CLEAN.add(CROSS)
@around
def softmax_without_shift(query: Tensor, key: Tensor, value: Tensor, mask: None) -> Tensor:
    powers = torch.exp(query @ key.mT / math.sqrt(query.shape[-1]))
    return powers / powers.sum(-1, keepdim=True) @ value


@CLEAN.add(CROSS)
@around
def log_softmax_and_exp(query: Tensor, key: Tensor, value: Tensor, mask: None) -> Tensor:
    return F.log_softmax(query @ key.mT / math.sqrt(query.shape[-1]), -1).exp() @ value


@CLEAN.add(CROSS)
@around
def log_sum_exp(query: Tensor, key: Tensor, value: Tensor, mask: None) -> Tensor:
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    return torch.exp(scores - torch.logsumexp(scores, -1, keepdim=True)) @ value


@CLEAN.add(CROSS)
@around
def normalised_last(query: Tensor, key: Tensor, value: Tensor, mask: None) -> Tensor:
    """The context of the powers, divided by their sum: weights are never there."""
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    powers = torch.exp(scores - scores.amax(-1, keepdim=True))
    return powers @ value / powers.sum(-1, keepdim=True)


@CLEAN.add(attention(times=(5, 64), channels=(13, 11, 11, 10)))
@around
def online_softmax(query: Tensor, key: Tensor, value: Tensor, mask: None) -> Tensor:
    """Keys in chunks of sixteen, with a running maximum, as in FlashAttention."""
    largest = torch.full((*query.shape[:-1], 1), -math.inf, dtype=query.dtype)
    total, context = torch.zeros_like(largest), torch.zeros(*query.shape[:-1], value.shape[-1], dtype=query.dtype)
    for k, v in zip(key.split(16, dim=2), value.split(16, dim=2), strict=True):
        scores = query @ k.mT / math.sqrt(query.shape[-1])
        new = torch.maximum(largest, scores.amax(-1, keepdim=True))
        powers, kept = torch.exp(scores - new), torch.exp(largest - new)
        total = total * kept + powers.sum(-1, keepdim=True)
        context = context * kept + powers @ v
        largest = new
    return context / total


# -- masks ---------------------------------------------------------------------------------------------------


@CLEAN.add(PADDED)
@around
def added_minus_infinity(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    added = torch.where(mask, 0.0, -math.inf)[:, None, None, :].to(query.dtype)
    return (query @ key.mT / math.sqrt(query.shape[-1]) + added).softmax(-1) @ value


@CLEAN.add(PADDED)
@around
def added_large_number(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    added = (1.0 - mask[:, None, None, :].to(query.dtype)) * -1e9
    return (query @ key.mT / math.sqrt(query.shape[-1]) + added).softmax(-1) @ value


@CLEAN.add(PADDED)
@around
def filled_with_the_lowest(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    return torch.where(mask[:, None, None, :], scores, torch.finfo(query.dtype).min).softmax(-1) @ value


@CLEAN.add(PADDED)
@around
def masked_in_place(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    scores = query @ key.mT
    scores /= math.sqrt(query.shape[-1])
    scores.masked_fill_(~mask[:, None, None, :], -math.inf)
    return scores.softmax(-1) @ value


@CLEAN.add(PADDED)
@around
def masked_before_the_scale(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    scores = (query @ key.mT).masked_fill(~mask[:, None, None, :], -math.inf)
    return (scores / math.sqrt(query.shape[-1])).softmax(-1) @ value


@CLEAN.add(PADDED)
@around
def masked_after_and_normalised_again(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    weights = (query @ key.mT / math.sqrt(query.shape[-1])).softmax(-1) * mask[:, None, None, :]
    return weights / weights.sum(-1, keepdim=True) @ value


@CLEAN.add(PADDED)
def padding_cut_off(w: Weights, c: Config) -> Call:
    """Each sequence is cut to its real keys: there is nothing to mask."""

    def call(query_input: Tensor, mask: Tensor) -> Tensor:
        rows = []
        for x, real in zip(query_input, mask, strict=True):
            query, key, value = heads_of(w, c, x[None], x[None, real], None)
            rows.append(join((query @ key.mT / math.sqrt(query.shape[-1])).softmax(-1) @ value))
        return project(w, "output", torch.cat(rows))

    return call


@CLEAN.add(CAUSAL)
@around
def causal_by_comparing_positions(query: Tensor, key: Tensor, value: Tensor, mask: None) -> Tensor:
    later = torch.arange(key.shape[2])[None, :] > torch.arange(query.shape[2])[:, None]
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    return scores.masked_fill(later, -math.inf).softmax(-1) @ value


# -- the framework's own -----------------------------------------------------------------------------------


@CLEAN.add(CROSS)
@around
def fused(query: Tensor, key: Tensor, value: Tensor, mask: None) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value)


@CLEAN.add(CROSS, decomposed=True)
@around
def fused_taken_apart(query: Tensor, key: Tensor, value: Tensor, mask: None) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value)


@CLEAN.add(PADDED, decomposed=True)
@around
def fused_with_mask(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])


@CLEAN.add(CAUSAL, decomposed=True)
@around
def fused_causal(query: Tensor, key: Tensor, value: Tensor, mask: None) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, is_causal=True)


@CLEAN.add(attention(heads=6, kv_heads=2))
def grouped_without_repeating(w: Weights, c: Config) -> Call:
    """The queries of a group side by side, so that key and value heads need not be repeated."""

    def call(query_input: Tensor) -> Tensor:
        query = split(project(w, "query", query_input), c["heads"]).unflatten(1, (c["kv_heads"], -1))
        key, value = (split(project(w, p, query_input), c["kv_heads"])[:, :, None] for p in ("key", "value"))
        weights = torch.softmax(query @ key.mT / math.sqrt(query.shape[-1]), -1)
        return project(w, "output", join((weights @ value).flatten(1, 2)))

    return call


@CLEAN.add(attention(rotary=True))
def rotated_as_complex_numbers(w: Weights, c: Config) -> Call:
    class Complex(Attention):
        def rotated(self, x: Tensor) -> Tensor:
            angles = self.angles(x)
            first, second = x.chunk(2, dim=-1)
            turned = torch.complex(first, second) * torch.polar(torch.ones_like(angles), angles)
            return torch.cat([turned.real, turned.imag], dim=-1)

    return Complex(w, c)


@CLEAN.add(attention(softcap=1.5, mask=lengths(3, 5, times=5)))
def softcap_folded_into_the_scale(w: Weights, c: Config) -> Call:
    class Folded(Attention):
        def scaled(self, scores: Tensor) -> Tensor:
            return scores / (math.sqrt(self.head_dim) * self.softcap)

        def softcapped(self, scores: Tensor) -> Tensor:
            return scores.tanh() * self.softcap

    return Folded(w, c)
