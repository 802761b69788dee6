"""Recurrent layers one upon another, right and wrong, in PyTorch and JAX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import torch
from clean import CleanCorpus
from planted import Corpus
from problem import Problem, drawn
from torch import Tensor
from watched_jax import in_jax


def held(*cells: str, gates: int = 4) -> dict[str, Any]:
    """Weights of four units in cells of these names, of which the first ones read three channels."""
    made = {}
    for cell in cells:
        channels = 3 if cell.startswith("l0.") else 4 * (1 + any("reverse" in c for c in cells))
        made[f"{cell}kernel"] = drawn(f"stack {cell} kernel", channels, 4 * gates)
        made[f"{cell}recurrent_kernel"] = drawn(f"stack {cell} recurrent", 4, 4 * gates, deviation=0.5)
        made[f"{cell}bias"] = drawn(f"stack {cell} bias", 4 * gates)
    return made


X = {"x": drawn("stack x", 2, 5, 3)}
STACK = Problem("lstm", {"layers": 2}, X, held("l0.", "l1."))
BOTH = Problem(
    "gru", {"layers": 2, "direction": "bidirectional"}, X, held("l0.", "l0.reverse_", "l1.", "l1.reverse_", gates=3)
)

IN_TORCH, IN_JAX = Corpus(), Corpus("JAX", in_jax)
RIGHT_IN_TORCH, RIGHT_IN_JAX = CleanCorpus(), CleanCorpus("JAX", in_jax)

Weights = Mapping[str, Any]
Config = Mapping[str, Any]
Call = Callable[..., Any]


@RIGHT_IN_TORCH.add(STACK)
class Stack:
    """Two LSTMs unrolled by hand, gates i, f, g, o."""

    orders = ((0, 1, 2, 3), (0, 1, 2, 3))

    def __init__(self, w: Weights, c: Config) -> None:
        self.w = w

    def __call__(self, x: Tensor) -> Tensor:
        return self.one(1, self.between(self.one(0, x)))

    def between(self, x: Tensor) -> Tensor:
        return x

    def one(self, layer: int, x: Tensor) -> Tensor:
        kernel, recurrent, bias = (self.w[f"l{layer}.{n}"] for n in ("kernel", "recurrent_kernel", "bias"))
        hidden = torch.zeros(x.shape[0], 4, dtype=x.dtype)
        cell, outputs = torch.zeros_like(hidden), []
        for t in range(x.shape[1]):
            parts = self.inner(layer, x[:, t] @ kernel + hidden @ recurrent, bias).chunk(4, dim=-1)
            i, f, g, o = (parts[n] for n in self.orders[layer])
            cell = torch.sigmoid(self.forget(layer, f)) * cell + torch.sigmoid(i) * g.tanh()
            hidden = torch.sigmoid(o) * cell.tanh()
            outputs.append(hidden)
        return torch.stack(outputs, dim=1)

    def inner(self, layer: int, products: Tensor, bias: Tensor) -> Tensor:
        return products + bias

    def forget(self, layer: int, inner: Tensor) -> Tensor:
        return inner


@RIGHT_IN_TORCH.add(STACK)
class StackTimeStepByTimeStep(Stack):
    """Both layers at each time step, as Keras's StackedRNNCells has them."""

    def __call__(self, x: Tensor) -> Tensor:
        states = [(torch.zeros(x.shape[0], 4, dtype=x.dtype),) * 2] * 2
        outputs = []
        for t in range(x.shape[1]):
            given = x[:, t]
            for layer, (hidden, cell) in enumerate(states):
                kernel, recurrent, bias = (self.w[f"l{layer}.{n}"] for n in ("kernel", "recurrent_kernel", "bias"))
                i, f, g, o = (given @ kernel + hidden @ recurrent + bias).chunk(4, dim=-1)
                cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * g.tanh()
                given = torch.sigmoid(o) * cell.tanh()
                states[layer] = (given, cell)
            outputs.append(given)
        return torch.stack(outputs, dim=1)


