"""ONNX's Resize."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformance_adapters.onnx_pooling import channel_last, channel_second
from conformance_adapters.onnx_subject import OnnxSubject
from conformance_adapters.resize_sizes import factors, kernel, sizes
from conformance_adapters.window_padding import spaces

if TYPE_CHECKING:
    from conformance.trace import Request

MODES = {"nearest": "nearest", "bilinear": "linear", "bicubic": "cubic"}
FRAMES = {
    "half-pixel": "half_pixel",
    "asymmetric": "asymmetric",
    "align-corners": "align_corners",
    "half-pixel-symmetric": "half_pixel_symmetric",
    "pytorch-half-pixel": "pytorch_half_pixel",
}
ROUNDINGS = {"half-up": "round_prefer_ceil", "half-down": "round_prefer_floor", "floor": "floor", "ceil": "ceil"}


class Resize(OnnxSubject):
    """Resize, channels second, between two Transposes."""

    name: ClassVar[str] = "onnx.Resize"
    layer: ClassVar[str] = "resize"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """What is outside is excluded by its cubic kernel alone."""
        config = request.config
        if config["antialias"] and config["mode"] == "bilinear" and config["outside"] == "excluded":
            return "antialiased, its linear mode repeats the edge"
        return None

    def attributes(self) -> dict[str, Any]:
        """The mode, the placement of the coordinates and the kernel."""
        config, (coefficient, outside) = self.config, kernel(self.config)
        named: dict[str, Any] = {
            "mode": MODES[config["mode"]],
            "coordinate_transformation_mode": FRAMES[config["coordinates"]],
        }
        if config["mode"] == "nearest":
            named["nearest_mode"] = ROUNDINGS[config["nearest_rounding"]]
        if config["mode"] == "bicubic":
            named |= {"cubic_coeff_a": coefficient, "exclude_outside": int(outside == "excluded")}
        if config["antialias"] and config["mode"] != "nearest":
            named["antialias"] = 1
        return named

    def build(self) -> str:
        """`batch *resized channel`."""
        axes, x = spaces(self.request), self.input("x")
        second = self.graph.add("Transpose", x, name="x.channel_second", perm=channel_second(axes))
        given = factors(self.request)
        batch, channel = self.given["x"].shape[0], self.given["x"].shape[-1]
        if given is None:
            whole = np.array([batch, channel, *sizes(self.request)], np.int64)
            inputs = [second, "", "", self.graph.initializer("sizes", whole)]
        else:
            self.graph.initializers["scales"] = np.array([1, 1, *given], np.float32)
            inputs = [second, "", "scales"]
        resized = self.graph.add("Resize", *inputs, name="resized", **self.attributes())
        return self.graph.add("Transpose", resized, name="output", perm=channel_last(axes))


SUBJECTS = (Resize,)
