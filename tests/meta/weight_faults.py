"""Weights that are held or read another way, numbers that are not the layer's, and arithmetic that is coarser; and
near misses, which must stay without a name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from attention_module import Attention
from lstm_layers import Lstm
from planted import Corpus
from problem import Problem, attention, drawn
from torch import Tensor

Weights = Mapping[str, Tensor]
Config = Mapping[str, Any]
Call = Callable[..., Tensor]

CORPUS = Corpus()

SQUARE = attention()  # three heads of four; query, key and value of one size
MANY = attention(batch=4)  # 20 rows for 13 weights a column: a fit can fail
OTHER = {"weights.mismatch": "different weights"}
FLIPPED = {"linear.kernel-orientation": "out,in"}
BFLOAT16 = {"arithmetic.precision": "bfloat16"}
TF32 = {"arithmetic.precision": "tf32"}
PROJECTED = ("key", "value")


class Packed(Attention):
    """One kernel and one bias for query, key and value, packed as q|k|v."""

    def __init__(self, weights: Weights, config: Config) -> None:
        parts = ("query", "key", "value")
        self.kernel = torch.cat([weights[f"{part}_kernel"] for part in parts], dim=1)
        self.bias = torch.cat([weights[f"{part}_bias"] for part in parts])
        super().__init__(weights, config)

    def __call__(self, query_input: Tensor) -> Tensor:
        packed = query_input @ self.kernel + self.bias
        self.parts = self.unpacked(packed)
        return super().__call__(query_input)

    def unpacked(self, packed: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError

    def query(self, x: Tensor) -> Tensor:
        return self.parts[0]

    def key(self, x: Tensor) -> Tensor:
        return self.parts[1]

    def value(self, x: Tensor) -> Tensor:
        return self.parts[2]


# -- kernels packed into one ------------------------------------------------------------------------------------


@CORPUS.plant(SQUARE, "query", {"attention.qkv-packing": "k|q|v"}, also=("key",))
class PackedKeyFirst(Packed):
    def unpacked(self, packed: Tensor) -> tuple[Tensor, ...]:
        key, query, value = packed.chunk(3, dim=-1)
        return query, key, value


@CORPUS.plant(SQUARE, "query", {"attention.qkv-packing": "v|k|q"}, also=("value",))
class PackedValueFirst(Packed):
    def unpacked(self, packed: Tensor) -> tuple[Tensor, ...]:
        value, key, query = packed.chunk(3, dim=-1)
        return query, key, value


@CORPUS.plant(SQUARE, "query", {"attention.qkv-packing": "per-head q|k|v"}, also=PROJECTED)
class PackedByHead(Packed):
    """GPT-NeoX's (heads, 3, d)."""

    def unpacked(self, packed: Tensor) -> tuple[Tensor, ...]:
        return tuple(part.flatten(-2) for part in packed.unflatten(-1, (self.heads, 3, -1)).unbind(-2))


@CORPUS.plant(SQUARE, "query", {"attention.qkv-packing": "per-feature q|k|v"}, also=PROJECTED)
class PackedByFeature(Packed):
    def unpacked(self, packed: Tensor) -> tuple[Tensor, ...]:
        return packed.unflatten(-1, (-1, 3)).unbind(-1)


@CORPUS.plant(SQUARE, "query", {"attention.qkv-packing": "per-head q|k|v"}, also=PROJECTED)
class StoredByHead(Packed):
    """A checkpoint that is packed by head, read in blocks."""

    def __init__(self, weights: Weights, config: Config) -> None:
        super().__init__(weights, config)
        self.kernel = self.by_head(self.kernel)
        self.bias = self.by_head(self.bias)

    def by_head(self, packed: Tensor) -> Tensor:
        return packed.unflatten(-1, (3, self.heads, -1)).transpose(-2, -3).flatten(-3)

    def unpacked(self, packed: Tensor) -> tuple[Tensor, ...]:
        return packed.chunk(3, dim=-1)


# -- kernels transposed -----------------------------------------------------------------------------------------


