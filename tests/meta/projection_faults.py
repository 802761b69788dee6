"""Faults in query, key and value, and in the rotary embedding of query and key."""

from __future__ import annotations

import torch
from attention_module import Attention
from planted import Corpus
from problem import attention
from torch import Tensor

CORPUS = Corpus()

SQUARE = attention()  # every projection is 12x12, so that a transposed kernel fits
CROSS = attention(times=(5, 7), channels=(13, 11, 11, 10), value_dim=5)
ROTARY = attention(rotary=True)


@CORPUS.plant(CROSS, "query", {"attention.bias": "key,value,output"})
class QueryWithoutBias(Attention):
    def query(self, x: Tensor) -> Tensor:
        return x @ self.w["query_kernel"]


@CORPUS.plant(SQUARE, "query", {"linear.kernel-orientation": "out,in"})
class QueryByTransposedKernel(Attention):
    def query(self, x: Tensor) -> Tensor:
        return x @ self.w["query_kernel"].T + self.w["query_bias"]


@CORPUS.plant(SQUARE, "query")
class QueryByKeyKernel(Attention):
    def query(self, x: Tensor) -> Tensor:
        return x @ self.w["key_kernel"] + self.w["query_bias"]


@CORPUS.plant(SQUARE, "query")
class QueryWithOneWrongWeight(Attention):
    """One element of the kernel is off by one in a thousand."""

    def query(self, x: Tensor) -> Tensor:
        kernel = self.w["query_kernel"].clone()
        kernel[3, 5] *= 1.001
        return x @ kernel + self.w["query_bias"]


@CORPUS.plant(SQUARE, "key", {"linear.kernel-orientation": "out,in"})
class KeyByTransposedKernel(Attention):
    def key(self, x: Tensor) -> Tensor:
        return x @ self.w["key_kernel"].T + self.w["key_bias"]


@CORPUS.plant(CROSS, "key")
class KeyFromValueInput(Attention):
    """The arguments are in the order query, value, key (as in Keras), and are given as query, key, value."""

    def __call__(self, query_input: Tensor, key_input: Tensor, value_input: Tensor) -> Tensor:
        return super().__call__(query_input, value_input, value_input)


@CORPUS.plant(SQUARE, "key")
class KeyOneTimeStepLate(Attention):
    def key(self, x: Tensor) -> Tensor:
        return super().key(x.roll(1, dims=1))


@CORPUS.plant(SQUARE, "value")
class ValueByKeyKernel(Attention):
    def value(self, x: Tensor) -> Tensor:
        return x @ self.w["key_kernel"] + self.w["value_bias"]


@CORPUS.plant(CROSS, "value", {"attention.bias": "query,key,output"})
class ValueWithoutBias(Attention):
    def value(self, x: Tensor) -> Tensor:
        return x @ self.w["value_kernel"]


@CORPUS.plant(SQUARE, "value", {"linear.kernel-orientation": "out,in"})
class ValueByTransposedKernel(Attention):
    def value(self, x: Tensor) -> Tensor:
        return x @ self.w["value_kernel"].T + self.w["value_bias"]


@CORPUS.plant(CROSS, "value", {"weights.mismatch": "different weights"})
class ValueBiasDoubled(Attention):
    def value(self, x: Tensor) -> Tensor:
        return x @ self.w["value_kernel"] + 2 * self.w["value_bias"]


@CORPUS.plant(CROSS, "context")
class ValueBiasAddedAgain(Attention):
    """The right value is there: the fault shows where the context is not that of this value."""

    def value(self, x: Tensor) -> Tensor:
        return super().value(x) + self.w["value_bias"]


@CORPUS.plant(ROTARY, "rotated_query")
class QueryNotRotated(Attention):
    def rotated_query(self, query: Tensor) -> Tensor:
        return query


@CORPUS.plant(ROTARY, "rotated_query", {"rope.pairing": "interleaved"}, also=("rotated_key",))
class RotatedInInterleavedPairs(Attention):
    def rotated(self, x: Tensor) -> Tensor:
        angles = self.angles(x).repeat_interleave(2, dim=-1)
        turned = torch.stack([-x[..., 1::2], x[..., 0::2]], dim=-1).flatten(-2)
        return x * angles.cos() + turned * angles.sin()


@CORPUS.plant(ROTARY, "rotated_query", {"rope.direction": "-sin"}, also=("rotated_key",))
class RotatedTheOtherWay(Attention):
    def angles(self, x: Tensor) -> Tensor:
        return -super().angles(x)


@CORPUS.plant(ROTARY, "rotated_key")
class KeyPositionsFromOne(Attention):
    def rotated_key(self, key: Tensor) -> Tensor:
        later = torch.cat([key[..., :1, :], key], dim=-2)
        return super().rotated_key(later)[..., 1:, :]
