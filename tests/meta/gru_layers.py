"""GRUs and simple recurrent layers, right and wrong, in PyTorch, JAX, NumPy and ONNX graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx_graphs as graph
import torch
from clean import CleanCorpus
from notebook import Notebook, in_numpy
from planted import Corpus
from problem import Problem, drawn
from torch import Tensor
from watched_jax import in_jax
from watched_onnx import Nodes, in_onnxruntime

GRU = Problem(
    "gru",
    {},
    {"x": drawn("gru x", 2, 5, 3)},
    {
        "kernel": drawn("gru kernel", 3, 12),
        "recurrent_kernel": drawn("gru recurrent", 4, 12, deviation=0.5),
        "bias": drawn("gru bias", 12),
        "recurrent_bias": drawn("gru recurrent bias", 12),
    },
)
SIMPLE = Problem(
    "simple_rnn",
    {},
    {"x": drawn("simple x", 2, 5, 3)},
    {
        "kernel": drawn("simple kernel", 3, 4),
        "recurrent_kernel": drawn("simple recurrent", 4, 4, deviation=0.5),
        "bias": drawn("simple bias", 4),
    },
)

IN_TORCH, IN_JAX = Corpus(), Corpus("JAX", in_jax)
IN_NUMPY, IN_ONNX = Corpus("NumPy", in_numpy), Corpus("ONNX Runtime", in_onnxruntime)
RIGHT_IN_TORCH, RIGHT_IN_JAX = CleanCorpus(), CleanCorpus("JAX", in_jax)
RIGHT_IN_NUMPY, RIGHT_IN_ONNX = CleanCorpus("NumPy", in_numpy), CleanCorpus("ONNX Runtime", in_onnxruntime)
FLOAT32 = ("float32",)  # the operators are there in float32 alone

Weights = Mapping[str, Any]
Config = Mapping[str, Any]
Call = Callable[..., Any]


# -- GRU in PyTorch ------------------------------------------------------------------------------------------


@RIGHT_IN_TORCH.add(GRU)
class Gru:
    """A GRU unrolled by hand, gates r, z, n."""

    order = (0, 1, 2)

    def __init__(self, w: Weights, c: Config) -> None:
        self.w = w

    def __call__(self, x: Tensor) -> Tensor:
        hidden = torch.zeros(x.shape[0], 4, dtype=x.dtype)
        outputs = []
        for t in range(x.shape[1]):
            given = self.parts(x[:, t] @ self.w["kernel"] + self.w["bias"])
            state = self.parts(hidden @ self.w["recurrent_kernel"] + self.w["recurrent_bias"])
            reset, update = torch.sigmoid(given[0] + state[0]), torch.sigmoid(given[1] + state[1])
            candidate = self.candidate(given[2], state[2], reset, hidden)
            hidden = self.renewed(update, candidate, hidden)
            outputs.append(hidden)
        return torch.stack(outputs, dim=1)

    def parts(self, inner: Tensor) -> list[Tensor]:
        parts = inner.chunk(3, dim=-1)
        return [parts[n] for n in self.order]

    def candidate(self, given: Tensor, state: Tensor, reset: Tensor, hidden: Tensor) -> Tensor:
        return torch.tanh(given + reset * state)

    def renewed(self, update: Tensor, candidate: Tensor, hidden: Tensor) -> Tensor:
        return (1 - update) * candidate + update * hidden


@RIGHT_IN_TORCH.add(GRU)
class GruByTheDifference(Gru):
    """In the form that torch.nn.GRU computes."""

    def renewed(self, update: Tensor, candidate: Tensor, hidden: Tensor) -> Tensor:
        return candidate + update * (hidden - candidate)


@IN_TORCH.plant(GRU, "hidden", {"gru.update": "z*n + (1-z)*h"})
class GruUpdatedTheOtherWay(Gru):
    def renewed(self, update: Tensor, candidate: Tensor, hidden: Tensor) -> Tensor:
        return update * candidate + (1 - update) * hidden


@IN_TORCH.plant(GRU, "candidate", {"gru.candidate-bias": "merged-outside"})
class GruWithOneBias(Gru):
    """The two biases of the candidate added up, as CoreML has them."""

    def candidate(self, given: Tensor, state: Tensor, reset: Tensor, hidden: Tensor) -> Tensor:
        bias = self.w["recurrent_bias"][8:]
        return torch.tanh(given + bias + reset * (hidden @ self.w["recurrent_kernel"][:, 8:]))


@IN_TORCH.plant(GRU, "reset_gate", {"gru.gate-order": "z,r,n"}, also=None)
class GruOfKerasWeights(Gru):
    """z, r, n for r, z, n."""

    order = (1, 0, 2)


# -- GRU elsewhere -------------------------------------------------------------------------------------------


def gru(w: Weights, before: bool) -> Call:
    def cell(hidden: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        given = jnp.split(x @ w["kernel"] + w["bias"], 3, axis=-1)
        state = jnp.split(hidden @ w["recurrent_kernel"] + w["recurrent_bias"], 3, axis=-1)
        reset, update = jax.nn.sigmoid(given[0] + state[0]), jax.nn.sigmoid(given[1] + state[1])
        inner = reset * state[2]
        if before:
            inner = (reset * hidden) @ w["recurrent_kernel"][:, 8:] + w["recurrent_bias"][8:]
        hidden = (1 - update) * jnp.tanh(given[2] + inner) + update * hidden
        return hidden, hidden

    def call(x: jax.Array) -> jax.Array:
        first = jnp.zeros((x.shape[0], 4), x.dtype)
        return jnp.swapaxes(jax.lax.scan(cell, first, jnp.swapaxes(x, 0, 1))[1], 0, 1)

    return call


@RIGHT_IN_JAX.add(GRU)
def jax_gru(w: Weights, c: Config) -> Call:
    return gru(w, before=False)


@IN_JAX.plant(GRU, "candidate", {"gru.reset": "before"})
def jax_gru_of_the_paper(w: Weights, c: Config) -> Call:
    """Reset before the product, as in the paper of 2014."""
    return gru(w, before=True)


def noted(note: Notebook, w: Weights, other: bool) -> Call:
    def call(x: np.ndarray) -> np.ndarray:
        hidden = np.zeros((len(x), 4), x.dtype)
        outputs = []
        for t in range(x.shape[1]):
            given, state = x[:, t] @ w["kernel"] + w["bias"], hidden @ w["recurrent_kernel"] + w["recurrent_bias"]
            r, z = (note("gate", 1 / (1 + np.exp(-(given + state)[:, i : i + 4]))) for i in (0, 4))
            candidate = note("candidate", np.tanh(given[:, 8:] + r * state[:, 8:]))
            kept, new = (candidate, hidden) if other else (hidden, candidate)
            hidden = note("hidden", (1 - z) * new + z * kept)
            outputs.append(hidden)
        return np.stack(outputs, axis=1)

    return call


@RIGHT_IN_NUMPY.add(GRU)
def numpy_gru(note: Notebook, w: Weights, c: Config) -> Call:
    return noted(note, w, other=False)


@IN_NUMPY.plant(GRU, "hidden", {"gru.update": "z*n + (1-z)*h"})
def numpy_gru_updated_the_other_way(note: Notebook, w: Weights, c: Config) -> Call:
    return noted(note, w, other=True)


_GRU = Nodes(
    """
    sequence = Transpose <perm = [1, 0, 2]> (x)
    r, z, n = Split <axis = 1, num_outputs = 3> (kernel)
    zrn = Concat <axis = 1> (z, r, n)
    w_t = Transpose <perm = [1, 0]> (zrn)
    w = Unsqueeze (w_t, first)
    hr, hz, hn = Split <axis = 1, num_outputs = 3> (recurrent_kernel)
    hzrn = Concat <axis = 1> (hz, hr, hn)
    r_t = Transpose <perm = [1, 0]> (hzrn)
    u = Unsqueeze (r_t, first)
    br, bz, bn = Split <axis = 0, num_outputs = 3> (bias)
    cr, cz, cn = Split <axis = 0, num_outputs = 3> (recurrent_bias)
    b_one = Concat <axis = 0> (bz, br, bn, cz, cr, cn)
    b = Unsqueeze (b_one, first)
    all, last = GRU <hidden_size = 4, linear_before_reset = 1> (sequence, w, u, b)
    hidden = Squeeze (all, second)
    y = Transpose <perm = [1, 0, 2]> (hidden)
    """,
    {"first": graph.SHAPE([0]), "second": graph.SHAPE([1])},
)


@RIGHT_IN_ONNX.add(GRU, dtypes=FLOAT32)
def onnx_gru() -> Nodes:
    return _GRU


@IN_ONNX.plant(GRU, "candidate", {"gru.reset": "before"}, also=None, dtypes=FLOAT32)
def onnx_gru_by_default() -> Nodes:
    """The operator's default, linear_before_reset=0, with weights from PyTorch."""
    return _GRU.replaced(", linear_before_reset = 1", "")


