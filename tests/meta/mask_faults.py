"""Faults in masked: what is masked, and with what."""

from __future__ import annotations

import numpy as np
import torch
from attention_module import Attention
from planted import Corpus
from problem import attention, drawn, lengths
from torch import Tensor

CORPUS = Corpus()

PADDED = attention(mask=lengths(3, 4, times=5))
OWN = attention(mask=drawn("seen", 2, 5, 5) + 2 * np.eye(5) > 0)  # a mask for each pair of query and key
CAUSAL = attention(causal="top-left", times=(4, 7))
BOTH = attention(causal="top-left", mask=lengths(3, 4, times=5))
# Scores of some 1e5: a fill of -1e4 does not stand out.
LARGE = PADDED.with_weights(query_kernel=PADDED.weights["query_kernel"] * 100_000)


@CORPUS.plant(PADDED, "masked", {"attention.mask-polarity": "true-blocks"})
class MaskInverted(Attention):
    def masked(self, scores: Tensor, seen: Tensor) -> Tensor:
        return scores.masked_fill(seen, -torch.inf)


@CORPUS.plant(PADDED, "masked", {"attention.mask-axis": "query"})
class MaskOnQueries(Attention):
    """Whole rows are filled, with a large negative number: padded queries attend evenly."""

    def widened(self, mask: Tensor) -> Tensor:
        return mask[:, None, :, None]

    def masked(self, scores: Tensor, seen: Tensor) -> Tensor:
        return scores.masked_fill(~seen, -torch.inf)


@CORPUS.plant(OWN, "masked", {"attention.mask-axis": "query"})
class MaskTransposed(Attention):
    def widened(self, mask: Tensor) -> Tensor:
        return mask.transpose(-1, -2)[:, None]


@CORPUS.plant(LARGE, "masked", {"attention.mask-fill": "-1e4"})
class FilledWithTooSmallANumber(Attention):
    def masked(self, scores: Tensor, seen: Tensor) -> Tensor:
        return scores.masked_fill(~seen, -1e4)


@CORPUS.plant(PADDED, "masked", {"attention.mask-fill": "-1e-25"})
class FilledWithATinyNumber(Attention):
    def masked(self, scores: Tensor, seen: Tensor) -> Tensor:
        return scores.masked_fill(~seen, -1e-25)


@CORPUS.plant(PADDED, "masked", {"attention.mask-fill": "0"})
class MultipliedByTheMask(Attention):
    def masked(self, scores: Tensor, seen: Tensor) -> Tensor:
        return scores * seen


@CORPUS.plant(PADDED, "masked", {"attention.mask-fill": "additive-0-1"})
class MaskAddedAsOnes(Attention):
    def masked(self, scores: Tensor, seen: Tensor) -> Tensor:
        return scores + seen.to(scores.dtype)


@CORPUS.plant(PADDED, "masked", {"attention.mask-fill": "post-softmax"}, also=("weights",))
class MaskedAfterSoftmax(Attention):
    def masked(self, scores: Tensor, seen: Tensor) -> Tensor:
        return scores

    def weights(self, scores: Tensor, seen: Tensor | None) -> Tensor:
        assert seen is not None
        return torch.softmax(scores, dim=-1) * seen


@CORPUS.plant(PADDED, "masked", {"attention.mask-fill": "ignored"})
class MaskForgotten(Attention):
    def seen(self, mask: Tensor | None, queries: int, keys: int) -> Tensor | None:
        return None


@CORPUS.plant(PADDED, "masked")
class MaskOfTheOtherSequence(Attention):
    def widened(self, mask: Tensor) -> Tensor:
        return mask.flip(0)[:, None, None, :]


@CORPUS.plant(CAUSAL, "masked", {"attention.causal-alignment": "bottom-right"})
class CausalFromBottomRight(Attention):
    def triangle(self, queries: int, keys: int) -> Tensor:
        return torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)


@CORPUS.plant(CAUSAL, "masked")
class CausalSeesOneAhead(Attention):
    def triangle(self, queries: int, keys: int) -> Tensor:
        return torch.ones(queries, keys, dtype=torch.bool).tril(1)


@CORPUS.plant(CAUSAL, "masked")
class CausalWithoutItself(Attention):
    def triangle(self, queries: int, keys: int) -> Tensor:
        return torch.ones(queries, keys, dtype=torch.bool).tril(-1)


@CORPUS.plant(BOTH, "masked")
class EitherMaskLetsThrough(Attention):
    """Padding or causal, in place of padding and causal."""

    def seen(self, mask: Tensor | None, queries: int, keys: int) -> Tensor | None:
        assert mask is not None
        return self.widened(mask) | self.triangle(queries, keys)


@CORPUS.plant(BOTH, "masked")
class PaddingForgottenWhereCausal(Attention):
    def seen(self, mask: Tensor | None, queries: int, keys: int) -> Tensor | None:
        return self.triangle(queries, keys)
