"""What the nodes of an ONNX graph read, and what they are called."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from conformance_adapters.onnx_tape import entries


def tape(nodes, initializers, subject_inputs, fed):
    """The tape of a model of `nodes`, run by ONNX Runtime with every value as an output."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(fed[n].dtype), None) for n in subject_inputs],
        [onnx.ValueInfoProto(name=name) for node in nodes for name in node.output],
        [onnx.numpy_helper.from_array(a, n) for n, a in initializers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    values = session.run(None, fed)
    return entries(model.graph, dict(zip([o.name for o in session.get_outputs()], values, strict=True)))


def test_nodes_read_through_masks_shapes_and_initializers():
    node = helper.make_node
    x = np.array([[1.0, -2.0]], np.float32)
    made = tape(
        [
            node("Mul", ["x", "two"], ["twice"], name="/layers.0/Mul"),
            node("Greater", ["twice", "zero"], ["mask"]),
            node("Exp", ["x"], ["exp"]),
            node("Where", ["mask", "exp", "x"], ["masked"]),
            node("Transpose", ["w"], ["w_t"], perm=[1, 0]),
            node("MatMul", ["masked", "w_t"], ["product"]),
            node("Shape", ["twice"], ["shape"]),
            node("Reshape", ["product", "shape"], ["shaped"]),
            node("Cast", ["shape"], ["size"], to=TensorProto.FLOAT),
            node("Split", ["shaped"], ["left", "right"], axis=1, num_outputs=2, name="split"),
            node("Add", ["left", "right"], ["sum"]),
        ],
        {"two": np.float32(2), "zero": np.float32(0), "w": np.eye(2, dtype=np.float32)},
        ["x"],
        {"x": x},
    )
    assert [(e.operation, e.reads, e.fixed) for e in made] == [
        ("Mul:twice", (), False),
        ("Exp:exp", (), False),
        ("Where:masked", (0, 1), False),
        ("Transpose:w_t", (), True),
        ("MatMul:product", (2, 3), False),
        ("Reshape:shaped", (4,), False),
        ("Cast:size", (), True),
        ("Split:left", (5,), False),
        ("Split:right", (5,), False),
        ("Add:sum", (7, 8), False),
    ]
    assert [e.scope for e in made if e.scope] == ["/layers.0/Mul", "split", "split"]
    assert made[0].array.tolist() == [[2.0, -4.0]]


def test_a_branch_reads_what_its_subgraphs_read():
    node, value = helper.make_node, helper.make_tensor_value_info
    then = helper.make_graph([node("Exp", ["twice"], ["t"])], "then", [], [value("t", TensorProto.FLOAT, None)])
    other = helper.make_graph([node("Neg", ["thrice"], ["o"])], "else", [], [value("o", TensorProto.FLOAT, None)])
    made = tape(
        [
            node("Mul", ["x", "two"], ["twice"]),
            node("Mul", ["x", "three"], ["thrice"]),
            node("If", ["chosen"], ["y"], then_branch=then, else_branch=other),
        ],
        {"two": np.float32(2), "three": np.float32(3)},
        ["x", "chosen"],
        {"x": np.ones(2, np.float32), "chosen": np.array(True)},
    )
    assert [(e.operation, e.reads, e.fixed) for e in made] == [
        ("Mul:twice", (), False),
        ("Mul:thrice", (), False),
        ("If:y", (0, 1), False),
    ]
