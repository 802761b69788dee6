"""Two models beside one another: the tensors that both hold, and the first operation at which they part."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from conformance.difference import Figure, First, Pair, Place
from conformance.matching import Graph, Match, closest, matched
from conformance.noise import Values, deviation_of, measured, modelled, unmeasured
from conformance.parting import parting
from conformance.precision import precision
from conformance.result import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conformance.matching import Node
    from conformance.parting import Parting
    from conformance.trace import Entry, Trace

_WIDE = 0.1  # of the output's scale: a tolerance beyond it says nothing (DESIGN section 5)


@dataclass(frozen=True)
class Watched:
    """A model's run in `dtype`, and what its float64 run, where there is one, says of the rounding in it: in the
    tensors of its tape (`values`) and in the output. The float64 run itself is not kept: it is twice as large."""

    trace: Trace
    dtype: str
    values: Sequence[Values] | None = None
    output: Values | None = None

    @classmethod
    def beside(cls, trace: Trace, dtype: str, exact: Trace | None) -> Watched:
        """A run beside the float64 run of the same model."""
        if exact is None:
            return cls(trace, dtype)
        number = precision(dtype)
        output = Values(trace.output, max(number.store, deviation_of(trace.output, exact.output)))
        return cls(trace, dtype, measured(_chained(trace.tape), exact.tape, number), output)


@dataclass(frozen=True)
class Compared:
    """The outcome of a comparison, without whose it was."""

    status: str
    rounding: str
    message: str | None
    output: Figure
    pairs: list[Pair]
    first: First | None


def compare(a: Watched, b: Watched) -> Compared:
    """Align the tensors of `a` and `b` by value, and find the first operation at which they part.

    Rounding is judged by the float64 runs; a side without one is taken to round up to twice as much as the other, and
    where there is none a model is taken (`conformance.noise`).
    """
    sides = {"a": a, "b": b}
    exact = [name for name, side in sides.items() if side.values is not None]
    rounding = "both" if len(exact) == 2 else exact[0] if exact else "model"
    outputs = _output(a, b), _output(b, a)
    alike = closest(*outputs)
    output = Match(math.inf, math.inf, math.inf, (), "") if alike is None else alike[1]
    graphs = _graph(a, b), _graph(b, a)
    pairs = matched(*graphs)
    listed = [_pair(graphs, n, other, match) for n, (other, match) in sorted(pairs.items())]
    figure = _figure(output)
    if output.ratio <= 1:
        wide = outputs[0].tolerance(outputs[1]) > _WIDE
        return Compared("uninformative" if wide else "same", rounding, None, figure, listed, None)
    ends = _end(graphs[0], a.trace), _end(graphs[1], b.trace)
    if ends[0] is not None and ends[0] in pairs and pairs[ends[0]][0] == ends[1]:
        message = "only the plain runs part; the observed ones, in which no operation is fused, do not"
        return Compared("parts", rounding, message, figure, listed, None)
    found = parting(graphs[0], graphs[1], pairs, ends[0], ends[1])
    return Compared("parts", rounding, None, figure, listed, _first(graphs, pairs, found))


def _graph(side: Watched, other: Watched) -> Graph:
    tape = _chained(side.trace.tape)
    if side.values is not None:
        return Graph(tape, side.values)
    return Graph(tape, modelled(tape, precision(side.dtype)) if other.values is None else unmeasured(tape))


def _chained(tape: Sequence[Entry]) -> Sequence[Entry]:
    """The tape; where nothing is known of what its operations read (a recording), each reads the one before it."""
    if any(entry.reads or entry.fixed for entry in tape):
        return tape
    return [replace(entry, reads=(position - 1,) if position else ()) for position, entry in enumerate(tape)]


def _output(side: Watched, other: Watched) -> Values:
    """A side's output with its deviation, as for any tensor."""
    if side.output is not None:
        return side.output
    modelled_deviation = 2 * precision(side.dtype).store * math.sqrt(1 + len(side.trace.tape))
    return Values(side.trace.output, modelled_deviation if other.output is None else math.nan)


def _end(graph: Graph, trace: Trace) -> int | None:
    """The node that is the output of the observed run: the last that has its values."""
    wanted = trace.output if trace.observed_output is None else trace.observed_output
    for position in reversed(range(len(graph.tape))):
        array = graph.tape[position].array
        if position not in graph.node_of or array.size != wanted.size:
            continue
        if np.array_equal(array.ravel(), wanted.ravel(), equal_nan=True):
            return graph.node_of[position]
    return None


def _place(graph: Graph, node: Node) -> Place:
    entry = graph.tape[node.position]
    return Place(entry.operation, node.position, entry.scope, list(entry.array.shape))


def _pair(graphs: Sequence[Graph], n: int, other: int, match: Match) -> Pair:
    a, b = graphs
    return Pair(_place(a, a.nodes[n]), _place(b, b.nodes[other]), match.ratio, match.view)


def _figure(match: Match) -> Figure:
    return Figure(number(match.ratio), number(match.max_abs), number(match.max_rel), list(match.at), match.view)


def _first(graphs: Sequence[Graph], pairs: dict[int, tuple[int, Match]], found: Parting) -> First:
    a, b = graphs
    return First(
        a=None if found.a is None else _place(a, a.nodes[found.a]),
        b=None if found.b is None else _place(b, b.nodes[found.b]),
        a_until=None if found.a_until is None else _place(a, a.nodes[found.a_until]),
        b_until=None if found.b_until is None else _place(b, b.nodes[found.b_until]),
        figures=None if found.figures is None else _figure(found.figures),
        shared=[_pair(graphs, n, other, pairs[n][1]) for n, other in found.shared],
    )
