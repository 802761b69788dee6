"""An ONNX graph under construction, made into a model twice: as a user has it, and with every value as an output.

In the observed model every node's outputs are graph outputs, as well as the outputs that a node can give
but that nobody asked for (`extra`), and nodes that are there to be watched only (`probe`). Operators
named as `inlined` are replaced by the function body that ONNX defines for them: those steps are then the
body's, not those of the runtime's kernel.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance_adapters.onnx_tape import entries

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto, ValueInfoProto

    from conformance.trace import Entry

OPSETS = (("", 23), ("com.microsoft", 1))
IR_VERSION = 10  # the oldest that knows these opsets, for older runtimes


@dataclass(frozen=True)
class _Node:
    operation: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    extra: tuple[str, ...]
    domain: str
    attributes: Mapping[str, Any]
    probe: bool

    def made(self, observed: bool) -> NodeProto:
        from onnx import helper

        outputs = self.outputs + (self.extra if observed else ())
        return helper.make_node(
            self.operation, self.inputs, outputs, name=self.outputs[0], domain=self.domain, **self.attributes
        )


@dataclass
class Graph:
    """The graph: `inputs` and `initializers` are arrays by name, in the dtype in which they are fed.

    `types` are the dtypes of the values for which the runtime cannot find it out by itself.
    """

    dtype: np.dtype[Any]
    inputs: dict[str, NDArray[Any]] = field(default_factory=dict)
    initializers: dict[str, NDArray[Any]] = field(default_factory=dict)
    nodes: list[_Node] = field(default_factory=list)
    types: dict[str, np.dtype[Any]] = field(default_factory=dict)

    def input(self, name: str, array: NDArray[Any]) -> str:
        """A graph input; floating-point values are taken in the graph's dtype."""
        self.inputs[name] = self._typed(array)
        return name

    def initializer(self, name: str, array: NDArray[Any]) -> str:
        """A constant of the graph; floating-point values are taken in the graph's dtype."""
        self.initializers[name] = self._typed(array)
        return name

    def _typed(self, array: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(array, self.dtype if array.dtype.kind == "f" else array.dtype)

    def add(
        self,
        operation: str,
        *inputs: str,
        name: str,
        extra: Sequence[str] = (),
        domain: str = "",
        probe: bool = False,
        **attributes: Any,
    ) -> str:
        """A node whose first output is called `name`: that name.

        `extra` are the names of the further outputs that the observed model asks for (empty: left out).
        Attributes that are None are left at their defaults. A `probe` is in the observed model only,
        and for its `extra` only: its first output is not on the tape.
        """
        given = {n: v for n, v in attributes.items() if v is not None}
        node = _Node(operation, inputs, (name,), tuple(extra), domain, given, probe)
        self.nodes.append(node)
        return name

    def model(self, output: str, observed: bool = False, inlined: Collection[str] = ()) -> ModelProto:
        """The model that computes `output`; observed, it gives every node's outputs too."""
        from onnx import helper, inliner, numpy_helper

        fed = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in self.inputs.items()
        ]
        graph = helper.make_graph(
            [n.made(observed) for n in self.nodes if observed or not n.probe],
            "subject",
            fed,
            [self._value(output)],
            [numpy_helper.from_array(a, n) for n, a in self.initializers.items()],
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        if inlined:
            model = inliner.inline_selected_functions(model, [("", n) for n in inlined], inline_schema_functions=True)
        if observed:
            unwanted = {output, "", *(node.outputs[0] for node in self.nodes if node.probe)}
            names = [name for node in model.graph.node for name in node.output if name not in unwanted]
            model.graph.output.extend(self._value(name) for name in names)
        return model

    def _value(self, name: str) -> ValueInfoProto:
        from onnx import ValueInfoProto, helper

        if name not in self.types:
            return ValueInfoProto(name=name)
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(self.types[name]), None)

    def run(self, model: ModelProto, optimised: bool = True) -> dict[str, NDArray[Any]]:
        """Every output of the model, by name, for the graph's inputs."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised; the same on stderr helps nobody
        if not optimised:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        needed = {i.name for i in session.get_inputs()}
        values = session.run(None, {n: a for n, a in self.inputs.items() if n in needed})
        return dict(zip([o.name for o in session.get_outputs()], values, strict=True))

    def observe(self, output: str, decomposed: bool, inlined: Collection[str] = ()) -> tuple[NDArray[Any], list[Entry]]:
        """The output of an observed run, and an entry for every floating-point value, in the order of the nodes.

        `decomposed` switches the runtime's graph optimisations off and takes the operators `inlined` apart.
        """
        model = self.model(output, observed=True, inlined=inlined if decomposed else ())
        values = self.run(model, optimised=not decomposed)
        return values[output], entries(model.graph, values)
