"""Normalisation operators in somebody's ONNX graph, other than LayerNormalization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from conformance_adapters import onnx_normalization as subjects
from conformance_adapters.onnx_nodes import Operator, refuse

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arrays = dict[str, "NDArray[Any]"]

EPSILON = float(np.float32(1e-5))  # an attribute is a float32, whatever the dtype of the data


class RMSNormalization(Operator):
    """RMSNormalization, and ONNX Runtime's older SimplifiedLayerNormalization, which is the same."""

    layer = "rms_norm"
    kinds = (("", "RMSNormalization"), ("", "SimplifiedLayerNormalization"))

    def config(self) -> dict[str, Any]:
        """Over the last axis."""
        axis = self.attributes.get("axis", -1)
        last = axis == -1 or axis + 1 == self.wiring.axes(self.inputs["x"])
        refuse(not last, f"{self.node.op_type} over several axes, from {axis} on")
        return {"epsilon": self.attributes.get("epsilon", EPSILON)}

    def weights(self) -> Arrays:
        """As they are."""
        return self.read(subjects.RMSNormalization, {"scale": self.weight(1)})


NORMALIZATION = (RMSNormalization,)
