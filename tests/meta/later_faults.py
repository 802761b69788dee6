"""Faults in weights, context, merged and output, and two at a time."""

from __future__ import annotations

import math

import numpy as np
import torch
from attention_module import Attention
from planted import Corpus
from problem import attention, drawn, lengths
from torch import Tensor

CORPUS = Corpus()

SQUARE = attention()
CROSS = attention(times=(5, 7), channels=(13, 11, 11, 10), value_dim=5)
PADDED = attention(mask=lengths(3, 4, times=5))
_SEEN = (drawn("seen", 2, 5, 5) > -0.5) | np.eye(5, dtype=bool)
_SEEN[1, 2] = False
DEAD = attention(mask=_SEEN)  # the third query of the second sequence attends to nothing


@CORPUS.plant(CROSS, "weights", {"attention.softmax-axis": "query"})
class SoftmaxOverQueries(Attention):
    def weights(self, scores: Tensor, seen: Tensor | None) -> Tensor:
        return torch.softmax(scores, dim=-2)


@CORPUS.plant(CROSS, "weights")
class SoftmaxOverHeads(Attention):
    def weights(self, scores: Tensor, seen: Tensor | None) -> Tensor:
        return torch.softmax(scores, dim=1)


@CORPUS.plant(CROSS, "weights")
class SoftmaxWithTemperature(Attention):
    def weights(self, scores: Tensor, seen: Tensor | None) -> Tensor:
        return torch.softmax(scores / 0.9, dim=-1)


@CORPUS.plant(CROSS, "weights")
class NotNormalised(Attention):
    def weights(self, scores: Tensor, seen: Tensor | None) -> Tensor:
        return torch.exp(scores - scores.amax(-1, keepdim=True))


@CORPUS.plant(CROSS, "weights")
class SoftmaxPlusOne(Attention):
    """exp / (1 + sum exp), which lets a head attend to nothing."""

    def weights(self, scores: Tensor, seen: Tensor | None) -> Tensor:
        powers = torch.exp(scores)
        return powers / (1 + powers.sum(-1, keepdim=True))


@CORPUS.plant(CROSS, "weights")
class PowersOfTwo(Attention):
    def weights(self, scores: Tensor, seen: Tensor | None) -> Tensor:
        powers = torch.exp2(scores - scores.amax(-1, keepdim=True))
        return powers / powers.sum(-1, keepdim=True)


@CORPUS.plant(CROSS, "weights")
class SigmoidForSoftmax(Attention):
    def weights(self, scores: Tensor, seen: Tensor | None) -> Tensor:
        return torch.sigmoid(scores)


@CORPUS.plant(CROSS, "context")
class DropoutLeftOn(Attention):
    """What the softmax gives is right: the fault shows where the context is not that of these weights."""

    def weights(self, scores: Tensor, seen: Tensor | None) -> Tensor:
        return torch.nn.functional.dropout(torch.softmax(scores, dim=-1), 0.1, training=True)


@CORPUS.plant(DEAD, "weights", {"attention.fully-masked-row": "uniform"})
class DeadRowUniform(Attention):
    def masked(self, scores: Tensor, seen: Tensor) -> Tensor:
        return scores.masked_fill(~seen, torch.finfo(scores.dtype).min)

    def weights(self, scores: Tensor, seen: Tensor | None) -> Tensor:
        return torch.softmax(scores, dim=-1)


@CORPUS.plant(DEAD, "weights", {"attention.fully-masked-row": "nan"})
class DeadRowNan(Attention):
    def weights(self, scores: Tensor, seen: Tensor | None) -> Tensor:
        return torch.softmax(scores, dim=-1)


@CORPUS.plant(SQUARE, "context")
class WeightsTransposed(Attention):
    def context(self, weights: Tensor, value: Tensor) -> Tensor:
        return weights.transpose(-1, -2) @ value


@CORPUS.plant(CROSS, "context")
class ValuesOfTheNextHead(Attention):
    def context(self, weights: Tensor, value: Tensor) -> Tensor:
        return weights @ value.roll(1, dims=1)


@CORPUS.plant(CROSS, "context", {"attention.head-split": "interleaved"})
class ValueHeadsInterleaved(Attention):
    def split_value(self, value: Tensor) -> Tensor:
        return value.unflatten(-1, (-1, self.heads)).movedim(-1, 1)


