"""Traces of hand-built ONNX graphs, run by ONNX Runtime: once as they are, once with every value as an output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper, parser
from problem import Arrays, Observe, Problem

from conformance.trace import Entry, Trace

OPSETS = {"": 23}


@dataclass(frozen=True)
class Nodes:
    """A graph's nodes in ONNX's text form, `name = Operator <attributes> (inputs)` a line, and its `constants`.

    Inputs and weights are there by their canonical names; what the last node gives is the output.
    """

    text: str
    constants: Mapping[str, Any] = field(default_factory=dict)

    def replaced(self, before: str, after: str, **constants: Any) -> Nodes:
        """The same graph with one line, or part of one, written otherwise, and with further constants."""
        assert self.text.count(before) == 1, f"{before!r} is not once in the graph"
        return Nodes(self.text.replace(before, after), {**self.constants, **constants})

    def model(self, inputs: Arrays, weights: Arrays, dtype: str) -> onnx.ModelProto:
        """The model, in which floating-point values are of `dtype`."""

        def typed(array: Any) -> np.ndarray:
            array = np.asarray(array)
            return array.astype(dtype) if array.dtype.kind == "f" else array

        def value(name: str, array: np.ndarray) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)

        held = {**{n: a for n, a in weights.items() if n in self.text}, **self.constants}
        nodes = [parser.parse_node(line) for line in self.text.strip().splitlines() if line.strip()]
        graph = helper.make_graph(
            nodes,
            "subject",
            [value(name, typed(array)) for name, array in inputs.items()],
            [onnx.ValueInfoProto(name=nodes[-1].output[0])],
            [numpy_helper.from_array(typed(array), name) for name, array in held.items()],
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def run(model: onnx.ModelProto, inputs: Arrays) -> dict[str, np.ndarray]:
    """Every output of the model, by name."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs), strict=True))


def in_onnxruntime(nodes: Callable[[], Nodes]) -> Observe:
    """How the graph that `nodes()` gives is run on the inputs by name, and watched."""

    def observe(problem: Problem, inputs: Arrays, dtype: str) -> Trace:
        given = {n: a if a.dtype == bool else a.astype(dtype) for n, a in inputs.items()}
        model = nodes().model(inputs, problem.weights, dtype)
        last = model.graph.output[0].name
        plain = run(model, given)[last]
        names = [name for node in model.graph.node for name in node.output if name not in ("", last)]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        values = run(model, given)
        tape = [
            Entry(f"{node.op_type}:{name}", values[name])
            for node in model.graph.node
            for name in node.output
            if name in values and values[name].dtype.kind == "f"
        ]
        return Trace(plain, tape, values[last])

    return observe
