"""Gather of rows, Flatten, Pad, DepthToSpace and Dropout, as they are met in somebody's ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance_adapters.onnx_nodes import Arrays, Operator, refuse
from conformance_adapters.onnx_pooling_nodes import ChannelsSecond
from conformance_adapters.onnx_shape import PAD_MODES
from conformance_adapters.onnx_wiring import Wiring

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import NodeProto


class Gather(Operator):
    """Gather of the rows of a table that the model holds."""

    layer = "embedding"
    kinds = (("", "Gather"),)

    @classmethod
    def match(cls, wiring: Wiring, node: NodeProto) -> Operator | None:
        """Of a matrix by indices that are fed: what picks an element of a shape is none."""
        table, indices = node.input[:2]
        if table not in wiring.fixed or indices in wiring.fixed:
            return None
        held = wiring.array(table)
        if held is None or held.ndim != 2 or held.dtype.kind != "f":
            return None
        made = cls(wiring, node, {"indices": indices})
        return made if made.attributes.get("axis", 0) == 0 else None

    def weights(self) -> Arrays:
        """As it is."""
        table = self.weight(0)
        assert table is not None
        return {"table": table}


class Flatten(Operator):
    """Flatten of all axes but the first."""

    layer = "flatten"
    kinds = (("", "Flatten"),)

    def config(self) -> dict[str, Any]:
        """`axis` may count from the back."""
        axis, axes = self.attributes.get("axis", 1), self.wiring.axes(self.inputs["x"])
        refuse(axis not in (1, 1 - (axes or 0)), f"a Flatten whose second axis begins at the axis {axis}")
        return {}


class Pad(Operator):
    """Pad of the axes between the first and the channels, the second or the last."""

    layer = "pad"
    kinds = (("", "Pad"),)

    def _pairs(self) -> list[tuple[int, int]]:
        """What goes before and after every axis of x."""
        pads = self.weight(1) if self.operand(1) else np.array(self.attributes.get("pads", ()))
        assert pads is not None
        refuse(pads.size % 2 or not pads.size, "a Pad of which the amounts are not known")
        begins, ends = np.split(np.asarray(pads).ravel(), 2)
        pairs = [(int(b), int(e)) for b, e in zip(begins, ends, strict=True)]
        chosen = self.weight(3)
        if chosen is None:
            return pairs
        axes = self.wiring.axes(self.inputs["x"])
        refuse(axes is None, "a Pad of some axes, of an x of which the number of axes is not known")
        every = [(0, 0)] * (axes or 0)
        for axis, pair in zip(np.asarray(chosen).ravel(), pairs, strict=True):
            every[int(axis)] = pair
        return every

    def _second(self) -> bool:
        """Whether the channels are the second axis."""
        return self._pairs()[1] == (0, 0)

    def config(self) -> dict[str, Any]:
        """Padding of the axes between, the mode, and the value."""
        pairs = self._pairs()
        refuse(len(pairs) < 3, "a Pad of fewer than three axes")
        refuse(pairs[0] != (0, 0), "a Pad of the first axis, which is the batch")
        second = self._second()
        refuse(not second and pairs[-1] != (0, 0), "a Pad of all axes but the first: none is that of the channels")
        asked = self.attributes.get("mode", "constant")
        modes = {own: canonical for canonical, own in PAD_MODES.items()}
        refuse(asked not in modes, f"a Pad of mode {asked!r}")
        value = self.weight(2) if self.operand(2) else np.array(self.attributes.get("value", 0.0))
        assert value is not None
        space = pairs[2:] if second else pairs[1:-1]
        return {"padding": [list(pair) for pair in space], "mode": modes[asked], "value": float(value.ravel()[0])}

    def canonical(self, values: Mapping[str, NDArray[Any]]) -> Arrays:
        """Channels last."""
        return {"x": self.given(values["x"])}

    def fed(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Channels where they were."""
        return {"x": np.moveaxis(inputs["x"], -1, 1) if self._second() else inputs["x"]}

    def given(self, output: NDArray[Any]) -> NDArray[Any]:
        """Channels last."""
        return np.moveaxis(output, 1, -1) if self._second() else output


class DepthToSpace(ChannelsSecond):
    """DepthToSpace, whose channels are the fastest of a block unless it says otherwise."""

    layer = "pixel_shuffle"
    kinds = (("", "DepthToSpace"),)

    def config(self) -> dict[str, Any]:
        """The size of a block, and the order."""
        mode = self.attributes.get("mode", "DCR")
        return {"factor": self.attributes["blocksize"], "mode": mode}


class Dropout(Operator):
    """Dropout as it is for inference."""

    layer = "dropout"
    kinds = (("", "Dropout"),)

    def config(self) -> dict[str, Any]:
        """The rate, of which nothing is seen: an attribute, since opset 12 an input. Before opset 7, it may train."""
        training = self.weight(2) if self.operand(2) else None
        drops = training is not None and bool(training.ravel()[0])
        refuse(drops or (self.wiring.opset < 7 and not self.attributes.get("is_test", 0)), "a Dropout that trains")
        ratio = self.weight(1) if self.operand(1) else None
        return {"rate": self.attributes.get("ratio", 0.5) if ratio is None else float(ratio.ravel()[0])}


SHAPE = (Gather, Flatten, Pad, DepthToSpace, Dropout)
