"""ConvTranspose, as it is met in somebody's ONNX graph."""

from __future__ import annotations

from typing import Any

from conformance_adapters.onnx_nodes import Arrays, Conv, refuse
from conformance_adapters.onnx_transposed import ConvTranspose as ConvTransposeSubject


class ConvTranspose(Conv):
    """ConvTranspose, channels second. Its pads are what is cut off."""

    layer = "conv_transpose{axes}d"
    kinds = (("", "ConvTranspose"),)

    def config(self) -> dict[str, Any]:
        """As of a convolution, without groups, and with what is not cut off after."""
        made, given = super().config(), self.attributes
        groups, output_padding = made.pop("groups"), list(given.get("output_padding", [0] * self.axes))
        refuse(groups != 1, f"ConvTranspose of {groups} groups")
        refuse("output_shape" in given, "ConvTranspose that is told its output_shape")
        named = given.get("auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER")
        refuse(named and any(output_padding), f"ConvTranspose of {given.get('auto_pad')} with an output_padding")
        kernel = self.weight(1) if named else None
        if kernel is not None:
            extents = [d * (k - 1) + 1 for d, k in zip(made["dilation"], kernel.shape[2:], strict=True)]
            gaps = any(s > extent for s, extent in zip(made["strides"], extents, strict=True))
            refuse(gaps, f"ConvTranspose of {given['auto_pad']} whose stride is greater than its window")
        return {**made, "output_padding": output_padding}

    def weights(self) -> Arrays:
        """`*space out in`."""
        return self.read(ConvTransposeSubject, {"W": self.weight(1), "B": self.weight(2)})


TRANSPOSED = (ConvTranspose,)
