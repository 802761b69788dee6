"""A copy of somebody's ONNX model that gives the values inside it as outputs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from conformance_adapters.onnx_dtype import element_type

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_POINTS = ("scaled", "softcapped", "masked", "probabilities")  # qk_matmul_output_mode of Attention, 0 to 3


def prepared(model: ModelProto) -> ModelProto:
    """A copy in which every node has a name of its own and the model's own functions are inlined.

    A recurrent node that gives its last state only also gives every time step: the same kernel computes both.
    """
    from onnx import ModelProto, inliner

    copy = ModelProto()
    copy.CopyFrom(inliner.inline_local_functions(model) if model.functions else model)
    seen: set[str] = set()
    for position, node in enumerate(copy.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.name or node.op_type}_{position}"
        seen.add(node.name)
        if node.op_type in ("LSTM", "GRU", "RNN") and node.domain == "" and not node.output[0]:
            node.output[0] = f"{node.name}.Y"
    return copy


def tapped(model: ModelProto, names: Iterable[str]) -> ModelProto:
    """A copy that also gives the values `names`, after its own outputs."""
    from onnx import ModelProto, ValueInfoProto

    copy = ModelProto()
    copy.CopyFrom(model)
    there = {"", *(value.name for value in copy.graph.output)}
    typed = {value.name: value for value in copy.graph.value_info}
    for name in names:
        if name not in there:
            there.add(name)
            copy.graph.output.append(typed.get(name, ValueInfoProto(name=name)))
    return copy


def observed(model: ModelProto, dtype: str, decomposed: bool, beyond: bool = True) -> ModelProto:
    """A copy whose every node's outputs are outputs of the graph. A node with a subgraph stays one.

    `decomposed` puts ONNX's function body in the place of each Softmax. `beyond` also asks for what a kernel can
    give and nobody asked for: the mean of LayerNormalization, the states of LSTM, the scores inside attention.
    """
    from onnx import inliner

    copy = prepared(model)
    if decomposed and any(node.op_type == "Softmax" and not node.domain for node in copy.graph.node):
        copy = inliner.inline_selected_functions(copy, [("", "Softmax")], inline_schema_functions=True)
    unwanted: set[str] = set()
    if beyond:
        nodes = [made for node in copy.graph.node for made in _asked_for_more(node, copy, dtype, unwanted)]
        del copy.graph.node[:]
        copy.graph.node.extend(nodes)
    names = [name for node in copy.graph.node for name in node.output if name not in unwanted]
    return tapped(copy, names)


def _asked_for_more(node: NodeProto, model: ModelProto, dtype: str, unwanted: set[str]) -> list[NodeProto]:
    """`node` with more of its outputs named, after probes: the same node, for what it can give once per node."""
    from onnx import NodeProto, helper

    kind = (node.domain, node.op_type)
    if kind == ("", "LayerNormalization") and dtype != "float64":  # they are float32 by definition
        _name(node, {1: "Mean", 2: "InvStdDev"})
    elif kind in (("", "LSTM"), ("", "GRU"), ("", "RNN")):
        _name(node, {1: "Y_h", 2: "Y_c"} if node.op_type == "LSTM" else {1: "Y_h"})
    elif kind == ("com.microsoft", "MultiHeadAttention") and len(node.output) == 1:
        _name(node, {3: "qk"})
        model.graph.value_info.append(helper.make_tensor_value_info(node.output[3], element_type(dtype), None))
    elif kind == ("", "Attention"):
        capped = any(a.name == "softcap" and a.f for a in node.attribute)
        masked = any(a.name == "is_causal" and a.i for a in node.attribute) or (len(node.input) > 3 and node.input[3])
        probes = []
        for mode, point in enumerate(_POINTS):
            if (point == "softcapped" and not capped) or (point == "masked" and not masked):
                continue
            probe = NodeProto()
            probe.CopyFrom(node)
            probe.name = f"{node.name}.{point}"
            del probe.output[:]
            probe.output.extend([f"{probe.name}.Y", "", "", f"{probe.name}.qk"])
            unwanted.add(probe.output[0])
            kept = [a for a in node.attribute if a.name != "qk_matmul_output_mode"]
            del probe.attribute[:]
            probe.attribute.extend([*kept, helper.make_attribute("qk_matmul_output_mode", mode)])
            probes.append(probe)
        return [*probes, node]
    return [node]


def _name(node: NodeProto, wanted: dict[int, str]) -> None:
    """Name the outputs that have no name yet."""
    while len(node.output) <= max(wanted):
        node.output.append("")
    for position, name in wanted.items():
        if not node.output[position]:
            node.output[position] = f"{node.name}.{name}"
