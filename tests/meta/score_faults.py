"""Faults in scores, scaled and softcapped."""

from __future__ import annotations

import math

import torch
from attention_module import Attention
from planted import Corpus
from problem import attention, lengths
from torch import Tensor

CORPUS = Corpus()

SQUARE = attention()
CROSS = attention(times=(5, 7), channels=(13, 11, 11, 10), value_dim=5)
# A scale of its own: the square of 1/sqrt(head_dim) is 1/head_dim, which is another convention.
OWN_SCALE = attention(times=(5, 7), channels=(13, 11, 11, 10), value_dim=5, scale=0.3)
GROUPED = attention(heads=6, kv_heads=2)
CAPPED = attention(softcap=1.5, mask=lengths(3, 5, times=5))


@CORPUS.plant(CROSS, "scores", {"attention.head-split": "interleaved"}, also=("context",))
class HeadsInterleaved(Attention):
    def split(self, x: Tensor, heads: int) -> Tensor:
        return x.unflatten(-1, (-1, heads)).movedim(-1, 1)


@CORPUS.plant(CROSS, "scores", {"attention.head-split": "reshape-without-transpose"}, also=("context",))
class HeadsReshapedWithoutTranspose(Attention):
    def split(self, x: Tensor, heads: int) -> Tensor:
        batch, time, width = x.shape
        return x.view(batch, heads, time, width // heads)


@CORPUS.plant(CROSS, "scores")
class QueryHeadsInterleaved(Attention):
    """Only the query's heads: the key's are blocks."""

    def split_query(self, query: Tensor) -> Tensor:
        return query.unflatten(-1, (-1, self.heads)).movedim(-1, 1)


@CORPUS.plant(CROSS, "scores")
class KeyReshapedInsteadOfTransposed(Attention):
    """The key `time dim` becomes `dim time` by a reshape."""

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        self.head_dim = query.shape[-1]
        return query @ key.reshape(*key.shape[:2], key.shape[3], key.shape[2])


@CORPUS.plant(attention(head_dim=5, channels=(12, 12, 12, 12)), "scores")
class KeyNotTransposed(Attention):
    """As many time steps as features in a head: the product goes through without the transpose."""

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        self.head_dim = query.shape[-1]
        return query @ key


@CORPUS.plant(CROSS, "scores")
class ScoresOfTheNextHead(Attention):
    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        return super().scores(query, key.roll(1, dims=1))


@CORPUS.plant(GROUPED, "scores", {"attention.kv-head-repeat": "tiled"}, also=("context",))
class KeyValueHeadsTiled(Attention):
    def repeated(self, x: Tensor) -> Tensor:
        return x.repeat(1, self.heads // self.kv_heads, 1, 1)


@CORPUS.plant(GROUPED, "scores", {"attention.kv-head-repeat": "tiled"})
class KeyHeadsTiled(Attention):
    """The value's heads are repeated as they should be."""

    def split_key(self, key: Tensor) -> Tensor:
        return self.split(key, self.kv_heads).repeat(1, self.heads // self.kv_heads, 1, 1)


@CORPUS.plant(CROSS, "scaled", {"attention.scale": "1"})
class NotScaled(Attention):
    def scaled(self, scores: Tensor) -> Tensor:
        return scores


@CORPUS.plant(CROSS, "scaled", {"attention.scale": "1/sqrt(model_dim)"})
class ScaledByModelDim(Attention):
    def scaled(self, scores: Tensor) -> Tensor:
        return scores / math.sqrt(self.head_dim * self.heads)


@CORPUS.plant(CROSS, "scaled", {"attention.scale": "1/sqrt(value_dim)"})
class ScaledByValueDim(Attention):
    def scaled(self, scores: Tensor) -> Tensor:
        return scores / math.sqrt(self.w["value_kernel"].shape[1] // self.heads)


@CORPUS.plant(CROSS, "scaled", {"attention.scale": "1/head_dim"})
class ScaledWithoutRoot(Attention):
    def scaled(self, scores: Tensor) -> Tensor:
        return scores / self.head_dim


@CORPUS.plant(CROSS, "scaled", {"attention.scale": "sqrt(head_dim)"})
class MultipliedByRoot(Attention):
    def scaled(self, scores: Tensor) -> Tensor:
        return scores * math.sqrt(self.head_dim)


@CORPUS.plant(CROSS, "scaled", {"attention.scale": "0.3779644730092272"})
class ScaledByNumberOfKeys(Attention):
    def scaled(self, scores: Tensor) -> Tensor:
        return scores / math.sqrt(scores.shape[-1])


@CORPUS.plant(OWN_SCALE, "scaled", {"attention.scale": "twice"})
class ScaledTwice(Attention):
    """The query is scaled before the product, and the product again."""

    def split_query(self, query: Tensor) -> Tensor:
        return super().split_query(query) * 0.3

    def scaled(self, scores: Tensor) -> Tensor:
        return scores * 0.3


@CORPUS.plant(OWN_SCALE, "scaled", {"attention.scale": "twice"}, decomposed=True)
class ScaledBeforeTheFusedKernelToo(Attention):
    """The query is scaled, and the framework's attention, which scales, takes it."""

    def __call__(self, query_input: Tensor, key_input: Tensor, value_input: Tensor) -> Tensor:
        query, key = self.split_query(self.query(query_input)), self.split_key(self.key(key_input))
        value = self.split_value(self.value(value_input))
        context = torch.nn.functional.scaled_dot_product_attention(query * 0.3, key, value, scale=0.3)
        return self.output(self.merged(context))


@CORPUS.plant(CROSS, "scaled", {"attention.scale": "1"})
class NotScaledAtAllInOneProduct(Attention):
    """Scores by einsum, straight into the softmax."""

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        return torch.einsum("bhqd,bhkd->bhqk", query, key)

    def scaled(self, scores: Tensor) -> Tensor:
        return scores


@CORPUS.plant(CAPPED, "softcapped", {"attention.softcap": "after-mask"}, also=("masked",))
class SoftcapAfterMask(Attention):
    def softcapped(self, scores: Tensor) -> Tensor:
        return scores

    def masked(self, scores: Tensor, seen: Tensor) -> Tensor:
        return super().softcapped(super().masked(scores, seen))


@CORPUS.plant(CAPPED, "softcapped")
class SoftcapByClamp(Attention):
    def softcapped(self, scores: Tensor) -> Tensor:
        assert self.softcap is not None
        return scores.clamp(-self.softcap, self.softcap)


@CORPUS.plant(CAPPED, "softcapped")
class SoftcapNotMultipliedBack(Attention):
    def softcapped(self, scores: Tensor) -> Tensor:
        assert self.softcap is not None
        return torch.tanh(scores / self.softcap)


@CORPUS.plant(CAPPED, "softcapped")
class SoftcapWithoutDivision(Attention):
    def softcapped(self, scores: Tensor) -> Tensor:
        assert self.softcap is not None
        return torch.tanh(scores) * self.softcap


@CORPUS.plant(CAPPED, "softcapped")
class NoSoftcap(Attention):
    def softcapped(self, scores: Tensor) -> Tensor:
        return scores
