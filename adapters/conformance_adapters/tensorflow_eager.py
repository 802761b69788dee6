"""A tape of a TensorFlow function that no graph can be made of: its operations are seen as they run, one by one.

A function that turns a tensor into a NumPy array or a Python number runs eagerly only. TensorFlow calls back after
every operation that it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from conformance.trace import Entry
from conformance_adapters.provenance import Source, joined
from conformance_adapters.tensorflow_tape import READ_ONLY, nested_functions_inline, record, to_numpy


def watched(function: Callable[[], Any]) -> tuple[Any, list[Entry]]:
    """As `record`, or as `record_eagerly` where `function`, which has run before, cannot be traced into a graph."""
    try:
        return record(function)
    except Exception:  # whatever a Python function makes of a tensor without values; it ran with values before
        return record_eagerly(function)


def record_eagerly(function: Callable[[], Any]) -> tuple[Any, list[Entry]]:
    """Call `function` and watch: its output, and an entry for every floating-point tensor, in the order of the run."""
    from tensorflow.python.framework import op_callbacks

    recorder = _Recorder()
    with nested_functions_inline():
        op_callbacks.add_op_callback(recorder.keep)
        try:
            output = function()
        finally:
            op_callbacks.remove_op_callback(recorder.keep)
    return output, recorder.entries


class _Recorder:
    """Keeps what operations give. Tensors are held, so that none takes another's identity."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.made: dict[int, Source] = {}
        self.held: list[Any] = []

    def keep(
        self,
        operation: str,
        inputs: Sequence[Any],
        attributes: Any,
        outputs: Sequence[Any],
        name: str | None = None,
        graph: Any = None,
    ) -> None:
        """TensorFlow's callback after an operation. What is read from outside of the function is an input."""
        kind = operation.decode() if isinstance(operation, bytes) else operation
        variable = kind == "ReadVariableOp"
        read = Source() if variable else joined(self.made.get(id(t), Source(fixed=False)) for t in inputs)
        for tensor in outputs:
            self.held.append(tensor)
            self.made[id(tensor)] = read
            if tensor.dtype.is_floating and kind not in READ_ONLY:
                self.made[id(tensor)] = Source((len(self.entries),), read.fixed)
                self.entries.append(Entry(str(kind), to_numpy(tensor), None, read.positions, read.fixed))
