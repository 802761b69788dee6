"""TensorFlow's own look-up of rows, padding and depth-to-space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from conformance.layout import Parameter
from conformance_adapters.tensorflow_subject import TensorFlowSubject
from conformance_adapters.window_padding import pad_pairs

if TYPE_CHECKING:
    from conformance.trace import Request


class EmbeddingLookup(TensorFlowSubject):
    """`tf.nn.embedding_lookup`, which is tf.gather."""

    name = "tf.nn.embedding_lookup"
    layer = "embedding"
    inputs = ("indices",)
    weight_names = ("table",)
    parameters = (Parameter("table", "table", "index dim -> index dim"),)

    def __call__(self) -> Any:
        """The rows, `... dim`."""
        import tensorflow as tf

        return tf.nn.embedding_lookup(self.variables["table"], self.given["indices"])


class Pad(TensorFlowSubject):
    """`tf.pad`."""

    name = "tf.pad"
    layer = "pad"
    options: ClassVar = {"padding": None, "mode": ("constant", "reflect", "symmetric"), "value": None}

    @classmethod
    def reason(cls, request: Request) -> str | None:
        """It only adds."""
        return "it takes nothing away" if min(min(p) for p in pad_pairs(request)) < 0 else None

    def __call__(self) -> Any:
        """The output, `batch *padded channel`."""
        import tensorflow as tf

        amounts = [[0, 0], *map(list, pad_pairs(self.request)), [0, 0]]
        return tf.pad(self.given["x"], amounts, self.config["mode"].upper(), constant_values=self.config["value"])


class DepthToSpace(TensorFlowSubject):
    """`tf.nn.depth_to_space`, whose channels are the fastest of a block."""

    name = "tf.nn.depth_to_space"
    layer = "pixel_shuffle"
    options: ClassVar = {"factor": None, "mode": ("DCR",)}

    def __call__(self) -> Any:
        """The output, `batch rows columns out`."""
        import tensorflow as tf

        return tf.nn.depth_to_space(self.given["x"], self.config["factor"])


SUBJECTS = (EmbeddingLookup, Pad, DepthToSpace)
