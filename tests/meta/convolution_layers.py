"""Convolutions in plain PyTorch, right and wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from clean import CleanCorpus
from planted import Corpus
from problems import CONVOLUTION, GROUPED_CONVOLUTION, STRIDE_OF_THREE
from torch import Tensor

Weights = Mapping[str, Tensor]
Config = Mapping[str, Any]
Call = Callable[..., Tensor]

FAULTS = Corpus()
CLEAN = CleanCorpus()


def convolve(w: Weights, x: Tensor, pad: tuple[int, int, int, int], kernel: Tensor | None = None, **k: Any) -> Tensor:
    """torch's convolution of `batch height width channel`; `pad` is left, right, top, bottom."""
    kernel = w["kernel"] if kernel is None else kernel
    padded = F.pad(x.permute(0, 3, 1, 2), pad)
    return F.conv2d(padded, kernel.permute(3, 2, 0, 1), w["bias"], **k).permute(0, 2, 3, 1)


def convolve_and_add(w: Weights, x: Tensor, kernel: Tensor) -> Tensor:
    """As `convolve` with stride 2, the bias added afterwards."""
    without = {"kernel": kernel, "bias": None}
    return convolve(without, x, (0, 1, 0, 1), stride=2) + w["bias"]


@CLEAN.add(CONVOLUTION)
def convolution_padded_below(w: Weights, c: Config) -> Call:
    return lambda x: convolve(w, x, (0, 1, 0, 1), stride=2)


@CLEAN.add(CONVOLUTION)
def convolution_by_unfolding(w: Weights, c: Config) -> Call:
    """Every window a row of a matrix."""

    def call(x: Tensor) -> Tensor:
        columns = F.unfold(F.pad(x.permute(0, 3, 1, 2), (0, 1, 0, 1)), 3, stride=2)
        rows = w["kernel"].permute(2, 0, 1, 3).flatten(0, 2)
        return (columns.mT @ rows + w["bias"]).unflatten(1, (4, 5))

    return call


@CLEAN.add(CONVOLUTION)
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


@CLEAN.add(GROUPED_CONVOLUTION)
def convolution_one_group_after_another(w: Weights, c: Config) -> Call:
    return lambda x: torch.cat(group_by_group(w, x), dim=-1) + w["bias"]


@FAULTS.plant(CONVOLUTION, "convolved", {"conv.flip": "convolution"})
def ConvolutionFlipped(w: Weights, c: Config) -> Call:
    return lambda x: convolve(w, x, (0, 1, 0, 1), w["kernel"].flip(0, 1), stride=2)


@FAULTS.plant(CONVOLUTION, "padded", {"conv.same-padding": "same-lower"})
def ConvolutionPaddedAbove(w: Weights, c: Config) -> Call:
    return lambda x: convolve(w, x, (1, 0, 1, 0), stride=2)


@FAULTS.plant(STRIDE_OF_THREE, "padded", {"conv.same-padding": "symmetric"})
def ConvolutionPaddedOnBothSides(w: Weights, c: Config) -> Call:
    return lambda x: F.conv2d(
        x.permute(0, 3, 1, 2), w["kernel"].permute(3, 2, 0, 1), w["bias"], stride=3, padding=2
    ).permute(0, 2, 3, 1)


@FAULTS.plant(CONVOLUTION, "padded", {"conv.padding": "valid"})
def ConvolutionNotPadded(w: Weights, c: Config) -> Call:
    """The output is smaller than it should be."""
    return lambda x: convolve(w, x, (0, 0, 0, 0), stride=2)


@FAULTS.plant(GROUPED_CONVOLUTION, "padded", {"conv.padding": "same-upper"})
def ConvolutionPaddedUnasked(w: Weights, c: Config) -> Call:
    """The output is larger than it should be."""
    return lambda x: convolve(w, x, (1, 1, 1, 1), groups=2)


@FAULTS.plant(CONVOLUTION, "convolved", {"conv.kernel-layout": "transposed-spatial"})
def ConvolutionKernelTransposed(w: Weights, c: Config) -> Call:
    """Height and width of the kernel swapped, as a MATLAB file read through HDF5 has them."""
    return lambda x: convolve_and_add(w, x, w["kernel"].transpose(0, 1))


@FAULTS.plant(CONVOLUTION, "convolved", {"conv.kernel-layout": "transposed-spatial"})
def ConvolutionKernelTransposedAndBiasFused(w: Weights, c: Config) -> Call:
    """The same in one operation with the bias."""
    return lambda x: convolve(w, x, (0, 1, 0, 1), w["kernel"].transpose(0, 1), stride=2)


@FAULTS.plant(GROUPED_CONVOLUTION, "convolved", {"conv.groups": "interleaved"})
def ConvolutionGroupsInterleaved(w: Weights, c: Config) -> Call:
    """Output channel o is made by group o % groups."""

    def call(x: Tensor) -> Tensor:
        return torch.stack(group_by_group(w, x), dim=-1).flatten(-2) + w["bias"]

    return call


@FAULTS.plant(CONVOLUTION, "output", {"weights.mismatch": "different weights"})
def ConvolutionWithoutBias(w: Weights, c: Config) -> Call:
    return lambda x: F.conv2d(
        F.pad(x.permute(0, 3, 1, 2), (0, 1, 0, 1)), w["kernel"].permute(3, 2, 0, 1), stride=2
    ).permute(0, 2, 3, 1)
