"""Layers other than attention in plain PyTorch: what is right in another form, and what is not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from clean import CleanCorpus
from planted import Corpus
from problem import Problem, drawn
from torch import Tensor

Weights = Mapping[str, Tensor]
Config = Mapping[str, Any]
Call = Callable[..., Tensor]

FAULTS = Corpus()
CLEAN = CleanCorpus()


# -- layer norm ----------------------------------------------------------------------------------------------

# Rows of small variance, one below the epsilon, so that its place shows, and a square, so that a wrong axis fits.
NORM = Problem(
    "layer_norm",
    {"epsilon": 1e-5},
    {"x": drawn("norm x", 2, 7, 7) * np.geomspace(1e-3, 0.1, 7)[:, None] + 0.1},
    {"scale": drawn("norm scale", 7) + 1, "bias": drawn("norm bias", 7)},
)


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


@FAULTS.plant(NORM, "normalized")
def NormWithAnotherEpsilon(w: Weights, c: Config) -> Call:
    def call(x: Tensor) -> Tensor:
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0)
        return affine(w, (x - mean) / torch.sqrt(variance + 1e-3))

    return call


@FAULTS.plant(
    NORM, "variance", {"norm.variance": "bessel", "norm.epsilon-placement": "outside-sqrt"}, also=("normalized",)
)
def NormByTensorStd(w: Weights, c: Config) -> Call:
    """(x - mean) / (std + epsilon), with torch's default standard deviation: two faults, as in BERT-pytorch."""
    return lambda x: affine(w, (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + c["epsilon"]))


@FAULTS.plant(NORM, "output")
def NormWithoutBias(w: Weights, c: Config) -> Call:
    def call(x: Tensor) -> Tensor:
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0)
        return (x - mean) / torch.sqrt(variance + c["epsilon"]) * w["scale"]

    return call


@FAULTS.plant(NORM, "output")
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


# -- softmax -------------------------------------------------------------------------------------------------

SOFTMAX = Problem("softmax", {"axis": -1}, {"x": drawn("softmax x", 3, 5, 5, deviation=2.0)})


@CLEAN.add(SOFTMAX)
def softmax_of_the_framework(w: Weights, c: Config) -> Call:
    return lambda x: torch.softmax(x, -1)


@CLEAN.add(SOFTMAX)
def softmax_by_log_sum_exp(w: Weights, c: Config) -> Call:
    return lambda x: torch.exp(x - torch.logsumexp(x, -1, keepdim=True))


@CLEAN.add(SOFTMAX)
def softmax_unshifted(w: Weights, c: Config) -> Call:
    return lambda x: x.exp() / x.exp().sum(-1, keepdim=True)


@CLEAN.add(SOFTMAX)
def softmax_shifted_by_one_number(w: Weights, c: Config) -> Call:
    """By the greatest of all elements."""

    def call(x: Tensor) -> Tensor:
        powers = torch.exp(x - x.max())
        return powers * powers.sum(-1, keepdim=True).reciprocal()

    return call


@CLEAN.add(SOFTMAX)
def softmax_of_log_softmax(w: Weights, c: Config) -> Call:
    return lambda x: F.log_softmax(x, -1).exp()


@FAULTS.plant(SOFTMAX, "total", also=None)
def SoftmaxOverAnotherAxis(w: Weights, c: Config) -> Call:
    """The sum runs along another axis; the shift, which drops out, does not matter."""

    def call(x: Tensor) -> Tensor:
        powers = torch.exp(x - x.amax(-1, keepdim=True))
        return powers / powers.sum(-2, keepdim=True)

    return call


@FAULTS.plant(SOFTMAX, "output")
def SoftmaxOfTheFrameworkOverAnotherAxis(w: Weights, c: Config) -> Call:
    return lambda x: torch.softmax(x, -2)


@FAULTS.plant(SOFTMAX, "output")
def SoftmaxNotNormalised(w: Weights, c: Config) -> Call:
    return lambda x: torch.exp(x - x.amax(-1, keepdim=True))


@FAULTS.plant(SOFTMAX, "exponentials")
def SoftmaxOfTwo(w: Weights, c: Config) -> Call:
    def call(x: Tensor) -> Tensor:
        powers = torch.exp2(x - x.amax(-1, keepdim=True))
        return powers / powers.sum(-1, keepdim=True)

    return call


# -- linear --------------------------------------------------------------------------------------------------

LINEAR = Problem("linear", {}, {"x": drawn("linear x", 3, 6)}, {"kernel": drawn("kernel", 6, 6), "bias": drawn("b", 6)})


