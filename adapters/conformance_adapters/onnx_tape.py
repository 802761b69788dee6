"""The tape of an ONNX graph, from the values of its nodes' outputs: the graph itself says what each node read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from conformance.trace import Entry
from conformance_adapters.provenance import Source, joined

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import GraphProto, NodeProto

_OF_SHAPES = frozenset({"Shape", "Size"})  # they read no values
_RANDOM = frozenset({"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli"})


def entries(graph: GraphProto, values: Mapping[str, NDArray[Any]]) -> list[Entry]:
    """An entry for every floating-point value in `values` that a node of `graph` gives, in the order of the nodes.

    A value that is not in `values`, or that holds integers, passes on what it was made of. An entry is called by
    its operator and its value's name, and its scope is the node's name.
    """
    weights = {i.name for i in graph.initializer} | {i.values.name for i in graph.sparse_initializer}
    made = {i.name: Source((), i.name in weights) for i in graph.input}
    tape: list[Entry] = []
    for node in graph.node:
        read = _read(node, made)
        for name in node.output:
            if not name:
                continue
            if name in values and values[name].dtype.kind == "f":
                array, operation = values[name], f"{node.op_type}:{name}"
                tape.append(Entry(operation, array, None, read.positions, read.fixed, node.name))
                made[name] = Source((len(tape) - 1,), read.fixed)
            else:
                made[name] = read
    return tape


def _read(node: NodeProto, made: Mapping[str, Source]) -> Source:
    if node.op_type in _OF_SHAPES:
        return Source()
    # A name that nothing gave is an initializer.
    read = joined(made.get(name, Source()) for name in _names(node) if name)
    return Source(read.positions, read.fixed and node.op_type not in _RANDOM)


def _names(node: NodeProto) -> Iterator[str]:
    """The values that a node reads, also from inside its subgraphs."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _names(inner)
            yield from (value.name for value in graph.output)
