"""An ONNX graph under construction, made into a model twice: as a user has it, and with every value as an output.

In the observed model every node's outputs are graph outputs, as well as the outputs that a node can give
but that nobody asked for (`extra`), and nodes that are there to be watched only (`probe`). Operators
named as `inlined` are replaced by the function body that ONNX defines for them: those steps are then the
body's, not those of the runtime's kernel.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.adapter import EAGER
from conformance_adapters.onnx_tape import entries

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto, ValueInfoProto

    from conformance.trace import Entry

OPSET = 23  # the oldest that has every operator that is used here
OLDEST = 20  # of those that an older runtime is asked for
OFF = "ort-off"
LEVELS = {OFF: "ORT_DISABLE_ALL", "ort-all": "ORT_ENABLE_ALL"}  # modes, and what the runtime calls the level
IR_VERSION = 10  # the oldest that knows these opsets, for older runtimes


@cache
def opset() -> int:
    """The version of ONNX's own operators for a model: OPSET, or the newest below it that the runtime takes.

    A runtime does not say which it takes, so it is asked for a model of each.
    """
    import onnxruntime
    from onnx import TensorProto, helper
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # that it refuses is what is asked
    for version in range(OPSET, OLDEST, -1):
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", ends[:1], ends[1:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=IR_VERSION)
        try:
            onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Fail:
            continue
        return version
    return OLDEST


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

    `types` are the dtypes of the values for which the runtime cannot find it out by itself. `since` is the opset of an
    operator that is newer than those that models are made with.
    """

    dtype: np.dtype[Any]
    inputs: dict[str, NDArray[Any]] = field(default_factory=dict)
    initializers: dict[str, NDArray[Any]] = field(default_factory=dict)
    nodes: list[_Node] = field(default_factory=list)
    types: dict[str, np.dtype[Any]] = field(default_factory=dict)
    since: int = 0

    def input(self, name: str, array: NDArray[Any]) -> str:
        """A graph input; floating-point values are taken in the graph's dtype."""
        self.inputs[name] = self._typed(array)
        return name

    def initializer(self, name: str, array: NDArray[Any]) -> str:
        """A constant of the graph; floating-point values are taken in the graph's dtype."""
        self.initializers[name] = self._typed(array)
        return name

    def _typed(self, array: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(array, self.dtype if array.dtype.kind == "f" else array.dtype, order="C")

    def add(
        self,
        operation: str,
        *inputs: str,
        name: str,
        also: Sequence[str] = (),
        extra: Sequence[str] = (),
        domain: str = "",
        probe: bool = False,
        **attributes: Any,
    ) -> str:
        """A node whose first output is called `name`: that name.

        `also` are the names of further outputs that it must have, `extra` of those that the observed model
        alone asks for (empty: left out). Attributes that are None are left at their defaults. A `probe` is in
        the observed model only, and for its `extra` only: its first output is not on the tape.
        """
        given = {n: v for n, v in attributes.items() if v is not None}
        node = _Node(operation, inputs, (name, *also), tuple(extra), domain, given, probe)
        self.nodes.append(node)
        return name

    def model(self, output: str, observed: bool = False, inlined: Collection[str] = ()) -> ModelProto:
        """The model that computes `output`; observed, it gives every node's outputs too."""
        from onnx import helper, inliner, numpy_helper

        fed = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in self.inputs.items()
        ]
        # The inliner knows the types of inputs, and of initializers only where they are told.
        told = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in self.initializers.items()
        ]
        graph = helper.make_graph(
            [n.made(observed) for n in self.nodes if observed or not n.probe],
            "subject",
            fed,
            [self._value(output)],
            [numpy_helper.from_array(a, n) for n, a in self.initializers.items()],
            value_info=told if inlined else [],
        )
        opsets = [helper.make_opsetid("", max(opset(), self.since)), helper.make_opsetid("com.microsoft", 1)]
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

    def run(self, model: ModelProto, mode: str = EAGER) -> dict[str, NDArray[Any]]:
        """Every output of the model, by name, for the graph's inputs. A mode without a level has the runtime's own."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised; the same on stderr helps nobody
        if mode in LEVELS:
            options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, LEVELS[mode])
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        needed = {i.name for i in session.get_inputs()}
        values = session.run(None, {n: a for n, a in self.inputs.items() if n in needed})
        return dict(zip([o.name for o in session.get_outputs()], values, strict=True))

    def observe(self, output: str, decomposed: bool, inlined: Collection[str] = ()) -> tuple[NDArray[Any], list[Entry]]:
        """The output of an observed run, and an entry for every floating-point value, in the order of the nodes.

        `decomposed` switches the runtime's graph optimisations off and takes the operators `inlined` apart.
        """
        model = self.model(output, observed=True, inlined=inlined if decomposed else ())
        values = self.run(model, OFF if decomposed else EAGER)
        return values[output], entries(model.graph, values)