@CORPUS.plant(CROSS, "context", {"arithmetic.precision": "bfloat16"})
class ContextInBfloat16(Attention):
    """The product alone, as under autocast."""

    def context(self, weights: Tensor, value: Tensor) -> Tensor:
        return (weights.bfloat16() @ value.bfloat16()).to(value.dtype)


@CORPUS.plant(SQUARE, "context")
class LastKeyDropped(Attention):
    def context(self, weights: Tensor, value: Tensor) -> Tensor:
        return weights[..., :-1] @ value[..., :-1, :]


@CORPUS.plant(CROSS, "merged", {"attention.head-merge": "interleaved"})
class HeadsMergedInterleaved(Attention):
    def merged(self, context: Tensor) -> Tensor:
        return context.movedim(1, -1).flatten(2)


@CORPUS.plant(CROSS, "merged", {"attention.head-merge": "reshape-without-transpose"})
class HeadsMergedWithoutTranspose(Attention):
    def merged(self, context: Tensor) -> Tensor:
        batch, heads, time, dim = context.shape
        return context.reshape(batch, time, heads * dim)


@CORPUS.plant(CROSS, "merged")
class HeadsInReverse(Attention):
    def merged(self, context: Tensor) -> Tensor:
        return super().merged(context.flip(1))


@CORPUS.plant(CROSS, "output", {"attention.bias": "query,key,value"})
class OutputWithoutBias(Attention):
    def output(self, merged: Tensor) -> Tensor:
        return merged @ self.w["output_kernel"]


@CORPUS.plant(CROSS, "output")
class OutputBiasDoubled(Attention):
    def output(self, merged: Tensor) -> Tensor:
        return super().output(merged) + self.w["output_bias"]


@CORPUS.plant(SQUARE, "output", {"linear.kernel-orientation": "out,in"})
class OutputByTransposedKernel(Attention):
    def output(self, merged: Tensor) -> Tensor:
        return merged @ self.w["output_kernel"].T + self.w["output_bias"]


@CORPUS.plant(CROSS, "output")
class OutputDropoutLeftOn(Attention):
    def output(self, merged: Tensor) -> Tensor:
        return torch.nn.functional.dropout(super().output(merged), 0.1, training=True)


@CORPUS.plant(SQUARE, "output")
class ResidualAdded(Attention):
    def __call__(self, query_input: Tensor) -> Tensor:
        return super().__call__(query_input) + query_input


# -- two faults ----------------------------------------------------------------------------------------------


@CORPUS.plant(
    CROSS, "scaled", {"attention.scale": "1", "attention.head-merge": "interleaved"}, also=("merged",), faults=2
)
class NotScaledAndMergedInterleaved(Attention):
    def scaled(self, scores: Tensor) -> Tensor:
        return scores

    def merged(self, context: Tensor) -> Tensor:
        return context.movedim(1, -1).flatten(2)


@CORPUS.plant(
    PADDED,
    "masked",
    {"attention.mask-polarity": "true-blocks", "attention.bias": "query,key,value"},
    also=("output",),
    faults=2,
)
class MaskInvertedAndNoOutputBias(Attention):
    def masked(self, scores: Tensor, seen: Tensor) -> Tensor:
        return scores.masked_fill(seen, -math.inf)

    def output(self, merged: Tensor) -> Tensor:
        return merged @ self.w["output_kernel"]


@CORPUS.plant(CROSS, "query", {"attention.bias": "key,output"}, also=("value",), faults=2)
class QueryAndValueWithoutBias(Attention):
    def query(self, x: Tensor) -> Tensor:
        return x @ self.w["query_kernel"]

    def value(self, x: Tensor) -> Tensor:
        return x @ self.w["value_kernel"]


@CORPUS.plant(
    DEAD, "scaled", {"attention.scale": "1/head_dim", "attention.fully-masked-row": "nan"}, also=("weights",), faults=2
)
class ScaledWithoutRootAndDeadRowNan(Attention):
    def scaled(self, scores: Tensor) -> Tensor:
        return scores / self.head_dim

    def weights(self, scores: Tensor, seen: Tensor | None) -> Tensor:
        return torch.softmax(scores, dim=-1)
