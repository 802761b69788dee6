"""Layer norms in plain PyTorch, right and wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from clean import CleanCorpus
from planted import Corpus
from problems import NORM
from torch import Tensor

Weights = Mapping[str, Tensor]
Config = Mapping[str, Any]
Call = Callable[..., Tensor]

FAULTS = Corpus()
CLEAN = CleanCorpus()


def affine(w: Weights, normalized: Tensor) -> Tensor:
    return normalized * w["scale"] + w["bias"]


@CLEAN.add(NORM)
def norm_by_standard_deviation(w: Weights, c: Config) -> Call:
    return lambda x: affine(w, (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt())


@CLEAN.add(NORM)
def norm_by_rsqrt(w: Weights, c: Config) -> Call:
    def call(x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return affine(w, centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + c["epsilon"]))

    return call


@CLEAN.add(NORM)
def norm_with_the_mean_multiplied_out(w: Weights, c: Config) -> Call:
    """x * r - mean * r, as onnxruntime and fused kernels have it."""

    def call(x: Tensor) -> Tensor:
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0)
        r = torch.rsqrt(variance + c["epsilon"]) * w["scale"]
        return x * r + (w["bias"] - mean * r)

    return call


@CLEAN.add(NORM)
def norm_in_two_passes(w: Weights, c: Config) -> Call:
    """Sums divided by counts."""

    def call(x: Tensor) -> Tensor:
        centred = x - x.sum(-1, keepdim=True) / x.shape[-1]
        variance = (centred * centred).sum(-1, keepdim=True) / x.shape[-1]
        return affine(w, centred / torch.sqrt(variance + c["epsilon"]))

    return call


@CLEAN.add(NORM)
def norm_of_the_framework(w: Weights, c: Config) -> Call:
    return lambda x: F.layer_norm(x, (7,), w["scale"], w["bias"], c["epsilon"])


@CLEAN.add(NORM, decomposed=True)
def norm_of_the_framework_taken_apart(w: Weights, c: Config) -> Call:
    return lambda x: F.layer_norm(x, (7,), w["scale"], w["bias"], c["epsilon"])


@CLEAN.add(NORM)
def norm_by_another_unit(w: Weights, c: Config) -> Call:
    """Everything a thousand times as large, epsilon a million times: the same layer."""
    return lambda x: F.layer_norm(x * 1024, (7,), w["scale"], w["bias"], c["epsilon"] * 1024**2)


@FAULTS.plant(NORM, "variance", {"norm.variance": "bessel"})
def NormWithBesselsCorrection(w: Weights, c: Config) -> Call:
    def call(x: Tensor) -> Tensor:
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True)
        return affine(w, (x - mean) / torch.sqrt(variance + c["epsilon"]))

    return call


@FAULTS.plant(NORM, "normalized", {"norm.epsilon-placement": "outside-sqrt"})
def NormEpsilonOutsideTheRoot(w: Weights, c: Config) -> Call:
    def call(x: Tensor) -> Tensor:
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0)
        return affine(w, (x - mean) / (torch.sqrt(variance) + c["epsilon"]))

    return call


@FAULTS.plant(NORM, "normalized", {"norm.epsilon-placement": "none"})
def NormWithoutEpsilon(w: Weights, c: Config) -> Call:
    def call(x: Tensor) -> Tensor:
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0)
        return affine(w, (x - mean) / torch.sqrt(variance))

    return call


@FAULTS.plant(NORM, "normalized", {"norm.epsilon": "0.001"})
def NormWithAnotherEpsilon(w: Weights, c: Config) -> Call:
    def call(x: Tensor) -> Tensor:
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0)
        return affine(w, (x - mean) / torch.sqrt(variance + 1e-3))

    return call


@FAULTS.plant(
    NORM,
    "variance",
    {"norm.variance": "bessel", "norm.epsilon-placement": "outside-sqrt"},
    also=("normalized",),
    faults=2,
)
def NormByTensorStd(w: Weights, c: Config) -> Call:
    """(x - mean) / (std + epsilon), with torch's default standard deviation: two faults, as in BERT-pytorch."""
    return lambda x: affine(w, (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + c["epsilon"]))


@FAULTS.plant(NORM, "output", {"weights.mismatch": "different weights"})
def NormWithoutBias(w: Weights, c: Config) -> Call:
    def call(x: Tensor) -> Tensor:
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0)
        return (x - mean) / torch.sqrt(variance + c["epsilon"]) * w["scale"]

    return call


@FAULTS.plant(NORM, "output", {"weights.mismatch": "different weights"})
def NormScaleOffByOne(w: Weights, c: Config) -> Call:
    def call(x: Tensor) -> Tensor:
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0)
        return (x - mean) / torch.sqrt(variance + c["epsilon"]) * (w["scale"] + 1) + w["bias"]

    return call


@FAULTS.plant(NORM, "mean", {"norm.axes": "batch"}, also=("variance",))
def NormOverTheBatch(w: Weights, c: Config) -> Call:
    def call(x: Tensor) -> Tensor:
        mean, variance = x.mean(0, keepdim=True), x.var(0, keepdim=True, correction=0)
        return affine(w, (x - mean) / torch.sqrt(variance + c["epsilon"]))

    return call


@FAULTS.plant(NORM, "mean", {"norm.axes": "all-but-batch"}, also=("variance",))
def NormOverTimeToo(w: Weights, c: Config) -> Call:
    def call(x: Tensor) -> Tensor:
        mean, variance = x.mean((1, 2), keepdim=True), x.var((1, 2), keepdim=True, correction=0)
        return affine(w, (x - mean) / torch.sqrt(variance + c["epsilon"]))

    return call


@FAULTS.plant(NORM, "normalized")
def NormOverTime(w: Weights, c: Config) -> Call:
    """No statistic of the right shape is ever there: what is seen to be wrong is the normalised value."""

    def call(x: Tensor) -> Tensor:
        mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, correction=0)
        return affine(w, (x - mean) / torch.sqrt(variance + c["epsilon"]))

    return call
