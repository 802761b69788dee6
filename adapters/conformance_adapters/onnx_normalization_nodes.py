"""Normalisation operators in somebody's ONNX graph, other than LayerNormalization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance_adapters import onnx_normalization as subjects
from conformance_adapters.onnx_nodes import Operator, refuse

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arrays = dict[str, "NDArray[Any]"]

EPSILON = float(np.float32(1e-5))  # an attribute is a float32, whatever the dtype of the data
_MOMENTUM = float(np.float32(0.9))


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


class _ChannelsSecond(Operator):
    def weights(self) -> Arrays:
        """As they are."""
        return self.read(subjects.InstanceNormalization, {"scale": self.weight(1), "bias": self.weight(2)})

    def canonical(self, values: Mapping[str, NDArray[Any]]) -> Arrays:
        """Channels last."""
        return {"x": self.given(values["x"])}

    def fed(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Channels second."""
        return {"x": np.moveaxis(inputs["x"], -1, 1)}

    def given(self, output: NDArray[Any]) -> NDArray[Any]:
        """Channels last."""
        return np.moveaxis(output, 1, -1)


class GroupNormalization(_ChannelsSecond):
    """GroupNormalization with a scale for each channel, as it is since opset 21."""

    layer = "group_norm"
    kinds = (("", "GroupNormalization"),)

    def config(self) -> dict[str, Any]:
        """Its groups and epsilon."""
        refuse(self.wiring.opset < 21, f"GroupNormalization of opset {self.wiring.opset}, with a scale for each group")
        return {"groups": self.attributes["num_groups"], "epsilon": self.attributes.get("epsilon", EPSILON)}


class InstanceNormalization(_ChannelsSecond):
    """InstanceNormalization."""

    layer = "instance_norm"
    kinds = (("", "InstanceNormalization"),)

    def config(self) -> dict[str, Any]:
        """Its epsilon."""
        return {"epsilon": self.attributes.get("epsilon", EPSILON)}


class BatchNormalization(_ChannelsSecond):
    """BatchNormalization by its moving averages, or by its own batch's mean and variance."""

    layer = "batch_norm"
    kinds = (("", "BatchNormalization"),)

    def config(self) -> dict[str, Any]:
        """Its epsilon; in training what the old averages weigh in the new. Before opset 14, training is told by
        further outputs alone."""
        epsilon = self.attributes.get("epsilon", EPSILON)
        old = self.wiring.opset < 14 and sum(bool(name) for name in self.node.output) > 1
        refuse(old, f"BatchNormalization of opset {self.wiring.opset} in training, whose averages are of no one form")
        if not self.attributes.get("training_mode"):
            return {"epsilon": epsilon, "training": False}
        return {"epsilon": epsilon, "training": True, "momentum": self.attributes.get("momentum", _MOMENTUM)}

    def weights(self) -> Arrays:
        """As they are."""
        names = ("scale", "bias", "mean", "var")
        return self.read(subjects.BatchNormalization, {n: self.weight(i) for i, n in enumerate(names, 1)})


NORMALIZATION = (BatchNormalization, RMSNormalization, GroupNormalization, InstanceNormalization)
