"""Gelu as it is met in somebody's ONNX graph: an operator, or written out with Erf."""

from __future__ import annotations

from math import isclose, sqrt
from typing import TYPE_CHECKING, Any

from conformance_adapters.onnx_nodes import Operator, refuse

if TYPE_CHECKING:
    from onnx import NodeProto

    from conformance_adapters.onnx_wiring import Wiring


class Gelu(Operator):
    """Gelu, of opset 20 or of com.microsoft, and com.microsoft's FastGelu."""

    layer = "gelu"
    kinds = (("", "Gelu"), ("com.microsoft", "Gelu"), ("com.microsoft", "FastGelu"))

    def config(self) -> dict[str, Any]:
        """FastGelu is the tanh form."""
        refuse(self.operand(1), "FastGelu with a bias")
        fast = self.node.op_type == "FastGelu"
        return {"approximation": "tanh" if fast else self.attributes.get("approximate", "none")}


class ErfGelu(Operator):
    """`x * 0.5 * (1 + erf(x / sqrt 2))`, as exporters write Gelu out."""

    layer = "gelu"
    kinds = (("", "Erf"),)

    @classmethod
    def match(cls, wiring: Wiring, node: NodeProto) -> Operator | None:
        """The products may come in any order."""
        inner = wiring.producers.get(node.input[0])
        x = _scaled(wiring, inner, 1 / sqrt(2))
        plus = wiring.only_reader(node.output[0])
        if inner is None or x is None or plus is None or _plus_one(wiring, plus) is None:
            return None
        nodes, value, wanted = [inner, node, plus], plus.output[0], {"x", "half"}
        for _ in range(2):
            product = wiring.only_reader(value) if wanted else None
            if product is None or product.op_type not in ("Mul", "Div"):
                return None
            half = _scaled(wiring, product, 0.5)
            if half == value and "half" in wanted:
                wanted -= {"half"}
            elif product.op_type == "Mul":
                other = next((n for n in product.input if n != value), value)
                halved = wiring.producers.get(other)
                if other == x and "x" in wanted:
                    wanted -= {"x"}
                elif wanted == {"x", "half"} and halved is not None and _scaled(wiring, halved, 0.5) == x:
                    nodes.append(halved)
                    wanted = set()
                else:
                    return None
            else:
                return None
            nodes.append(product)
            value = product.output[0]
            if not wanted:
                return cls(wiring, node, {"x": x}, nodes)
        return None

    def config(self) -> dict[str, Any]:
        """The exact form."""
        return {"approximation": "none"}


def _scaled(wiring: Wiring, node: NodeProto | None, factor: float) -> str | None:
    """What `node` multiplies by `factor`, or divides by its reciprocal."""
    if node is None or node.op_type not in ("Mul", "Div"):
        return None
    for i, name in enumerate(node.input):
        number = _number(wiring, name)
        if number is not None and (node.op_type == "Mul" or i == 1):
            wanted = factor if node.op_type == "Mul" else 1 / factor
            return node.input[1 - i] if isclose(number, wanted, rel_tol=1e-3) else None
    return None


def _plus_one(wiring: Wiring, node: NodeProto) -> bool | None:
    found = node.op_type == "Add" and any(_number(wiring, name) == 1 for name in node.input)
    return True if found else None


def _number(wiring: Wiring, name: str) -> float | None:
    array = wiring.held.get(name)
    return float(array.reshape(())) if array is not None and array.size == 1 else None


GELU = (Gelu, ErfGelu)