@CLEAN.add(LINEAR)
def linear_of_the_framework(w: Weights, c: Config) -> Call:
    return lambda x: F.linear(x, w["kernel"].T, w["bias"])


@CLEAN.add(LINEAR)
def linear_by_einsum(w: Weights, c: Config) -> Call:
    return lambda x: torch.einsum("bi,io->bo", x, w["kernel"]) + w["bias"]


@CLEAN.add(LINEAR)
def linear_as_a_sum(w: Weights, c: Config) -> Call:
    return lambda x: (x[:, :, None] * w["kernel"]).sum(1) + w["bias"]


@CLEAN.add(LINEAR)
def linear_with_the_bias_in_the_kernel(w: Weights, c: Config) -> Call:
    """A column of ones, and the bias as the kernel's last row."""
    kernel = torch.cat([w["kernel"], w["bias"][None]])
    return lambda x: torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1) @ kernel


@FAULTS.plant(LINEAR, "product")
def LinearByTransposedKernel(w: Weights, c: Config) -> Call:
    return lambda x: x @ w["kernel"].T + w["bias"]


@FAULTS.plant(LINEAR, "output")
def LinearBiasDoubled(w: Weights, c: Config) -> Call:
    return lambda x: x @ w["kernel"] + 2 * w["bias"]


@FAULTS.plant(LINEAR, "output")
def LinearWithoutBias(w: Weights, c: Config) -> Call:
    return lambda x: x @ w["kernel"]


# -- gelu ----------------------------------------------------------------------------------------------------

GELU = Problem("gelu", {}, {"x": drawn("gelu x", 11, 13, deviation=2.0)})


@CLEAN.add(GELU)
def gelu_of_the_framework(w: Weights, c: Config) -> Call:
    return F.gelu


@CLEAN.add(GELU)
def gelu_by_erf(w: Weights, c: Config) -> Call:
    return lambda x: 0.5 * x * (1 + torch.erf(x * math.sqrt(0.5)))


@CLEAN.add(GELU.with_config(approximation="tanh"))
def gelu_by_tanh(w: Weights, c: Config) -> Call:
    return lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@FAULTS.plant(GELU, "output", {"gelu.approximation": "tanh"})
def GeluByTanh(w: Weights, c: Config) -> Call:
    return lambda x: F.gelu(x, approximate="tanh")


@FAULTS.plant(GELU, "output", {"gelu.approximation": "sigmoid"})
def GeluQuick(w: Weights, c: Config) -> Call:
    return lambda x: x * torch.sigmoid(1.702 * x)


@FAULTS.plant(GELU.with_config(approximation="tanh"), "output", {"gelu.approximation": "none"})
def GeluExactForTanh(w: Weights, c: Config) -> Call:
    return F.gelu


@FAULTS.plant(GELU, "output")
def Silu(w: Weights, c: Config) -> Call:
    return lambda x: x * torch.sigmoid(x)


# -- convolution ---------------------------------------------------------------------------------------------

SAME = Problem(
    "conv2d",
    {"padding": "same-upper", "strides": 2},
    {"x": drawn("conv x", 2, 8, 10, 4)},
    {"kernel": drawn("conv kernel", 3, 3, 4, 6), "bias": drawn("conv bias", 6)},
)
# For a stride of two, what both sides of padding give is what the lower side alone gives.
STRIDE_OF_THREE = Problem(
    "conv2d",
    {"padding": "same-upper", "strides": 3},
    {"x": drawn("conv x", 2, 8, 11, 4)},
    {"kernel": drawn("conv kernel", 4, 4, 4, 6), "bias": drawn("conv bias", 6)},
)
GROUPED = Problem(
    "conv2d",
    {"groups": 2},
    {"x": drawn("conv x", 2, 8, 10, 4)},
    {"kernel": drawn("conv kernel", 3, 3, 2, 6), "bias": drawn("conv bias", 6)},
)


def convolve(w: Weights, x: Tensor, pad: tuple[int, int, int, int], kernel: Tensor | None = None, **k: Any) -> Tensor:
    """torch's convolution of `batch height width channel`; `pad` is left, right, top, bottom."""
    kernel = w["kernel"] if kernel is None else kernel
    padded = F.pad(x.permute(0, 3, 1, 2), pad)
    return F.conv2d(padded, kernel.permute(3, 2, 0, 1), w["bias"], **k).permute(0, 2, 3, 1)


