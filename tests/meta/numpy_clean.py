"""What is right in NumPy, in other forms than the oracle's; of some, little is noted down."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from clean import CleanCorpus
from notebook import Notebook, in_numpy
from numpy_faults import Attention, sigmoid, softmax
from problems import (
    ATTENDED,
    CONVOLUTIONS,
    GELU,
    INTERLEAVED_ROTARY,
    LINEARS,
    LSTM,
    NORMS,
    ROTARY,
    SOFTMAXES,
    TANH_GELU,
    UP_TO_TEN,
    margins,
    seen,
)
from scipy.special import erf, erfc, logsumexp

Array = np.ndarray
Weights = Mapping[str, Array]
Config = Mapping[str, Any]
Call = Callable[..., Array]

CLEAN = CleanCorpus("NumPy", in_numpy)


# -- attention -----------------------------------------------------------------------------------------------


def core(function: Callable[..., Array]) -> Callable[[Notebook, Weights, Config], Call]:
    """`function` of a notebook, query, key, value and what is added to the scores (zero where there is no mask)."""

    def build(note: Notebook, w: Weights, c: Config) -> Call:
        def call(query: Array, key: Array, value: Array, mask: Array | None = None) -> Array:
            attended = seen(c, query, key, mask)
            added = np.zeros((1, 1, 1, 1)) if attended is None else np.where(attended, 0, -np.inf)
            return function(note, query, key, value, added.astype(query.dtype))

        return call

    build.__name__ = function.__name__
    return build


@CLEAN.add(ATTENDED)
@core
def numpy_scaled_on_both_sides(note: Notebook, query: Array, key: Array, value: Array, added: Array) -> Array:
    root = query.dtype.type(math.sqrt(0.5))
    scores = note("scores", (query * root) @ (key * root).swapaxes(-1, -2))
    return note("context", note("weights", softmax(scores + added)) @ value)


@CLEAN.add(ATTENDED)
@core
def numpy_only_the_weights(note: Notebook, query: Array, key: Array, value: Array, added: Array) -> Array:
    """As a user keeps them: the weights, and nothing else."""
    weights = note("attention", softmax(np.einsum("bhqd,bhkd->bhqk", query, key) / 2 + added))
    return np.einsum("bhqk,bhkd->bhqd", weights, value)


@CLEAN.add(ATTENDED, layout="key-query")
@core
def numpy_key_major(note: Notebook, query: Array, key: Array, value: Array, added: Array) -> Array:
    scores = note("scores", key @ query.swapaxes(-1, -2)) / 2 + added.swapaxes(-1, -2)
    return note("context", note("weights", softmax(scores, axis=-2)).swapaxes(-1, -2) @ value)


@CLEAN.add(ATTENDED)
@core
def numpy_a_loop_over_everything(note: Notebook, query: Array, key: Array, value: Array, added: Array) -> Array:
    context = np.zeros((*query.shape[:3], value.shape[-1]), query.dtype)
    full = np.broadcast_to(added, (*query.shape[:3], key.shape[2]))
    for b, h, q in np.ndindex(query.shape[:3]):
        scores = np.array([query[b, h, q] @ k for k in key[b, h]]) / 2 + full[b, h, q]
        context[b, h, q] = softmax(scores) @ value[b, h]
    return note("context", context)


@CLEAN.add(ATTENDED)
@core
def numpy_nothing_noted(note: Notebook, query: Array, key: Array, value: Array, added: Array) -> Array:
    return softmax(query @ key.swapaxes(-1, -2) / 2 + added) @ value


CLEAN.add({name: posed for name, posed in ATTENDED.items() if posed.config.get("causal") is None})(Attention)


# -- layer norm ----------------------------------------------------------------------------------------------


@CLEAN.add(NORMS)
def numpy_norm_by_lengths(note: Notebook, w: Weights, c: Config) -> Call:
    """sqrt(n) times the centred vector over its length, epsilon counted n times."""

    def call(x: Array) -> Array:
        centred = note("centred", x - x.mean(-1, keepdims=True))
        count = x.shape[-1]
        length = np.sqrt(np.square(centred).sum(-1, keepdims=True) + x.dtype.type(count * c["epsilon"]))
        return note("affine", note("unit", centred / length * x.dtype.type(math.sqrt(count))) * w["scale"] + w["bias"])

    return call


@CLEAN.add(NORMS)
def numpy_norm_welford(note: Notebook, w: Weights, c: Config) -> Call:
    """Mean and squares updated element by element."""

    def call(x: Array) -> Array:
        mean, squares = np.zeros_like(x[..., :1]), np.zeros_like(x[..., :1])
        for count in range(x.shape[-1]):
            before = x[..., count : count + 1] - mean
            mean = mean + before / (count + 1)
            squares = squares + before * (x[..., count : count + 1] - mean)
        variance = note("variance", squares / x.shape[-1])
        return (x - note("mean", mean)) / np.sqrt(variance + c["epsilon"]) * w["scale"] + w["bias"]

    return call


# -- other layers --------------------------------------------------------------------------------------------


@CLEAN.add(LINEARS)
def numpy_linear_as_a_sum(note: Notebook, w: Weights, c: Config) -> Call:
    """A channel at a time, the bias first."""

    def call(x: Array) -> Array:
        total = np.broadcast_to(w["bias"], (*x.shape[:-1], len(w["bias"]))).copy()
        for channel, row in enumerate(w["kernel"]):
            total += x[..., channel, None] * row
        return note("total", total)

    return call


@CLEAN.add(LINEARS)
def numpy_linear_in_tiles(note: Notebook, w: Weights, c: Config) -> Call:
    """Input channels two at a time, outputs three at a time."""

    def call(x: Array) -> Array:
        (channels, out), product = w["kernel"].shape, np.zeros((*x.shape[:-1], w["kernel"].shape[1]), x.dtype)
        for i in range(0, channels, 2):
            for o in range(0, out, 3):
                product[..., o : o + 3] += x[..., i : i + 2] @ w["kernel"][i : i + 2, o : o + 3]
        return note("biased", note("product", product) + w["bias"])

    return call


@CLEAN.add(UP_TO_TEN)
def numpy_softmax_by_logsumexp(note: Notebook, w: Weights, c: Config) -> Call:
    return lambda x: note("exp", np.exp(x - note("lse", logsumexp(x, axis=c["axis"], keepdims=True))))


@CLEAN.add(SOFTMAXES)
def numpy_softmax_by_differences(note: Notebook, w: Weights, c: Config) -> Call:
    """One over the sum of the powers of all differences."""

    def call(x: Array) -> Array:
        last = np.moveaxis(x, c["axis"], -1)
        with np.errstate(over="ignore"):
            weights = 1 / np.exp(last[..., None, :] - last[..., :, None]).sum(-1)
        return np.moveaxis(weights, -1, c["axis"])

    return call


@CLEAN.add(GELU)
def numpy_gelu_by_erfc(note: Notebook, w: Weights, c: Config) -> Call:
    return lambda x: note("gelu", x / 2 * erfc(-x / np.sqrt(x.dtype.type(2))))


@CLEAN.add(GELU)
def numpy_gelu_by_erf(note: Notebook, w: Weights, c: Config) -> Call:
    return lambda x: x * (1 + note("erf", erf(x * x.dtype.type(math.sqrt(0.5))))) / 2


@CLEAN.add(TANH_GELU)
def numpy_gelu_by_sigmoid(note: Notebook, w: Weights, c: Config) -> Call:
    return lambda x: x * sigmoid(x.dtype.type(math.sqrt(8 / math.pi)) * (x + x.dtype.type(0.044715) * x**3))


@CLEAN.add(LSTM)
def numpy_lstm_with_split_gates(note: Notebook, w: Weights, c: Config) -> Call:
    """A kernel of its own for every gate, the inputs projected for all times at once."""
    parts = {
        gate: [np.split(w[name], 4, axis=-1)[i] for name in ("kernel", "recurrent_kernel", "bias")]
        for i, gate in enumerate("ifgo")
    }

    def call(x: Array) -> Array:
        given = {gate: x @ kernel + bias for gate, (kernel, _, bias) in parts.items()}
        hidden = cell = np.zeros((len(x), 4), x.dtype)
        outputs = []
        for t in range(x.shape[1]):
            inner = {gate: given[gate][:, t] + hidden @ recurrent for gate, (_, recurrent, _) in parts.items()}
            cell = note("cell", sigmoid(inner["f"]) * cell + sigmoid(inner["i"]) * np.tanh(inner["g"]))
            hidden = note("hidden", sigmoid(inner["o"]) * np.tanh(cell))
            outputs.append(hidden)
        return np.stack(outputs, axis=1)

    return call


@CLEAN.add(CONVOLUTIONS)
def numpy_convolution_by_windows(note: Notebook, w: Weights, c: Config) -> Call:
    def call(x: Array) -> Array:
        padded = note("padded", np.pad(x, margins(c, x, w["kernel"])))
        stride = c["strides"]
        windows = np.lib.stride_tricks.sliding_window_view(padded, w["kernel"].shape[:2], axis=(1, 2))
        made = np.einsum("byxchw,hwco->byxo", windows[:, ::stride, ::stride], w["kernel"])
        return note("biased", made + w["bias"])

    return call


@CLEAN.add(CONVOLUTIONS)
def numpy_convolution_as_a_matrix(note: Notebook, w: Weights, c: Config) -> Call:
    """The kernel as one matrix from all padded pixels to all outputs (Toeplitz)."""

    def call(x: Array) -> Array:
        padded, stride = np.pad(x, margins(c, x, w["kernel"])), c["strides"]
        height, width, _, out = w["kernel"].shape
        rows, columns = ((padded.shape[a + 1] - (height, width)[a]) // stride + 1 for a in (0, 1))
        matrix = np.zeros((*padded.shape[1:], rows, columns, out), x.dtype)
        for r, s in np.ndindex(rows, columns):
            matrix[r * stride : r * stride + height, s * stride : s * stride + width, :, r, s] = w["kernel"]
        made = padded.reshape(len(x), -1) @ matrix.reshape(-1, rows * columns * out)
        return made.reshape(len(x), rows, columns, out) + w["bias"]

    return call


@CLEAN.add({"half-split": ROTARY, "interleaved": INTERLEAVED_ROTARY})
def numpy_rotated_as_complex_numbers(note: Notebook, w: Weights, c: Config) -> Call:
    def call(x: Array) -> Array:
        angles = np.outer(np.arange(x.shape[1]), 10000.0 ** (-np.arange(0, 6, 2) / 6)).astype(x.dtype)
        halves = c.get("pairing") != "interleaved"
        first, second = np.split(x, 2, axis=-1) if halves else (x[..., 0::2], x[..., 1::2])
        turned = (first + 1j * second) * np.exp(1j * angles)[:, None, :]
        parts = turned.real.astype(x.dtype), turned.imag.astype(x.dtype)
        return np.concatenate(parts, -1) if halves else np.stack(parts, -1).reshape(x.shape)

    return call