@CORPUS.plant(SQUARE, "query", FLIPPED, also=("key", "value", "output"))
class EveryKernelTransposed(Attention):
    def __init__(self, weights: Weights, config: Config) -> None:
        super().__init__({n: w.T if w.ndim == 2 else w for n, w in weights.items()}, config)


@CORPUS.plant(SQUARE, "query", FLIPPED, also=("output",))
class TwoKernelsTransposed(Attention):
    def __init__(self, weights: Weights, config: Config) -> None:
        wrong = ("query_kernel", "output_kernel")
        super().__init__({n: w.T if n in wrong else w for n, w in weights.items()}, config)


CELL = Problem(
    "lstm",
    {},
    {"x": drawn("lstm x", 2, 5, 3)},
    {
        "kernel": drawn("lstm kernel", 3, 16),
        "recurrent_kernel": drawn("lstm recurrent", 4, 16, deviation=0.5),
        "bias": drawn("lstm bias", 16),
    },
)


@CORPUS.plant(CELL, "input_gate", FLIPPED, also=None)
class LstmRecurrentKernelsTransposed(Lstm):
    def __init__(self, w: Weights, c: Config) -> None:
        turned = torch.cat([part.T for part in w["recurrent_kernel"].chunk(4, dim=1)], dim=1)
        super().__init__({**w, "recurrent_kernel": turned}, c)


@CORPUS.plant(CELL, "input_gate", {"lstm.gate-order": "f,i,g,o"}, also=None)
class LstmForgetFirst(Lstm):
    order = (1, 0, 2, 3)


@CORPUS.plant(CELL, "forget_gate", {"lstm.gate-order": "i,o,f,g"}, also=None)
class LstmOfOnnx(Lstm):
    order = (0, 2, 3, 1)


@CORPUS.plant(CELL, "forget_gate", {"lstm.gate-order": "i,g,f,o", "lstm.forget-bias": "1"}, also=None)
class LstmOfTensorFlowOne(Lstm):
    order = (0, 2, 1, 3)

    def forget(self, inner: Tensor) -> Tensor:
        return inner + 1


IMAGE = Problem(
    "conv2d",
    {"padding": "valid"},
    {"x": drawn("weight conv x", 2, 8, 9, 4)},
    {"kernel": drawn("weight conv kernel", 3, 3, 4, 6), "bias": drawn("weight conv bias", 6)},
)


