"""A tape of everything that a TensorFlow function computes.

The function is traced into a graph, and the graph is run once with all its floating-point tensors fetched. What is
seen is therefore each operation of the graph, run by TensorFlow's own kernels, with nothing fused or folded away:

- a nested `tf.function` is traced inline, so that its operations are seen (under `jit_compile` too: they then run
  one by one instead of compiled by XLA);
- the graph optimiser is off while the graph runs: it would fold constants and merge operations;
- a loop or branch that depends on a tensor (`While`, `If`) and the call of a function that was saved as a graph stay
  one operation each, of which the results are seen and the inside is not;
- what is only read (arguments, constants, variables) is not an entry: the tape holds what was computed;
- which entries an operation read follows from the graph. Tensors that the function closes over count as inputs,
  and variables as weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.trace import Entry
from conformance_adapters.provenance import Source, joined

if TYPE_CHECKING:
    from numpy.typing import NDArray

_OF_SHAPES = frozenset({"Shape", "ShapeN", "Size", "Rank"})  # they read no values
READ_ONLY = frozenset({"Placeholder", "Const", "ReadVariableOp", "VarHandleOp"})


def record(function: Callable[[], Any]) -> tuple[Any, list[Entry]]:
    """Call `function` (which closes over tensors and variables) while watching it.

    Returns its output (a tensor, or a nest of tensors), and an entry for every floating-point tensor that was
    computed, in the order in which the graph was built. An operation is named `type:scope`, for instance
    `Einsum:attention/query`.
    """
    import tensorflow as tf

    with nested_functions_inline():
        graph_function = tf.compat.v1.wrap_function(function, signature=[])
    computed = [
        tensor
        for operation in graph_function.graph.get_operations()
        if operation.type not in READ_ONLY
        for tensor in operation.outputs
        if tensor.dtype.is_floating
    ]
    fetch = graph_function.prune([], (computed, graph_function.structured_outputs))
    with _optimizer_off():
        values, output = fetch()
    sources = _sources(graph_function.graph, {id(t): position for position, t in enumerate(computed)})
    entries = [
        Entry(_name(t.op), to_numpy(v), None, read.positions, read.fixed, _scope(t.op))
        for t, v, read in zip(computed, values, sources, strict=True)
    ]
    return output, entries


def _sources(graph: Any, positions: Mapping[int, int]) -> list[Source]:
    """What each tensor of the tape was made of. `positions` are those on the tape, by the tensor's identity."""
    # A tensor that is closed over is a placeholder, or a constant where it is small; a variable is its handle.
    given = {id(inside) for outside, inside in graph.captures if outside.dtype.name != "resource"}
    made: dict[int, Source] = {}
    read = []
    for operation in graph.get_operations():
        of_shapes = operation.type in _OF_SHAPES
        source = Source() if of_shapes else joined(made[id(t)] for t in operation.inputs)
        if "Random" in operation.type:
            source = Source(source.positions, fixed=False)
        for tensor in operation.outputs:
            position = positions.get(id(tensor))
            fixed = source.fixed and id(tensor) not in given
            made[id(tensor)] = Source(source.positions if position is None else (position,), fixed)
            if position is not None:
                read.append(source)
    return read


def to_numpy(tensor: Any) -> NDArray[Any]:
    """A copy of an eager tensor, in its own dtype; bfloat16 as float32, which holds it exactly."""
    array = np.array(tensor.numpy())  # numpy() shares the tensor's memory
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _name(operation: Any) -> str:
    scope = _scope(operation)
    return f"{operation.type}:{scope}" if scope else str(operation.type)


def _scope(operation: Any) -> str:
    return str(operation.name.rpartition("/")[0])


@contextmanager
def nested_functions_inline() -> Iterator[None]:
    """While this holds, a `tf.function` runs as the Python function that it was made from."""
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


@contextmanager
def _optimizer_off() -> Iterator[None]:
    import tensorflow as tf

    before = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False, **before})