# -- the simple recurrent layer ------------------------------------------------------------------------------


@RIGHT_IN_TORCH.add(SIMPLE)
class Simple:
    """Unrolled by hand."""

    times = 1

    def __init__(self, w: Weights, c: Config) -> None:
        self.w = w

    def __call__(self, x: Tensor) -> Tensor:
        hidden = torch.zeros(x.shape[0], 4, dtype=x.dtype)
        outputs = []
        for t in range(x.shape[1]):
            bias = self.w["bias"] * self.times
            hidden = torch.tanh(x[:, t] @ self.w["kernel"] + bias + hidden @ self.w["recurrent_kernel"])
            outputs.append(hidden)
        return torch.stack(outputs, dim=1)


@IN_TORCH.plant(SIMPLE, "hidden", {"lstm.bias": "doubled"})
class SimpleWithBothBiases(Simple):
    """The bias loaded into both of PyTorch's vectors."""

    times = 2


def simple(w: Weights, backward: bool = False) -> Call:
    def cell(hidden: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        recurrent = w["recurrent_kernel"].T if backward else w["recurrent_kernel"]
        hidden = jnp.tanh(x @ w["kernel"] + hidden @ recurrent + w["bias"])
        return hidden, hidden

    def call(x: jax.Array) -> jax.Array:
        first = jnp.zeros((x.shape[0], 4), x.dtype)
        return jnp.swapaxes(jax.lax.scan(cell, first, jnp.swapaxes(x, 0, 1))[1], 0, 1)

    return call


@RIGHT_IN_JAX.add(SIMPLE)
def jax_simple(w: Weights, c: Config) -> Call:
    return simple(w)


@IN_JAX.plant(SIMPLE, "hidden", {"linear.kernel-orientation": "out,in"})
def jax_simple_transposed(w: Weights, c: Config) -> Call:
    """The recurrent kernel, which is always square, as `out in`."""
    return simple(w, backward=True)


@RIGHT_IN_NUMPY.add(SIMPLE)
def numpy_simple(note: Notebook, w: Weights, c: Config) -> Call:
    def call(x: np.ndarray) -> np.ndarray:
        hidden, outputs = np.zeros((len(x), 4), x.dtype), []
        for t in range(x.shape[1]):
            inner = np.concatenate([x[:, t], hidden], axis=-1) @ np.concatenate([w["kernel"], w["recurrent_kernel"]])
            hidden = note("hidden", np.tanh(inner + w["bias"]))
            outputs.append(hidden)
        return np.stack(outputs, axis=1)

    return call


@IN_NUMPY.plant(SIMPLE, "hidden", also=None)
def numpy_simple_with_a_sigmoid(note: Notebook, w: Weights, c: Config) -> Call:
    def call(x: np.ndarray) -> np.ndarray:
        hidden, outputs = np.zeros((len(x), 4), x.dtype), []
        for t in range(x.shape[1]):
            inner = x[:, t] @ w["kernel"] + hidden @ w["recurrent_kernel"] + w["bias"]
            hidden = note("hidden", 1 / (1 + np.exp(-inner)))
            outputs.append(hidden)
        return np.stack(outputs, axis=1)

    return call


_SIMPLE = Nodes(
    """
    sequence = Transpose <perm = [1, 0, 2]> (x)
    w_t = Transpose <perm = [1, 0]> (kernel)
    w = Unsqueeze (w_t, first)
    r_t = Transpose <perm = [1, 0]> (recurrent_kernel)
    r = Unsqueeze (r_t, first)
    b_one = Concat <axis = 0> (bias, none)
    b = Unsqueeze (b_one, first)
    all, last = RNN <hidden_size = 4> (sequence, w, r, b)
    hidden = Squeeze (all, second)
    y = Transpose <perm = [1, 0, 2]> (hidden)
    """,
    {"first": graph.SHAPE([0]), "second": graph.SHAPE([1]), "none": np.zeros(4)},
)


@RIGHT_IN_ONNX.add(SIMPLE, dtypes=FLOAT32)
def onnx_simple() -> Nodes:
    return _SIMPLE


@IN_ONNX.plant(SIMPLE, "hidden", {"lstm.bias": "doubled"}, dtypes=FLOAT32)
def onnx_simple_with_both_biases() -> Nodes:
    return _SIMPLE.replaced("(bias, none)", "(bias, bias)")


FAULTS = [*IN_TORCH, *IN_JAX, *IN_NUMPY, *IN_ONNX]
CLEAN = [*RIGHT_IN_TORCH, *RIGHT_IN_JAX, *RIGHT_IN_NUMPY, *RIGHT_IN_ONNX]