def convolve(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """torch's convolution of `batch height width channel` with a kernel `out in height width`."""
    return F.conv2d(x.permute(0, 3, 1, 2), kernel, bias).permute(0, 2, 3, 1)


@CORPUS.plant(IMAGE, "convolved", {"conv.kernel-layout": "out,in,spatial"})
def ConvolutionBufferTakenForTorchs(w: Weights, c: Config) -> Call:
    return lambda x: convolve(x, w["kernel"].reshape(6, 4, 3, 3), w["bias"])


@CORPUS.plant(IMAGE, "convolved", {"conv.kernel-layout": "out,in,spatial"})
def ConvolutionTorchsBufferTakenForCanonical(w: Weights, c: Config) -> Call:
    stored = w["kernel"].permute(3, 2, 0, 1).reshape(3, 3, 4, 6)
    return lambda x: convolve(x, stored.permute(3, 2, 0, 1), w["bias"])


# -- biases -----------------------------------------------------------------------------------------------------


class WhispersKey(Attention):
    """A key's bias adds one number to all scores of a query, which the softmax takes away again: no fault."""

    def key(self, x: Tensor) -> Tensor:
        return x @ self.w["key_kernel"]


@CORPUS.plant(SQUARE, "query", {"attention.bias": "none"}, also=("key", "value", "output"))
class WithoutBiases(Attention):
    def __init__(self, weights: Weights, config: Config) -> None:
        super().__init__({n: w * 0 if n.endswith("bias") else w for n, w in weights.items()}, config)


# -- other weights ----------------------------------------------------------------------------------------------


def others(name: str, like: Tensor) -> Tensor:
    """Weights of another training run."""
    return torch.from_numpy(drawn(name, *like.shape)).to(like)


@CORPUS.plant(MANY, "value", OTHER)
class ValueOfAnotherCheckpoint(Attention):
    def __init__(self, weights: Weights, config: Config) -> None:
        super().__init__({**weights, "value_kernel": others("v", weights["value_kernel"])}, config)


@CORPUS.plant(MANY, "output", OTHER)
class OutputOfAnotherCheckpoint(Attention):
    def __init__(self, weights: Weights, config: Config) -> None:
        super().__init__({**weights, "output_kernel": others("o", weights["output_kernel"])}, config)


LINEAR = Problem(
    "linear", {}, {"x": drawn("wide x", 3, 7, 5)}, {"kernel": drawn("tall", 5, 9), "bias": drawn("nine", 9)}
)


@CORPUS.plant(LINEAR, "output", OTHER)
def LinearOfAnotherCheckpoint(w: Weights, c: Config) -> Call:
    """One operation: kernel and bias are fitted at once."""
    kernel, bias = others("k", w["kernel"]), others("b", w["bias"])
    return lambda x: F.linear(x, kernel.T, bias)


@CORPUS.plant(IMAGE, "output", OTHER)
def ConvolutionOfAnotherCheckpoint(w: Weights, c: Config) -> Call:
    kernel = others("c", w["kernel"]).permute(3, 2, 0, 1)
    return lambda x: convolve(x, kernel, w["bias"])


@CORPUS.plant(LINEAR, "product", also=("output",))
def LinearOfAnotherCheckpointWithTanh(w: Weights, c: Config) -> Call:
    """Weights and structure are wrong: no weights explain it."""
    kernel = others("k", w["kernel"])
    return lambda x: torch.tanh(F.linear(x, kernel.T, w["bias"]))


@CORPUS.plant(LINEAR, "output")
def LinearOfAnotherKernelForEachRow(w: Weights, c: Config) -> Call:
    each = torch.linspace(0.9, 1.1, 7, dtype=w["kernel"].dtype)[:, None]
    return lambda x: F.linear(x * each, w["kernel"].T, w["bias"])


@CORPUS.plant(MANY, "output")
class OutputOfAnotherCheckpointAndDropout(OutputOfAnotherCheckpoint):
    def output(self, merged: Tensor) -> Tensor:
        return F.dropout(super().output(merged), 0.1, training=True)


# -- numbers ----------------------------------------------------------------------------------------------------

NORM = Problem(
    "layer_norm",
    {"epsilon": 1e-5},
    {"x": drawn("norm x", 2, 7, 9) * np.geomspace(1e-3, 0.1, 7)[:, None] + 0.1},
    {"scale": drawn("other scale", 9) + 1, "bias": drawn("other bias", 9)},
)


@CORPUS.plant(NORM, "normalized", {"norm.epsilon": "1e-06"})
def NormOfFlax(w: Weights, c: Config) -> Call:
    """Its default epsilon, in one operation: solved for through the output."""
    return lambda x: F.layer_norm(x, (9,), w["scale"], w["bias"], 1e-6)


@CORPUS.plant(NORM, "normalized", {"norm.epsilon": "0.001", "norm.epsilon-placement": "outside-sqrt"})
def NormEpsilonOutsideAndAnother(w: Weights, c: Config) -> Call:
    def call(x: Tensor) -> Tensor:
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0)
        return (x - mean) / (variance.sqrt() + 1e-3) * w["scale"] + w["bias"]

    return call


@CORPUS.plant(NORM, "variance", {"norm.variance": "bessel", "norm.epsilon": "0.001"}, also=("normalized",))
def NormWithBesselsCorrectionAndAnotherEpsilon(w: Weights, c: Config) -> Call:
    def call(x: Tensor) -> Tensor:
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True)
        return (x - mean) / torch.sqrt(variance + 1e-3) * w["scale"] + w["bias"]

    return call


@CORPUS.plant(NORM, "normalized")
def NormEpsilonOfEachRow(w: Weights, c: Config) -> Call:
    """No number is the epsilon of every row."""

    def call(x: Tensor) -> Tensor:
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0)
        each = torch.linspace(1e-4, 1e-3, 7, dtype=x.dtype)[:, None]
        return (x - mean) / torch.sqrt(variance + each) * w["scale"] + w["bias"]

    return call


