"""Faults in attention without projections: functions of query, key and value, as people write them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from planted import Corpus
from problem import Problem, drawn, lengths
from torch import Tensor

CORPUS = Corpus()

PLAIN = Problem(
    "scaled_dot_product_attention",
    {},
    {"query": drawn("q", 2, 3, 5, 4), "key": drawn("k", 2, 3, 7, 4), "value": drawn("v", 2, 3, 7, 6)},
)
PADDED = PLAIN.with_inputs(mask=lengths(4, 6, times=7))
CAUSAL = PLAIN.with_config(causal="bottom-right")
GROUPED = PLAIN.with_inputs(query=drawn("q", 2, 6, 5, 4)).with_config(kv_heads=3)


def plant(problem: Problem, culprit: str, named: Mapping[str, str] | None = None, **options: Any) -> Any:
    """As `Corpus.plant`, for a function of the inputs: there are no weights, and it knows its config."""

    def register(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def build(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> Callable[..., Tensor]:
            return function

        build.__name__ = function.__name__
        CORPUS.plant(problem, culprit, named, **options)(build)
        return function

    return register


@plant(PLAIN, "scaled", {"attention.scale": "1"})
def not_scaled(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return torch.softmax(query @ key.mT, -1) @ value


@plant(PLAIN, "scaled", {"attention.scale": "1"}, decomposed=True)
def framework_not_scaled(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, scale=1.0)


@plant(PLAIN, "scaled", {"attention.scale": "1"})
def framework_not_scaled_and_fused(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The fused kernel: nothing is seen but the output."""
    return F.scaled_dot_product_attention(query, key, value, scale=1.0)


@plant(PADDED, "masked", {"attention.mask-polarity": "true-blocks"}, decomposed=True)
def framework_mask_inverted(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, attn_mask=~mask[:, None, None, :])


@plant(PADDED, "masked", {"attention.mask-polarity": "true-blocks"})
def framework_mask_inverted_and_fused(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, attn_mask=~mask[:, None, None, :])


@plant(PADDED, "masked", {"attention.mask-fill": "additive-0-1"}, decomposed=True)
def framework_mask_as_numbers(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :].to(query.dtype))


@plant(CAUSAL, "masked", {"attention.causal-alignment": "top-left"}, decomposed=True)
def framework_causal(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, is_causal=True)


@plant(GROUPED, "scores", {"attention.kv-head-repeat": "tiled"}, also=("context",))
def heads_tiled(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    key, value = key.repeat(1, 2, 1, 1), value.repeat(1, 2, 1, 1)
    return torch.softmax(query @ key.mT / math.sqrt(query.shape[-1]), -1) @ value


@plant(PLAIN, "weights", {"attention.softmax-axis": "query"})
def softmax_over_queries(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return torch.softmax(query @ key.mT / math.sqrt(query.shape[-1]), -2) @ value


@plant(PLAIN, "scores")
def cosine_scores(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).mT
    return torch.softmax(scores / math.sqrt(query.shape[-1]), -1) @ value


@plant(PLAIN, "scores")
def scores_by_difference(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Minus the squared distance, without the square of the query, which would drop out."""
    scores = 2 * query @ key.mT - key.square().sum(-1)[..., None, :]
    return torch.softmax(scores / math.sqrt(query.shape[-1]), -1) @ value


@plant(PLAIN, "context")
def values_upside_down(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return torch.softmax(query @ key.mT / math.sqrt(query.shape[-1]), -1) @ value.flip(2)


@plant(PLAIN, "context", {"arithmetic.precision": "bfloat16"})
def values_in_bfloat16(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    weights = torch.softmax(query @ key.mT / math.sqrt(query.shape[-1]), -1)
    return (weights.bfloat16() @ value.bfloat16()).to(query.dtype)
