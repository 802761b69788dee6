"""ONNX's operators that move elements: Gather, Flatten, Pad, DepthToSpace and Dropout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from conformance.layout import Parameter
from conformance_adapters.onnx_subject import OnnxSubject
from conformance_adapters.window_padding import pad_pairs

if TYPE_CHECKING:
    from conformance.trace import Request

PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


class Gather(OnnxSubject):
    """Gather of the rows of a table."""

    name: ClassVar[str] = "onnx.Gather"
    layer: ClassVar[str] = "embedding"

    def layouts(self) -> Sequence[Parameter]:
        """As it is."""
        return [Parameter("table", "table", "index dim -> index dim")]

    def build(self) -> str:
        """`... dim`."""
        return self.graph.add("Gather", "table", self.input("indices"), name="output", axis=0)


class Flatten(OnnxSubject):
    """Flatten, given channels last."""

    name: ClassVar[str] = "onnx.Flatten"
    layer: ClassVar[str] = "flatten"

    def build(self) -> str:
        """`batch feature`."""
        return self.graph.add("Flatten", self.input("x"), name="output", axis=1)


class Pad(OnnxSubject):
    """Pad."""

    name: ClassVar[str] = "onnx.Pad"
    layer: ClassVar[str] = "pad"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """A mode that it has not."""
        mode = request.config["mode"]
        return None if mode in PAD_MODES else f"it has no mode {mode}"

    def build(self) -> str:
        """`batch *padded channel`: all beginnings, then all ends."""
        pairs = ((0, 0), *pad_pairs(self.request), (0, 0))
        amounts = np.array([side for sides in zip(*pairs, strict=True) for side in sides], np.int64)
        named = [self.input("x"), self.graph.initializer("pads", amounts)]
        if self.config["mode"] == "constant":
            named.append(self.graph.initializer("value", np.array(float(self.config["value"]))))
        return self.graph.add("Pad", *named, name="output", mode=PAD_MODES[self.config["mode"]])


class DepthToSpace(OnnxSubject):
    """DepthToSpace, channels second, between two Transposes."""

    name: ClassVar[str] = "onnx.DepthToSpace"
    layer: ClassVar[str] = "pixel_shuffle"

    def build(self) -> str:
        """`batch rows columns out`."""
        x = self.graph.add("Transpose", self.input("x"), name="x.channel_second", perm=[0, 3, 1, 2])
        options = {"blocksize": self.config["factor"], "mode": self.config["mode"]}
        shuffled = self.graph.add("DepthToSpace", x, name="shuffled", **options)
        return self.graph.add("Transpose", shuffled, name="output", perm=[0, 2, 3, 1])


class Dropout(OnnxSubject):
    """Dropout, which is not told to train: its ratio is then of no consequence."""

    name: ClassVar[str] = "onnx.Dropout"
    layer: ClassVar[str] = "dropout"

    def build(self) -> str:
        """What it is given."""
        return self.graph.add("Dropout", self.input("x"), name="output")


SUBJECTS = (Gather, Flatten, Pad, DepthToSpace, Dropout)