@CORPUS.plant(SQUARE, "scaled", {"attention.scale": "0.05"})
class ScaledByATwentieth(Attention):
    def scaled(self, scores: Tensor) -> Tensor:
        return scores * 0.05


@CORPUS.plant(SQUARE, "scaled", {"attention.scale": repr(1 / math.sqrt(7))})
class ScaledByTheRootOfSeven(Attention):
    def scaled(self, scores: Tensor) -> Tensor:
        return scores / math.sqrt(7)


@CORPUS.plant(CELL, "forget_gate", {"lstm.forget-bias": "0.5"})
class LstmForgetBiasOfAHalf(Lstm):
    def forget(self, inner: Tensor) -> Tensor:
        return inner + 0.5


# -- coarser arithmetic -----------------------------------------------------------------------------------------


def cut(x: Tensor) -> Tensor:
    """The operand without the bits that tf32 does not have: the lower 13 of float32's 23."""
    return (x.float().view(torch.int32) & ~0x1FFF).view(torch.float32).to(x.dtype)


class Autocast(Attention):
    """A user's attention, run under autocast. (Scores of four features are halved, which rounds nothing.)"""

    def __call__(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().__call__(*inputs, **named).to(next(iter(named.values())).dtype)


@CORPUS.plant(LINEAR, "product", BFLOAT16, also=("output",), dtypes=("float32",))
def LinearUnderAutocast(w: Weights, c: Config) -> Call:
    layer = torch.nn.Linear(5, 9)
    layer.load_state_dict({"weight": w["kernel"].T, "bias": w["bias"]})

    def call(x: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            return layer(x).float()

    return call


@CORPUS.plant(SQUARE, "query", BFLOAT16, also=("key", "value", "scores", "context", "output"), dtypes=("float32",))
class AttentionUnderAutocast(Autocast):
    def weights(self, scores: Tensor, seen: Tensor | None) -> Tensor:
        return super().weights(scores.float(), seen)


@CORPUS.plant(
    SQUARE,
    "query",
    BFLOAT16,
    also=("key", "value", "scores", "weights", "context", "output"),
    dtypes=("float32",),
)
class EverythingUnderAutocast(Autocast):
    """The softmax too is stored in bfloat16, and projections are rounded once, with their biases."""

    def projected(self, x: Tensor, part: str) -> Tensor:
        return F.linear(x, self.w[f"{part}_kernel"].T, self.w[f"{part}_bias"])

    def query(self, x: Tensor) -> Tensor:
        return self.projected(x, "query")

    def key(self, x: Tensor) -> Tensor:
        return self.projected(x, "key")

    def value(self, x: Tensor) -> Tensor:
        return self.projected(x, "value")

    def output(self, merged: Tensor) -> Tensor:
        return self.projected(merged, "output")


@CORPUS.plant(SQUARE, "scores", TF32)
class ScoresOfCutOperands(Attention):
    """One product is cast, and the others are not."""

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        return super().scores(cut(query), cut(key))


@CORPUS.plant(LINEAR, "product", TF32)
def LinearOfCutOperands(w: Weights, c: Config) -> Call:
    return lambda x: cut(x) @ cut(w["kernel"]) + w["bias"]


@CORPUS.plant(LINEAR, "product", BFLOAT16)
def LinearOfBfloat16Operands(w: Weights, c: Config) -> Call:
    """As oneDNN's fast math: the sum is not rounded to bfloat16."""
    return lambda x: x.bfloat16().to(x.dtype) @ w["kernel"].bfloat16().to(x.dtype) + w["bias"]


@CORPUS.plant(SQUARE, "scores")
class ScoresOfFewerBits(Attention):
    """Eight bits cut away besides tf32's: errors of the size of bfloat16's, and not its own."""

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        query, key = ((torch.round(part * 100) / 100) for part in (query, key))
        return super().scores(query, key)
