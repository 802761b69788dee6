"""Several faults in one layer, of those that are planted singly elsewhere."""

from __future__ import annotations

import math

import torch
from attention_module import Attention
from planted import Corpus
from problem import attention, lengths
from torch import Tensor

CORPUS = Corpus()

CROSS = attention(times=(5, 7), channels=(13, 11, 11, 10), value_dim=5)
PADDED = attention(mask=lengths(3, 4, times=5))
NOT_SCALED = {"attention.scale": "1"}
INVERTED = {"attention.mask-polarity": "true-blocks"}
OVER_QUERIES = {"attention.softmax-axis": "query"}
SPLIT = {"attention.head-split": "interleaved"}
MERGED = {"attention.head-merge": "interleaved"}
NO_OUTPUT_BIAS = {"attention.bias": "query,key,value"}


class NotScaled(Attention):
    def scaled(self, scores: Tensor) -> Tensor:
        return scores


class OverQueries(Attention):
    def weights(self, scores: Tensor, seen: Tensor | None) -> Tensor:
        return torch.softmax(scores, dim=-2)


class Split(Attention):
    def split(self, x: Tensor, heads: int) -> Tensor:
        return x.unflatten(-1, (-1, heads)).movedim(-1, 1)


class Merged(Attention):
    def merged(self, context: Tensor) -> Tensor:
        return context.movedim(1, -1).flatten(2)


class Inverted(Attention):
    def masked(self, scores: Tensor, seen: Tensor) -> Tensor:
        return scores.masked_fill(seen, -math.inf)


class NoQueryBias(Attention):
    def query(self, x: Tensor) -> Tensor:
        return x @ self.w["query_kernel"]


class NoValueBias(Attention):
    def value(self, x: Tensor) -> Tensor:
        return x @ self.w["value_kernel"]


class NoOutputBias(Attention):
    def output(self, merged: Tensor) -> Tensor:
        return merged @ self.w["output_kernel"]


@CORPUS.plant(CROSS, "scaled", NOT_SCALED | OVER_QUERIES, also=("weights",), faults=2)
class NotScaledAndOverQueries(NotScaled, OverQueries):
    pass


@CORPUS.plant(CROSS, "scores", SPLIT | MERGED, also=("context", "merged"), faults=2)
class SplitAndMergedInterleaved(Split, Merged):
    """Consistent with itself, and another layer all the same."""


@CORPUS.plant(PADDED, "scaled", NOT_SCALED | INVERTED | NO_OUTPUT_BIAS, also=("masked", "output"), faults=3)
class NotScaledInvertedAndNoOutputBias(NotScaled, Inverted, NoOutputBias):
    """The first leaves no trace of its own."""


@CORPUS.plant(CROSS, "query", {"attention.bias": "key,value,output"} | NOT_SCALED, also=("scaled",), faults=2)
class NoQueryBiasAndNotScaled(NoQueryBias, NotScaled):
    pass


@CORPUS.plant(CROSS, "query", {"attention.bias": "key"}, also=("value", "output"), faults=3)
class NoBiases(NoQueryBias, NoValueBias, NoOutputBias):
    pass


@CORPUS.plant(
    CROSS,
    "scores",
    SPLIT | NOT_SCALED | OVER_QUERIES | MERGED | NO_OUTPUT_BIAS,
    also=("scaled", "weights", "context", "merged", "output"),
    faults=5,
)
class AllButTheProjections(Split, NotScaled, OverQueries, Merged, NoOutputBias):
    pass
