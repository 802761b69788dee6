"""What a planted fault is looked for in: a layer with its config, drawn inputs and weights, and the judge's verdict."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from conformance.flow import Flow
from conformance.judge import Verdict, judge
from conformance.layers import get_layer
from conformance.precision import precision
from conformance.run import fresh
from conformance.trace import Trace

Arrays = Mapping[str, np.ndarray]
Observe = Callable[["Problem", Arrays, str], Trace]


@dataclass(frozen=True)
class Problem:
    """`layer` under `config`, with `inputs` and `weights` by their canonical names, in float64."""

    layer: str
    config: Mapping[str, Any]
    inputs: Arrays
    weights: Arrays = field(default_factory=dict)

    def rounded(self, dtype: str) -> Problem:
        """The problem with values that `dtype` can represent."""
        number_format = precision(dtype)
        inputs = {name: number_format.round(array) for name, array in self.inputs.items()}
        return replace(
            self, inputs=inputs, weights={name: number_format.round(array) for name, array in self.weights.items()}
        )

    def flow(self) -> Flow:
        """The oracle's side of it."""
        return Flow.bind(get_layer(self.layer, self.config), self.config, self.inputs, self.weights)

    def with_config(self, **config: Any) -> Problem:
        """The same numbers under another config."""
        return replace(self, config={**self.config, **config})

    def with_inputs(self, **inputs: np.ndarray) -> Problem:
        """The same problem with other or further inputs."""
        return replace(self, inputs={**self.inputs, **inputs})

    def with_weights(self, **weights: np.ndarray | None) -> Problem:
        """The same problem with other weights; None takes one away."""
        merged = {**self.weights, **weights}
        return replace(self, weights={name: array for name, array in merged.items() if array is not None})


def judged(problem: Problem, observe: Observe, dtype: str) -> tuple[Verdict, Flow, Trace]:
    """What the judge says of the trace that `observe` gives for `problem` in `dtype`; the oracle's side, and the trace.

    Like a run, it lets the judge ask for a second trace on fresh inputs.
    """
    rounded = problem.rounded(dtype)

    def rerun() -> tuple[Flow, Trace]:
        again = replace(rounded, inputs=fresh(rounded.inputs, precision(dtype)))
        return again.flow(), observe(again, again.inputs, dtype)

    flow, trace = rounded.flow(), observe(rounded, rounded.inputs, dtype)
    return judge(flow, trace, precision(dtype), rerun), flow, trace


def verdict(problem: Problem, observe: Observe, dtype: str) -> Verdict:
    """What the judge says of the trace that `observe` gives for `problem` in `dtype`."""
    return judged(problem, observe, dtype)[0]


def drawn(name: str, *shape: int, deviation: float = 1.0) -> np.ndarray:
    """Normal values that depend on the name alone."""
    return np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape) * deviation


def attention(
    *,
    heads: int = 3,
    kv_heads: int | None = None,
    head_dim: int = 4,
    value_dim: int = 4,
    channels: tuple[int, int, int, int] = (12, 12, 12, 12),
    batch: int = 2,
    times: tuple[int, int] = (5, 5),
    mask: np.ndarray | None = None,
    **config: Any,
) -> Problem:
    """A multi_head_attention problem.

    `channels` are those of the query, key and value inputs and of the output; `times` are those of query
    and key. Where both times are one number, query, key and value are projected from one input.
    """
    groups = kv_heads or heads
    widths = {"query": heads * head_dim, "key": groups * head_dim, "value": groups * value_dim, "output": channels[3]}
    reads = dict(zip(("query", "key", "value"), channels[:3], strict=True)) | {"output": heads * value_dim}
    inputs = {"query_input": drawn("query_input", batch, times[0], channels[0])}
    if times[0] != times[1]:
        inputs["key_input"] = drawn("key_input", batch, times[1], channels[1])
        inputs["value_input"] = drawn("value_input", batch, times[1], channels[2])
    if mask is not None:
        inputs["mask"] = mask
    weights = {}
    for part, width in widths.items():
        weights[f"{part}_kernel"] = drawn(f"{part}_kernel", reads[part], width, deviation=reads[part] ** -0.5)
        weights[f"{part}_bias"] = drawn(f"{part}_bias", width, deviation=0.5)
    given = {"heads": heads, "kv_heads": kv_heads, **config}
    return Problem("multi_head_attention", given, inputs, weights)


def weightless(function: Callable[..., Any]) -> Callable[[Arrays, Mapping[str, Any]], Callable[..., Any]]:
    """`function`, which needs the inputs alone and knows its config, as what is built from weights and config."""

    def build(weights: Arrays, config: Mapping[str, Any]) -> Callable[..., Any]:
        return function

    build.__name__ = function.__name__
    return build


def by_position(call: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`call`, which has another name for its one argument than `x`."""

    def called(x: Any) -> Any:
        return call(x)

    return called


def lengths(*real: int, times: int) -> np.ndarray:
    """A padding mask, `batch time`: true for the first `real` time steps of each sequence."""
    return np.arange(times)[None, :] < np.array(real)[:, None]
