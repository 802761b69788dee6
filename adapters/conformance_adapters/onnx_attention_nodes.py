"""Attention operators as they are met in somebody's ONNX graph: each is the layer between the projections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.errors import ConformanceError
from conformance_adapters.attention_mask import four_axes
from conformance_adapters.onnx_nodes import Arrays, Operator, refuse

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import NodeProto

    from conformance_adapters.onnx_wiring import Wiring


_UNBOUNDED = 2**31 - 1  # as wide as any sequence


def _operands(node: NodeProto, names: Mapping[str, int]) -> dict[str, str]:
    return {n: node.input[i] if i < len(node.input) else "" for n, i in names.items()}


class Attention(Operator):
    """Attention, opset 23, with its heads as an axis or side by side."""

    layer = "scaled_dot_product_attention"
    kinds = (("", "Attention"),)

    @classmethod
    def match(cls, wiring: Wiring, node: NodeProto) -> Operator | None:
        """Query, key, value and a mask."""
        return cls(wiring, node, _operands(node, {"query": 0, "key": 1, "value": 2, "mask": 3}))

    @property
    def output(self) -> str:
        """The first."""
        return self.node.output[0]

    def heads(self, name: str) -> int:
        """How many heads the input `name` has."""
        heads = self.attributes.get("q_num_heads" if name == "query" else "kv_num_heads")
        refuse(not heads, "Attention without its numbers of heads")
        return int(heads or 1)

    def config(self) -> dict[str, Any]:
        """A causal mask lets query i see the keys up to i."""
        given = self.attributes
        refuse(self.operand(4) or self.operand(5), "Attention with keys and values of the past")
        refuse(self.operand(6), "Attention with a length for each sample")
        made: dict[str, Any] = {"scale": given.get("scale"), "causal": "top-left" if given.get("is_causal") else None}
        made["softcap"] = given.get("softcap") or None
        sides = [given.get(f"{side}_window_size", -1) for side in ("left", "right")]
        made["window"] = None if max(sides) < 0 else [_UNBOUNDED if side < 0 else side for side in sides]
        query, key = given.get("q_num_heads"), given.get("kv_num_heads")
        return {**made, "kv_heads": key if key != query else None}

    def canonical(self, values: Mapping[str, NDArray[Any]]) -> Arrays:
        """`batch head time dim`, and a mask of four axes."""
        made = {n: self._apart(a, self.heads(n)) if a.ndim == 3 else a for n, a in values.items() if n != "mask"}
        if "mask" in values:
            mask = values["mask"]
            made["mask"] = mask.reshape((1,) * (4 - mask.ndim) + mask.shape)
        return made

    def fed(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """As the graph has them; a mask varies over queries and keys, as the kernel wants it."""
        made: Arrays = {}
        for name, array in inputs.items():
            axes = self.wiring.axes(self.inputs[name]) if name in self.inputs else None
            if name == "mask":
                made[name] = self._mask(array, inputs, axes or 4)
            else:
                made[name] = self._side_by_side(array) if axes == 3 else array
        return made

    def _mask(self, mask: NDArray[Any], inputs: Mapping[str, NDArray[Any]], axes: int) -> NDArray[Any]:
        batch, query, key = inputs["query"].shape[0], inputs["query"].shape[2], inputs["key"].shape[2]
        whole = four_axes(mask, batch, key)
        whole = np.broadcast_to(whole, (*whole.shape[:2], query, key))
        if any(size != 1 for size in whole.shape[: 4 - axes]):
            raise ConformanceError(f"a mask of {_times(mask)} does not fit the graph's, which has {axes} axes")
        return whole.reshape(whole.shape[4 - axes :])

    @staticmethod
    def _apart(array: NDArray[Any], heads: int) -> NDArray[Any]:
        batch, time, hdim = array.shape
        return array.reshape(batch, time, heads, hdim // heads).swapaxes(1, 2)

    @staticmethod
    def _side_by_side(array: NDArray[Any]) -> NDArray[Any]:
        batch, heads, time, dim = array.shape
        return array.swapaxes(1, 2).reshape(batch, time, heads * dim)

    def given(self, output: NDArray[Any]) -> NDArray[Any]:
        """`batch head query vdim`."""
        return self._apart(output, self.heads("query")) if output.ndim == 3 else output


class MultiHeadAttention(Attention):
    """com.microsoft.MultiHeadAttention, heads side by side. Its padding mask is of integers, 0 where padded."""

    kinds = (("com.microsoft", "MultiHeadAttention"),)

    @classmethod
    def match(cls, wiring: Wiring, node: NodeProto) -> Operator | None:
        """A mask is either of its two."""
        operands = _operands(node, {"query": 0, "key": 1, "value": 2, "padding": 4, "bias": 5})
        operands["mask"] = operands.pop("padding") or operands["bias"]
        operands.pop("bias")
        return cls(wiring, node, operands)

    def heads(self, name: str) -> int:
        """As many for keys as for queries."""
        return int(self.attributes["num_heads"])

    def config(self) -> dict[str, Any]:
        """A scale of 0 is the usual one."""
        refuse(self.operand(3), "MultiHeadAttention with biases of its own")
        refuse(self.operand(4) and self.operand(5), "MultiHeadAttention with two masks")
        refuse(any(self.operand(i) for i in range(6, 10)), "MultiHeadAttention with keys and values of the past")
        refuse(not (self.operand(1) and self.operand(2)), "MultiHeadAttention with query, key and value in one tensor")
        for name in ("query", "key", "value"):
            axes = self.wiring.axes(self.inputs[name])
            refuse(axes not in (3, None), f"MultiHeadAttention with a {name} of {axes} axes")
        padding = self.operand(4)
        refuse(padding and self.wiring.axes(padding) not in (2, None), "MultiHeadAttention with lengths for a mask")
        causal = "top-left" if self.attributes.get("unidirectional") else None
        return {"scale": self.attributes.get("scale") or None, "causal": causal}

    def canonical(self, values: Mapping[str, NDArray[Any]]) -> Arrays:
        """A padding mask is true where a key is attended."""
        if self.operand(4) and "mask" in values:
            values = {**values, "mask": values["mask"].astype(bool)[:, None, None, :]}
        return super().canonical(values)

    def _mask(self, mask: NDArray[Any], inputs: Mapping[str, NDArray[Any]], axes: int) -> NDArray[Any]:
        if not self.operand(4):
            return super()._mask(mask, inputs, 4)
        batch, key = inputs["query"].shape[0], inputs["key"].shape[2]
        whole = four_axes(mask, batch, key)
        if mask.dtype != bool or whole.shape[1:3] != (1, 1):
            raise ConformanceError(f"a mask of {_times(mask)} is no padding mask: the graph takes one of batch key")
        return np.broadcast_to(whole[:, 0, 0], (batch, key)).astype(np.int32)

    def fed(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Heads side by side."""
        made = {n: self._side_by_side(a) for n, a in inputs.items() if n != "mask"}
        return made | ({"mask": self._mask(inputs["mask"], inputs, 4)} if "mask" in inputs else {})

    def given(self, output: NDArray[Any]) -> NDArray[Any]:
        """`batch head query vdim`."""
        return self._apart(output, self.heads("query"))


def _times(array: NDArray[Any]) -> str:
    return "x".join(map(str, array.shape))


ATTENTION = (Attention, MultiHeadAttention)