@IN_TORCH.plant(STACK, "l1.cell_candidate", {"lstm.gate-order": "i,f,o,g"}, also=None)
class StackWithGatesSwappedInTheSecond(Stack):
    """A second layer whose kernel comes from elsewhere: i, f, o, g."""

    orders = ((0, 1, 2, 3), (0, 1, 3, 2))


@IN_TORCH.plant(STACK, "l0.forget_gate", {"lstm.forget-bias": "1"}, also=("l1.forget_gate",))
class StackWithAForgetBias(Stack):
    """In both layers."""

    def forget(self, layer: int, inner: Tensor) -> Tensor:
        return inner + 1


@IN_TORCH.plant(STACK, "l1.forget_gate", {"lstm.forget-bias": "1"})
class StackWithAForgetBiasInTheSecond(Stack):
    def forget(self, layer: int, inner: Tensor) -> Tensor:
        return inner + layer


@IN_TORCH.plant(STACK, "l0.input_gate", {"lstm.bias": "doubled"}, also=None)
class StackWithBothBiasesInTheFirst(Stack):
    def inner(self, layer: int, products: Tensor, bias: Tensor) -> Tensor:
        return products + bias * (2 - layer)


@IN_TORCH.plant(STACK, "l1.input_gate", also=None)
class StackWithDropoutBetween(Stack):
    """Dropout that inference should not have."""

    def between(self, x: Tensor) -> Tensor:
        return torch.where(torch.arange(4) % 2 == 0, x * 2, 0)


@IN_TORCH.plant(STACK, "l1.input_gate", also=None)
class StackWithTheSecondReversed(Stack):
    """The second layer walks from the last time step."""

    def __call__(self, x: Tensor) -> Tensor:
        return self.one(1, self.one(0, x).flip(1)).flip(1)


def both_ways(w: Weights, merged: Call, last: Call) -> Call:
    """Two GRUs without a bias of the state, each in both directions."""

    def cell(prefix: str, x: jax.Array) -> jax.Array:
        kernel, recurrent, bias = (w[f"{prefix}{n}"] for n in ("kernel", "recurrent_kernel", "bias"))

        def step(hidden: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
            given, state = jnp.split(x @ kernel + bias, 3, axis=-1), jnp.split(hidden @ recurrent, 3, axis=-1)
            reset, update = jax.nn.sigmoid(given[0] + state[0]), jax.nn.sigmoid(given[1] + state[1])
            hidden = (1 - update) * jnp.tanh(given[2] + reset * state[2]) + update * hidden
            return hidden, hidden

        first, times = jnp.zeros((x.shape[0], 4), x.dtype), jnp.swapaxes(x, 0, 1)
        return jnp.swapaxes(jax.lax.scan(step, first, times, reverse=prefix.endswith("reverse_"))[1], 0, 1)

    def call(x: jax.Array) -> jax.Array:
        x = merged(cell("l0.", x), cell("l0.reverse_", x))
        return last(cell("l1.", x), cell("l1.reverse_", x))

    return call


def side_by_side(forward: jax.Array, reverse: jax.Array) -> jax.Array:
    return jnp.concatenate([forward, reverse], axis=-1)


@RIGHT_IN_JAX.add(BOTH)
def jax_both_ways(w: Weights, c: Config) -> Call:
    return both_ways(w, side_by_side, side_by_side)


@IN_JAX.plant(BOTH, "l1.output", {"rnn.bidirectional-merge": "sum"})
def jax_both_ways_added_up(w: Weights, c: Config) -> Call:
    return both_ways(w, side_by_side, lambda a, b: a + b)


@IN_JAX.plant(BOTH, "l0.output", also=None)
def jax_both_ways_with_the_first_in_another_order(w: Weights, c: Config) -> Call:
    """The second layer reads the reverse direction first."""
    return both_ways(w, lambda a, b: side_by_side(b, a), side_by_side)


FAULTS = [*IN_TORCH, *IN_JAX]
CLEAN = [*RIGHT_IN_TORCH, *RIGHT_IN_JAX]
