"""What is connected to what in an ONNX graph, and which of its values are the same for every input."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from conformance_adapters.onnx_model import every

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

_RANDOM = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}


class Wiring:
    """The main graph of a model. `known` are values that a run of it gave, by name.

    A node with a subgraph reads whatever the subgraph reads of the graph around it.
    """

    def __init__(self, model: ModelProto, known: Mapping[str, NDArray[Any]] | None = None) -> None:
        self.model = model
        self.known = dict(known or {})
        self.opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
        self.outputs = {o.name for o in model.graph.output}
        self.producers: dict[str, NodeProto] = {}
        self.readers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in model.graph.node:
            for name in node.output:
                self.producers[name] = node
            for name in dict.fromkeys(reads(node)):
                self.readers[name].append(node)

    @cached_property
    def fixed(self) -> set[str]:
        """The values that no input reaches: initializers, constants, and what is computed from them alone."""
        made = {i.name for i in self.model.graph.initializer}
        made |= {i.values.name for i in self.model.graph.sparse_initializer}
        for node in self.model.graph.node:
            if node.op_type not in _RANDOM and all(name in made for name in reads(node)):
                made.update(name for name in node.output if name)
        return made

    @cached_property
    def held(self) -> dict[str, NDArray[Any]]:
        """The arrays that the model holds: initializers, and what Constant nodes give."""
        from onnx import numpy_helper

        arrays = {i.name: numpy_helper.to_array(i) for i in self.model.graph.initializer}
        for node in self.model.graph.node:
            if node.op_type == "Constant" and not node.domain:
                array = constant(node)
                if array is not None:
                    arrays[node.output[0]] = array
        return arrays

    def array(self, name: str) -> NDArray[Any] | None:
        """The value `name`: one that the model holds, or that a run gave."""
        found = self.held.get(name)
        return found if found is not None else self.known.get(name)

    def axes(self, name: str) -> int | None:
        """How many axes the value `name` has, where that is known."""
        array = self.array(name)
        if array is not None:
            return array.ndim
        for value in (*self.model.graph.input, *self.model.graph.value_info, *self.model.graph.output):
            if value.name == name and value.type.tensor_type.HasField("shape"):
                return len(value.type.tensor_type.shape.dim)
        return None

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The size of the value `name`, where all of it is known."""
        array = self.array(name)
        if array is not None:
            return array.shape
        for value in (*self.model.graph.input, *self.model.graph.value_info, *self.model.graph.output):
            if value.name == name and value.type.tensor_type.HasField("shape"):
                sizes = [d.dim_value for d in value.type.tensor_type.shape.dim]
                return tuple(sizes) if all(sizes) else None
        return None

    def only_reader(self, name: str) -> NodeProto | None:
        """The one node that reads `name`, where nothing else does."""
        readers = self.readers[name]
        return readers[0] if len(readers) == 1 and name not in self.outputs else None


def reads(node: NodeProto) -> list[str]:
    """The values of the graph that `node` reads, also from within its subgraphs."""
    names = [name for name in node.input if name]
    for graph in (g for attribute in node.attribute for g in every(attribute, "GraphProto")):
        own = {i.name for i in graph.initializer} | {i.name for i in graph.input}
        own |= {name for inner in graph.node for name in inner.output}
        names += [n for inner in graph.node for n in inner.input if n and n not in own]
        names += [o.name for o in graph.output if o.name not in own]
    return names


def attributes(node: NodeProto) -> dict[str, Any]:
    """The attributes of a node, by name: numbers, strings, lists of them, tensors as they are."""
    from onnx import helper

    found = {a.name: helper.get_attribute_value(a) for a in node.attribute if not a.ref_attr_name}
    return {n: _text(v) for n, v in found.items()}


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")  # names of modes are plain; a blob may be anything
    if isinstance(value, list | tuple):
        return [_text(v) for v in value]
    return value


def constant(node: NodeProto) -> NDArray[Any] | None:
    """What a Constant node gives, where that is an array of numbers."""
    import numpy as np
    from onnx import TensorProto, numpy_helper

    for name, value in attributes(node).items():
        if name == "value" and isinstance(value, TensorProto):
            return numpy_helper.to_array(value)
        if name in ("value_float", "value_floats"):
            return np.asarray(value, np.float32)
        if name in ("value_int", "value_ints"):
            return np.asarray(value, np.int64)
    return None
