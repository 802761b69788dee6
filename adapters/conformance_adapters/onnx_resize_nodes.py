"""Resize, as it is met in somebody's ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance_adapters.onnx_nodes import Arrays, Operator, refuse
from conformance_adapters.onnx_resize import FRAMES, MODES, ROUNDINGS

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Resize(Operator):
    """Resize of the axes between the first and the channels, the second or the last."""

    layer = "resize"
    kinds = (("", "Resize"), ("", "Upsample"))

    def _asked(self) -> tuple[str, list[float]]:
        """Whether sizes or scales are given, and those of every axis of x."""
        scales, sizes = self.weight(2 if self.node.op_type == "Resize" else 1), self.weight(3)
        given = sizes if scales is None or not scales.size else scales
        refuse(given is None, "a Resize of which neither the sizes nor the scales are known")
        assert given is not None
        held = [float(n) for n in given.ravel()]
        chosen = self.attributes.get("axes")
        name = "size" if given is sizes else "scale"
        if chosen is None:
            return name, held
        shape = self.wiring.shape(self.inputs["x"])
        refuse(shape is None, "a Resize of some axes, of an x of which the size is not known")
        every = [float(n) if name == "size" else 1.0 for n in shape or ()]
        for axis, number in zip(chosen, held, strict=True):
            every[axis] = number
        return name, every

    def _stays(self, axis: int) -> bool:
        """Whether an axis keeps its size, as the batch and the channels do."""
        name, every = self._asked()
        if name == "scale":
            return every[axis] == 1
        shape = self.wiring.shape(self.inputs["x"])
        refuse(shape is None, "a Resize to a size, of an x of which the size is not known")
        return shape is not None and shape[axis] == every[axis]

    def _second(self) -> bool:
        """Whether the channels are the second axis."""
        return self._stays(1)

    def config(self) -> dict[str, Any]:
        """The size or the scale, the mode, and how coordinates and weights are made."""
        given = self.attributes
        mode, frame = given.get("mode", "nearest"), given.get("coordinate_transformation_mode", "half_pixel")
        if self.node.op_type == "Upsample" or self.wiring.opset < 11:
            frame = "asymmetric"
        named = {own: canonical for canonical, own in MODES.items()}
        frames = {own: canonical for canonical, own in FRAMES.items()}
        refuse(frame not in frames, f"a Resize with {frame} coordinates")
        refuse(given.get("keep_aspect_ratio_policy", "stretch") != "stretch", "a Resize that keeps the aspect ratio")
        name, every = self._asked()
        refuse(len(every) < 3, "a Resize of fewer than three axes")
        refuse(not self._stays(0), "a Resize of the first axis, which is the batch")
        refuse(not self._second() and not self._stays(-1), "a Resize of the channels too")
        space = every[2:] if self._second() else every[1:-1]
        rounding = given.get("nearest_mode", "round_prefer_floor")
        if self.node.op_type == "Upsample" or self.wiring.opset < 11:
            rounding = "floor"
        return {
            name: [int(n) for n in space] if name == "size" else space,
            "mode": named.get(mode, mode),
            "coordinates": frames[frame],
            "nearest_rounding": {own: canonical for canonical, own in ROUNDINGS.items()}[rounding],
            "cubic_coefficient": given.get("cubic_coeff_a", -0.75),
            "outside": "excluded" if given.get("exclude_outside") else "edge",
            "antialias": bool(given.get("antialias", 0)),
        }

    def canonical(self, values: Mapping[str, NDArray[Any]]) -> Arrays:
        """Channels last."""
        return {"x": self.given(values["x"])}

    def fed(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Channels where they were."""
        return {"x": np.moveaxis(inputs["x"], -1, 1) if self._second() else inputs["x"]}

    def given(self, output: NDArray[Any]) -> NDArray[Any]:
        """Channels last."""
        return np.moveaxis(output, 1, -1) if self._second() else output


RESIZE = (Resize,)
