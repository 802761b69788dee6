"""Faults in NumPy, recorded by hand: as little as a few arrays, none of which can be had again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from notebook import Notebook, in_numpy
from planted import Corpus
from problems import (
    CAUSAL_DOT_PRODUCT,
    CONVOLUTION,
    CROSS,
    DEAD_DOT_PRODUCT,
    DOT_PRODUCT,
    GROUPED_DOT_PRODUCT,
    LINEAR,
    LSTM,
    NORM,
    PADDED_DOT_PRODUCT,
    ROTARY,
    SOFTMAX,
    SQUARE_DOT_PRODUCT,
    TANH_GELU,
)

Array = np.ndarray
Weights = Mapping[str, Array]
Config = Mapping[str, Any]
Call = Callable[..., Array]

FAULTS = Corpus("NumPy", in_numpy)


def softmax(scores: Array, axis: int = -1) -> Array:
    powers = np.exp(scores - scores.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


# -- attention -----------------------------------------------------------------------------------------------


class Attention:
    """Every step noted down, under names of its own; a method for each."""

    def __init__(self, note: Notebook, weights: Weights, config: Config) -> None:
        self.note, self.w = note, weights

    def __call__(self, query: Array, key: Array, value: Array, mask: Array | None = None) -> Array:
        scores = self.note("divide", self.scale(self.note("product", self.product(query, key))))
        seen = self.seen(mask, *scores.shape[-2:])
        if seen is not None:
            scores = self.note("where", self.mask(scores, seen))
        weights = self.note("softmax", self.normalise(scores))
        return self.note("mean", self.mean(weights, value))

    def product(self, query: Array, key: Array) -> Array:
        return query @ key.swapaxes(-1, -2)

    def scale(self, scores: Array) -> Array:
        return scores / 2

    def seen(self, mask: Array | None, queries: int, keys: int) -> Array | None:
        return None if mask is None else mask[:, None, None, :]

    def mask(self, scores: Array, seen: Array) -> Array:
        return np.where(seen, scores, -np.inf).astype(scores.dtype)

    def normalise(self, scores: Array) -> Array:
        return softmax(scores)

    def mean(self, weights: Array, value: Array) -> Array:
        return weights @ value


@FAULTS.plant(DOT_PRODUCT, "scaled", {"attention.scale": "sqrt(head_dim)"})
class NumpyMultipliedByTheRoot(Attention):
    def scale(self, scores: Array) -> Array:
        return scores * 2


@FAULTS.plant(SQUARE_DOT_PRODUCT, "masked", {"attention.mask-axis": "query"})
class NumpyMaskOnQueries(Attention):
    def seen(self, mask: Array | None, queries: int, keys: int) -> Array | None:
        return None if mask is None else mask[:, None, :, None]

    def normalise(self, scores: Array) -> Array:
        dead = np.isneginf(scores).all(-1, keepdims=True)
        return np.where(dead, 0, softmax(np.where(dead, 0, scores))).astype(scores.dtype)


@FAULTS.plant(DOT_PRODUCT, "weights", {"attention.softmax-axis": "query"})
def numpy_softmax_over_queries_key_major(note: Notebook, w: Weights, c: Config) -> Call:
    """k q^T, as in MATLAB, and the softmax still over the last axis."""

    def call(query: Array, key: Array, value: Array) -> Array:
        weights = note("softmax", softmax(note("scaled", key @ query.swapaxes(-1, -2) / 2)))
        return note("product", weights.swapaxes(-1, -2) @ value)

    return call


@FAULTS.plant(DOT_PRODUCT, "context")
class NumpyValuesOfTheOtherSequence(Attention):
    def mean(self, weights: Array, value: Array) -> Array:
        return weights @ value[::-1]


@FAULTS.plant(CAUSAL_DOT_PRODUCT, "masked", {"attention.causal-alignment": "bottom-right"})
class NumpyTriangleFromTheEnd(Attention):
    def seen(self, mask: Array | None, queries: int, keys: int) -> Array | None:
        return np.tri(queries, keys, keys - queries, dtype=bool)


@FAULTS.plant(CAUSAL_DOT_PRODUCT, "masked")
class NumpyTriangleWithoutItself(Attention):
    """The first query sees nothing but itself, so that it is let see itself; the others do not."""

    def seen(self, mask: Array | None, queries: int, keys: int) -> Array | None:
        seen = np.tri(queries, keys, -1, dtype=bool)
        seen[0, 0] = True
        return seen


@FAULTS.plant(PADDED_DOT_PRODUCT, "masked", {"attention.mask-polarity": "true-blocks"})
class NumpyMaskedArrays(Attention):
    """In numpy.ma true is what is left out."""

    def mask(self, scores: Array, seen: Array) -> Array:
        left_out = np.broadcast_to(seen, scores.shape)
        return np.ma.array(scores, mask=left_out).filled(-np.inf)


@FAULTS.plant(DEAD_DOT_PRODUCT, "weights", {"attention.fully-masked-row": "uniform"})
class NumpyDeadRowUniform(Attention):
    def normalise(self, scores: Array) -> Array:
        return softmax(np.nan_to_num(scores, neginf=-1e30).astype(scores.dtype))


@FAULTS.plant(GROUPED_DOT_PRODUCT, "scores", {"attention.kv-head-repeat": "tiled"}, also=("context",))
class NumpyHeadsTiled(Attention):
    def product(self, query: Array, key: Array) -> Array:
        return query @ np.tile(key, (1, 2, 1, 1)).swapaxes(-1, -2)

    def mean(self, weights: Array, value: Array) -> Array:
        return weights @ np.tile(value, (1, 2, 1, 1))


@FAULTS.plant(CROSS, "merged", {"attention.head-merge": "reshape-without-transpose"})
def numpy_merged_by_reshape(note: Notebook, w: Weights, c: Config) -> Call:
    def call(query_input: Array, key_input: Array, value_input: Array) -> Array:
        query, key, value = (
            note(part, x @ w[f"{part}_kernel"] + w[f"{part}_bias"]).reshape(*x.shape[:2], 3, -1).swapaxes(1, 2)
            for part, x in (("query", query_input), ("key", key_input), ("value", value_input))
        )
        weights = note("softmax", softmax(query @ key.swapaxes(-1, -2) / 2))
        merged = note("reshape", (weights @ value).reshape(*query_input.shape[:2], -1))
        return note("output", merged @ w["output_kernel"] + w["output_bias"])

    return call


@FAULTS.plant(
    SQUARE_DOT_PRODUCT,
    "scaled",
    {"attention.scale": "1", "attention.mask-axis": "query"},
    also=("masked",),
    faults=2,
)
class NumpyNotScaledAndMaskOnQueries(NumpyMaskOnQueries):
    def scale(self, scores: Array) -> Array:
        return scores


@FAULTS.plant(
    GROUPED_DOT_PRODUCT,
    "scores",
    {"attention.kv-head-repeat": "tiled", "attention.softmax-axis": "query"},
    also=("weights", "context"),
    faults=2,
)
class NumpyHeadsTiledAndOverQueries(NumpyHeadsTiled):
    def normalise(self, scores: Array) -> Array:
        return softmax(scores, axis=-2)


@FAULTS.plant(
    DEAD_DOT_PRODUCT,
    "scaled",
    {"attention.scale": "1/head_dim", "attention.fully-masked-row": "uniform"},
    also=("weights",),
    faults=2,
)
class NumpyScaledWithoutRootAndDeadRowUniform(NumpyDeadRowUniform):
    def scale(self, scores: Array) -> Array:
        return scores / 4


@FAULTS.plant(
    CAUSAL_DOT_PRODUCT,
    "masked",
    {"attention.causal-alignment": "bottom-right", "attention.softmax-axis": "query"},
    also=("weights",),
    faults=2,
)
class NumpyTriangleFromTheEndAndOverQueries(NumpyTriangleFromTheEnd):
    def normalise(self, scores: Array) -> Array:
        return softmax(scores, axis=-2)


# -- other layers --------------------------------------------------------------------------------------------


@FAULTS.plant(NORM, "variance", {"norm.variance": "bessel"})
def numpy_norm_with_one_degree_of_freedom(note: Notebook, w: Weights, c: Config) -> Call:
    def call(x: Array) -> Array:
        variance = note("var", x.var(-1, keepdims=True, ddof=1))
        normalized = note("normalized", (x - x.mean(-1, keepdims=True)) / np.sqrt(variance + c["epsilon"]))
        return note("affine", normalized * w["scale"] + w["bias"])

    return call


@FAULTS.plant(LINEAR, "output")
def numpy_bias_per_row(note: Notebook, w: Weights, c: Config) -> Call:
    """The bias goes to the rows: as many of its elements as there are rows."""
    return lambda x: note("sum", note("product", x @ w["kernel"]) + w["bias"][: len(x), None])


@FAULTS.plant(SOFTMAX, "total", also=None)
def numpy_softmax_normalised_by_columns(note: Notebook, w: Weights, c: Config) -> Call:
    def call(x: Array) -> Array:
        powers = note("exp", np.exp(note("shift", x - x.max(-1, keepdims=True))))
        return note("divide", powers / note("sum", powers.sum(-2, keepdims=True)))

    return call


@FAULTS.plant(TANH_GELU, "output", {"gelu.approximation": "sigmoid"})
def numpy_gelu_quick(note: Notebook, w: Weights, c: Config) -> Call:
    return lambda x: note("product", x * note("sigmoid", sigmoid(1.702 * x)))


@FAULTS.plant(LSTM, "input_gate", {"lstm.bias": "doubled"}, also=("forget_gate", "cell_candidate", "output_gate"))
def numpy_lstm_with_both_biases(note: Notebook, w: Weights, c: Config) -> Call:
    """Loaded from a file that has the summed bias twice."""

    def call(x: Array) -> Array:
        hidden = cell = np.zeros((len(x), 4), x.dtype)
        outputs = []
        for t in range(x.shape[1]):
            inner = x[:, t] @ w["kernel"] + w["bias"] + hidden @ w["recurrent_kernel"] + w["bias"]
            i, f, o = (note("gate", sigmoid(inner[:, part * 4 : part * 4 + 4])) for part in (0, 1, 3))
            cell = note("cell", f * cell + i * note("candidate", np.tanh(inner[:, 8:12])))
            hidden = note("hidden", o * np.tanh(cell))
            outputs.append(hidden)
        return np.stack(outputs, axis=1)

    return call


@FAULTS.plant(CONVOLUTION, "convolved", {"conv.flip": "convolution"})
def numpy_convolution_of_the_textbook(note: Notebook, w: Weights, c: Config) -> Call:
    def call(x: Array) -> Array:
        padded = note("pad", np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0))))
        total = np.zeros((2, 4, 5, 6), x.dtype)
        for i in range(3):
            for j in range(3):
                total += padded[:, i : i + 8 : 2, j : j + 10 : 2] @ w["kernel"][2 - i, 2 - j]
        return note("bias", note("sum", total) + w["bias"])

    return call


@FAULTS.plant(ROTARY, "rotated", {"rope.pairing": "interleaved"})
def numpy_rotated_as_complex_pairs(note: Notebook, w: Weights, c: Config) -> Call:
    """Neighbours as real and imaginary part, as in the first Llama."""

    def call(x: Array) -> Array:
        frequencies = 10000.0 ** (-np.arange(0, 6, 2) / 6)
        angles = note("outer", np.outer(np.arange(x.shape[1]), frequencies).astype(x.dtype))
        pairs = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)[:, None, :]
        return note("view", np.stack([pairs.real, pairs.imag], axis=-1).reshape(x.shape).astype(x.dtype))

    return call


# -- weights and numbers -------------------------------------------------------------------------------------


@FAULTS.plant(CONVOLUTION, "convolved", {"conv.kernel-layout": "transposed-spatial"})
def numpy_kernel_in_column_major_order(note: Notebook, w: Weights, c: Config) -> Call:
    """Height and width swapped, as a MATLAB file read through HDF5 has them."""

    def call(x: Array) -> Array:
        padded = note("pad", np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0))))
        total = np.zeros((2, 4, 5, 6), x.dtype)
        for i in range(3):
            for j in range(3):
                total += padded[:, i : i + 8 : 2, j : j + 10 : 2] @ w["kernel"][j, i]
        return note("bias", note("sum", total) + w["bias"])

    return call


@FAULTS.plant(DOT_PRODUCT, "scaled", {"attention.scale": "0.05"})
class NumpyScaleOfAnotherLayer(Attention):
    def scale(self, scores: Array) -> Array:
        return scores * scores.dtype.type(0.05)
