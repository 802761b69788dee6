"""Layers other than attention in plain PyTorch: what is right in another form, and what is not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from clean import CleanCorpus
from planted import Corpus
from problems import GELU, LINEAR, SOFTMAX, TANH_GELU
from torch import Tensor

Weights = Mapping[str, Tensor]
Config = Mapping[str, Any]
Call = Callable[..., Tensor]

FAULTS = Corpus()
CLEAN = CleanCorpus()


# -- softmax -------------------------------------------------------------------------------------------------


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


@FAULTS.plant(LINEAR, "product", {"linear.kernel-orientation": "out,in"})
def LinearByTransposedKernel(w: Weights, c: Config) -> Call:
    return lambda x: x @ w["kernel"].T + w["bias"]


@FAULTS.plant(LINEAR, "output", {"weights.mismatch": "different weights"})
def LinearBiasDoubled(w: Weights, c: Config) -> Call:
    return lambda x: x @ w["kernel"] + 2 * w["bias"]


@FAULTS.plant(LINEAR, "output", {"weights.mismatch": "different weights"})
def LinearWithoutBias(w: Weights, c: Config) -> Call:
    return lambda x: x @ w["kernel"]


# -- gelu ----------------------------------------------------------------------------------------------------


@CLEAN.add(GELU)
def gelu_of_the_framework(w: Weights, c: Config) -> Call:
    return F.gelu


@CLEAN.add(GELU)
def gelu_by_erf(w: Weights, c: Config) -> Call:
    return lambda x: 0.5 * x * (1 + torch.erf(x * math.sqrt(0.5)))


@CLEAN.add(TANH_GELU)
def gelu_by_tanh(w: Weights, c: Config) -> Call:
    return lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@FAULTS.plant(GELU, "output", {"gelu.approximation": "tanh"})
def GeluByTanh(w: Weights, c: Config) -> Call:
    return lambda x: F.gelu(x, approximate="tanh")


@FAULTS.plant(GELU, "output", {"gelu.approximation": "sigmoid"})
def GeluQuick(w: Weights, c: Config) -> Call:
    return lambda x: x * torch.sigmoid(1.702 * x)


@FAULTS.plant(TANH_GELU, "output", {"gelu.approximation": "none"})
def GeluExactForTanh(w: Weights, c: Config) -> Call:
    return F.gelu


@FAULTS.plant(GELU, "output")
def Silu(w: Weights, c: Config) -> Call:
    return lambda x: x * torch.sigmoid(x)
