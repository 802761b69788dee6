"""Hostile ONNX models: data outside the folder, sizes that nothing has, values that folding would make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np


def files(valid: Mapping[str, bytes], folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every one, with what it is."""
    from onnx import TensorProto, helper, numpy_helper

    places = (
        "../secret.bin",
        f"{folder}/secret.bin",
        "link.bin",
        "a/../../secret.bin",
        "",
        ".",
        "/dev/zero",
        "input.onnx",
    )
    for location in (*places, "../input/link.bin", "\x1b[31m", "x" * 5000, "a\0b"):
        yield f"data in {location[:40]!r}", _outside(valid, location=location)
    for offset, length in (
        ("-1", "48"),
        ("0", str(2**62)),
        ("x", "y"),
        (str(2**63), "1"),
        ("0", "1"),
        ("9" * 5000, "1"),
    ):
        yield f"offset {offset[:9]}, length {length[:9]}", _outside(valid, "layers.data", offset=offset, length=length)

    def model(nodes: list[Any], tensors: list[Any] = [], output: str = "y") -> bytes:  # noqa: B006 - never changed
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            nodes, "g", [value("x", TensorProto.FLOAT, [2])], [value(output, TensorProto.FLOAT, None)], tensors
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        content: bytes = made.SerializeToString()
        return content

    for dims in ([2**40], [2**31, 2**31], [2**62, 4], [-1], [2**20, 2**20], [0, 2**62]):
        weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims)
        yield f"an initializer of {dims}", model([helper.make_node("Add", ["x", "w"], ["y"])], [weight])
        size = numpy_helper.from_array(np.array(dims, np.int64), "size")
        one = numpy_helper.from_array(np.float32([1]), "one")
        filled = helper.make_node("ConstantOfShape", ["size"], ["c"])
        add = helper.make_node("Add", ["x", "c"], ["y"])
        yield f"ConstantOfShape {dims}", model([filled, add], [size])
        yield f"Expand {dims}", model([helper.make_node("Expand", ["one", "size"], ["c"]), add], [size, one])
        tile = numpy_helper.from_array(np.array([max(dims)], np.int64), "tile")
        yield f"Tile {dims}", model([helper.make_node("Tile", ["one", "tile"], ["c"]), add], [tile, one])
    scalars = [numpy_helper.from_array(np.float32(v), n) for v, n in ((0, "a"), (2e9, "b"), (1, "d"))]
    yield (
        "Range",
        model([helper.make_node("Range", ["a", "b", "d"], ["c"]), helper.make_node("Add", ["x", "c"], ["y"])], scalars),
    )
    yield "a cycle", model([helper.make_node("Add", ["x", "y"], ["z"]), helper.make_node("Add", ["x", "z"], ["y"])])
    yield "itself", model([helper.make_node("Identity", ["y"], ["y"])])
    yield "no such operator", model([helper.make_node("\x1b[31mEvil", ["x"], ["y"], domain="a.b")])
    chain = [helper.make_node("Identity", [f"v{i}" if i else "x"], [f"v{i + 1}"]) for i in range(5000)]
    yield "a long chain", model(chain, output="v5000")
    for depth in (3, 10, 20):  # protobuf reads a hundred messages within messages
        yield f"graphs in graphs, {depth} deep", _nested(model([]), depth)


def _nested(empty: bytes, depth: int) -> bytes:
    """An If within an If."""
    from onnx import ModelProto, helper, numpy_helper

    output = helper.make_tensor_value_info("o", 1, None)
    condition = numpy_helper.from_array(np.array(True), "t")
    inner: Any = helper.make_graph([helper.make_node("Identity", ["x"], ["o"])], "i", [], [output])
    for level in range(depth):
        branches = {"then_branch": inner, **({"else_branch": inner} if level < 8 else {})}
        node = helper.make_node("If", ["t"], ["o"], f"n{level}", **branches)
        inner = helper.make_graph([node], "i", [], [output], [condition])
    made = ModelProto.FromString(empty)
    made.graph.node.extend(inner.node)
    made.graph.initializer.extend(inner.initializer)
    made.graph.output[0].name = "o"
    return made.SerializeToString()


def _outside(valid: Mapping[str, bytes], location: str, **said: str) -> bytes:
    from onnx import ModelProto

    model = ModelProto.FromString(valid["outside.onnx"])
    for tensor in model.graph.initializer:
        del tensor.external_data[:]
        for key, value in {"location": location, **said}.items():
            tensor.external_data.add(key=key, value=value)
    return model.SerializeToString()
