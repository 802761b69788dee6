"""Pools, as they are met in somebody's ONNX graph: their channels are the second axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance_adapters.onnx_nodes import Arrays, Operator, refuse
from conformance_adapters.onnx_wiring import Wiring, attributes

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import NodeProto

_PADDING = {"SAME_UPPER": "same-upper", "SAME_LOWER": "same-lower", "VALID": "valid"}


class ChannelsSecond(Operator):
    """An operator without weights whose channels are the second axis."""

    def canonical(self, values: Mapping[str, NDArray[Any]]) -> Arrays:
        """Channels last."""
        return {"x": np.moveaxis(values["x"], 1, -1)}

    def fed(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Channels second."""
        return {"x": np.moveaxis(inputs["x"], -1, 1)}

    def given(self, output: NDArray[Any]) -> NDArray[Any]:
        """Channels last."""
        return np.moveaxis(output, 1, -1)


class MaxPool(ChannelsSecond):
    """MaxPool."""

    layer = "max_pool{axes}d"
    kinds = (("", "MaxPool"),)

    @classmethod
    def match(cls, wiring: Wiring, node: NodeProto) -> Operator | None:
        """The number of its spatial axes is that of its kernel_shape."""
        axes = len(attributes(node)["kernel_shape"])
        if axes not in (1, 2, 3):
            return None
        over = type(cls.__name__, (cls,), {"layer": cls.layer.format(axes=axes), "__doc__": cls.__doc__})
        made: Operator = over(wiring, node, {"x": node.input[0]})
        return made

    def config(self) -> dict[str, Any]:
        """`pads` are all beginnings, then all ends."""
        given, kind = self.attributes, self.node.op_type
        size = list(given["kernel_shape"])
        refuse(set(given.get("dilations", [1])) != {1}, f"a {kind} with dilations")
        refuse(len([n for n in self.node.output if n]) > 1, f"a {kind} that gives indices too")
        pads = list(given.get("pads", [0] * 2 * len(size)))
        explicit = [[before, after] for before, after in zip(pads[: len(size)], pads[len(size) :], strict=True)]
        return {
            "size": size,
            "strides": list(given.get("strides", [1] * len(size))),
            "padding": _PADDING.get(given.get("auto_pad", "NOTSET"), explicit if any(pads) else "valid"),
            "ceil_mode": bool(given.get("ceil_mode", 0)),
        }


class AveragePool(MaxPool):
    """AveragePool, which does not count its padding unless it says so."""

    layer = "average_pool{axes}d"
    kinds = (("", "AveragePool"),)

    def config(self) -> dict[str, Any]:
        """As of a maximum; and what counts."""
        return {**super().config(), "count_include_pad": bool(self.attributes.get("count_include_pad", 0))}


class GlobalAveragePool(ChannelsSecond):
    """GlobalAveragePool, which leaves axes of one element."""

    layer = "global_average_pool"
    kinds = (("", "GlobalAveragePool"),)

    def given(self, output: NDArray[Any]) -> NDArray[Any]:
        """`batch channel`."""
        return output.reshape(output.shape[:2])


class GlobalMaxPool(GlobalAveragePool):
    """GlobalMaxPool, which leaves axes of one element."""

    layer = "global_max_pool"
    kinds = (("", "GlobalMaxPool"),)


POOLING = (MaxPool, AveragePool, GlobalAveragePool, GlobalMaxPool)
