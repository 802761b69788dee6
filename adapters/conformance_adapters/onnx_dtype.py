"""A copy of an ONNX model that computes in another floating-point format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.precision import precision
from conformance_adapters.onnx_model import every

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

_NAMES = {"float64": "double", "float32": "float", "float16": "float16", "bfloat16": "bfloat16"}
_DTYPE_ATTRIBUTES = ("to", "dtype", "output_datatype")  # of Cast; of RandomNormal and its like; of windows


def element_type(dtype: str) -> int:
    """ONNX's number of a floating-point format."""
    from onnx import TensorProto

    number: int = TensorProto.DataType.Value("DOUBLE" if dtype == "float64" else _NAMES[dtype].upper())
    return number


def float_types() -> dict[int, str]:
    """The formats that are converted, by ONNX's number."""
    return {element_type(name): name for name in _NAMES}


def converted(model: ModelProto, dtype: str) -> ModelProto:
    """`model` with every floating-point tensor, input, output and cast in `dtype`.

    A constant that an operator takes as float32 only (the scales of Resize) stays what it is. Functions of the
    model's own are inlined, so that what they cast to is seen.
    """
    from onnx import ModelProto, inliner

    copy = ModelProto()
    copy.CopyFrom(inliner.inline_local_functions(model) if model.functions else model)
    opsets = {entry.domain: entry.version for entry in copy.opset_import}
    graphs = list(every(copy, "GraphProto"))
    kept = {name for graph in graphs for node in graph.node for name in _narrow(node, opsets, dtype)}
    for graph in graphs:
        _convert(graph, dtype, kept)
    return copy


def _narrow(node: NodeProto, opsets: dict[str, int], dtype: str) -> list[str]:
    """The inputs of `node` that cannot be `dtype` by the operator's definition."""
    from onnx import defs

    try:
        schema = defs.get_schema(node.op_type, opsets.get(node.domain, 1), node.domain)
    except defs.SchemaError:
        return []  # the runtime's own operators: it says itself what it lacks
    formal = schema.inputs
    wanted, names = f"tensor({_NAMES[dtype]})", []
    for i, name in enumerate(node.input):
        types = formal[min(i, len(formal) - 1)].types if formal else ()
        if name and wanted not in types and "tensor(float)" in types:
            names.append(name)
    return names


def _convert(graph: GraphProto, dtype: str, kept: set[str]) -> None:
    from onnx import AttributeProto, helper, numpy_helper

    floats, wanted = float_types(), element_type(dtype)
    for tensor in graph.initializer:
        if tensor.name not in kept:
            _retype(tensor, dtype)
    for sparse in graph.sparse_initializer:
        if sparse.values.name not in kept:
            _retype(sparse.values, dtype)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.name not in kept:
            for tensor_type in (*every(value, "Tensor"), *every(value, "SparseTensor")):
                if tensor_type.elem_type in floats:
                    tensor_type.elem_type = wanted
    for node in graph.node:
        if node.op_type == "Constant" and node.output[0] in kept:
            continue
        if node.op_type == "ConstantOfShape" and not node.attribute:
            node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.zeros(1, np.float32))))
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                _retype(attribute.t, dtype)
            elif attribute.name in _DTYPE_ATTRIBUTES and attribute.i in floats:
                attribute.i = wanted
            elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
                values: Any = attribute.f if attribute.name == "value_float" else list(attribute.floats)
                tensor = numpy_helper.from_array(np.asarray(values, precision(dtype).dtype))
                attribute.CopyFrom(helper.make_attribute("value", tensor))


def _retype(tensor: TensorProto, dtype: str) -> None:
    from onnx import numpy_helper

    if tensor.data_type in float_types() and tensor.data_type != element_type(dtype):
        with np.errstate(over="ignore"):
            array = numpy_helper.to_array(tensor).astype(precision(dtype).dtype)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