def convolve_and_add(w: Weights, x: Tensor, kernel: Tensor) -> Tensor:
    """As `convolve` with stride 2, the bias added afterwards."""
    without = {"kernel": kernel, "bias": None}
    return convolve(without, x, (0, 1, 0, 1), stride=2) + w["bias"]


@CLEAN.add(SAME)
def convolution_padded_below(w: Weights, c: Config) -> Call:
    return lambda x: convolve(w, x, (0, 1, 0, 1), stride=2)


@CLEAN.add(SAME)
def convolution_by_unfolding(w: Weights, c: Config) -> Call:
    """Every window a row of a matrix."""

    def call(x: Tensor) -> Tensor:
        columns = F.unfold(F.pad(x.permute(0, 3, 1, 2), (0, 1, 0, 1)), 3, stride=2)
        rows = w["kernel"].permute(2, 0, 1, 3).flatten(0, 2)
        return (columns.mT @ rows + w["bias"]).unflatten(1, (4, 5))

    return call


@CLEAN.add(SAME)
def convolution_as_a_sum_of_products(w: Weights, c: Config) -> Call:
    """One product for each offset of the kernel."""

    def call(x: Tensor) -> Tensor:
        padded = F.pad(x, (0, 0, 0, 1, 0, 1))
        total = w["bias"].expand(2, 4, 5, 6).clone()
        for i in range(3):
            for j in range(3):
                total += padded[:, i : i + 8 : 2, j : j + 10 : 2] @ w["kernel"][i, j]
        return total

    return call


def group_by_group(w: Weights, x: Tensor) -> list[Tensor]:
    """Two groups of two input channels and three output channels, `batch height width channel` each."""
    pairs = zip(x.permute(0, 3, 1, 2).split(2, dim=1), w["kernel"].permute(3, 2, 0, 1).split(3), strict=True)
    return [F.conv2d(part, kernel).permute(0, 2, 3, 1) for part, kernel in pairs]


@CLEAN.add(GROUPED)
def convolution_one_group_after_another(w: Weights, c: Config) -> Call:
    return lambda x: torch.cat(group_by_group(w, x), dim=-1) + w["bias"]


@FAULTS.plant(SAME, "convolved", {"conv.flip": "convolution"})
def ConvolutionFlipped(w: Weights, c: Config) -> Call:
    return lambda x: convolve(w, x, (0, 1, 0, 1), w["kernel"].flip(0, 1), stride=2)


@FAULTS.plant(SAME, "padded", {"conv.same-padding": "same-lower"})
def ConvolutionPaddedAbove(w: Weights, c: Config) -> Call:
    return lambda x: convolve(w, x, (1, 0, 1, 0), stride=2)


@FAULTS.plant(STRIDE_OF_THREE, "padded", {"conv.same-padding": "symmetric"})
def ConvolutionPaddedOnBothSides(w: Weights, c: Config) -> Call:
    return lambda x: F.conv2d(
        x.permute(0, 3, 1, 2), w["kernel"].permute(3, 2, 0, 1), w["bias"], stride=3, padding=2
    ).permute(0, 2, 3, 1)


@FAULTS.plant(SAME, "convolved")
def ConvolutionKernelTransposed(w: Weights, c: Config) -> Call:
    """Height and width of the kernel swapped, as a MATLAB file read through HDF5 has them."""
    return lambda x: convolve_and_add(w, x, w["kernel"].transpose(0, 1))


@FAULTS.plant(SAME, "output")
def ConvolutionKernelTransposedAndBiasFused(w: Weights, c: Config) -> Call:
    """The same in one operation with the bias: what is seen to be wrong is the output."""
    return lambda x: convolve(w, x, (0, 1, 0, 1), w["kernel"].transpose(0, 1), stride=2)


@FAULTS.plant(GROUPED, "convolved", {"conv.groups": "interleaved"})
def ConvolutionGroupsInterleaved(w: Weights, c: Config) -> Call:
    """Output channel o is made by group o % groups."""

    def call(x: Tensor) -> Tensor:
        return torch.stack(group_by_group(w, x), dim=-1).flatten(-2) + w["bias"]

    return call


@FAULTS.plant(SAME, "output")
def ConvolutionWithoutBias(w: Weights, c: Config) -> Call:
    return lambda x: F.conv2d(
        F.pad(x.permute(0, 3, 1, 2), (0, 1, 0, 1)), w["kernel"].permute(3, 2, 0, 1), stride=2
    ).permute(0, 2, 3, 1)
