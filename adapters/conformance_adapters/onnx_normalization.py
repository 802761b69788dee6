"""ONNX's normalisation operators other than LayerNormalization as subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformance.layout import Parameter
from conformance_adapters.onnx_subject import OnnxSubject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.trace import Request


class RMSNormalization(OnnxSubject):
    """RMSNormalization; decomposed, the observed model holds ONNX's function body in its place.

    In float64 it does not: the body computes in float32 (its stash_type), the runtime's kernel in float64.
    """

    name: ClassVar[str] = "onnx.RMSNormalization"
    layer: ClassVar[str] = "rms_norm"
    inlined = ("RMSNormalization",)

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """It has no bias."""
        return "it has no bias" if "bias" in request.weights else None

    def layouts(self) -> Sequence[Parameter]:
        """As it is."""
        return [Parameter("scale", "scale", "channel -> channel")]

    def neutral(self) -> Mapping[str, NDArray[Any]]:
        """The operator always has a scale."""
        return {"scale": np.ones(self.given["x"].shape[-1])}

    def build(self) -> str:
        """The shape of x."""
        if self.request.dtype == "float64":
            self.inlined = ()
        return self.graph.add(
            "RMSNormalization",
            self.input("x"),
            "scale",
            name="output",
            axis=-1,
            **self.request.given("epsilon", epsilon=self.config["epsilon"]),
        )


class SimplifiedLayerNormalization(RMSNormalization):
    """ONNX Runtime's own operator for it, which its exporters of language models write."""

    name: ClassVar[str] = "onnxruntime.SimplifiedLayerNormalization"
    inlined = ()

    def build(self) -> str:
        """The shape of x."""
        return self.graph.add(
            "SimplifiedLayerNormalization",
            self.input("x"),
            "scale",
            name="output",
            axis=-1,
            **self.request.given("epsilon", epsilon=self.config["epsilon"]),
        )


class _ChannelsSecond(OnnxSubject):
    """An operator between two Transposes, whose channels are the second axis. It always has a scale and a bias."""

    def layouts(self) -> Sequence[Parameter]:
        """As they are."""
        return [Parameter("scale", "scale", "channel -> channel"), Parameter("bias", "bias", "channel -> channel")]

    def neutral(self) -> Mapping[str, NDArray[Any]]:
        """Ones and zeros."""
        channels = self.given["x"].shape[-1]
        return {"scale": np.ones(channels), "bias": np.zeros(channels)}

    def between(self, operation: str, *weights: str, **attributes: Any) -> str:
        """The operator with its first input transposed, and its output back: `batch *space channel`."""
        ndim = self.given["x"].ndim
        first, last = [0, ndim - 1, *range(1, ndim - 1)], [0, *range(2, ndim), 1]
        x = self.graph.add("Transpose", self.input("x"), name="x.channel_second", perm=first)
        attributes |= self.request.given("epsilon", epsilon=self.config["epsilon"])
        made = self.graph.add(operation, x, *weights, name="normed", **attributes)
        return self.graph.add("Transpose", made, name="output", perm=last)


class GroupNormalization(_ChannelsSecond):
    """GroupNormalization with a scale for each channel; decomposed, ONNX's function body in its place."""

    name: ClassVar[str] = "onnx.GroupNormalization"
    layer: ClassVar[str] = "group_norm"
    inlined = ("GroupNormalization",)

    def build(self) -> str:
        """`batch *space channel`."""
        return self.between("GroupNormalization", "scale", "bias", num_groups=self.config["groups"])


class InstanceNormalization(_ChannelsSecond):
    """InstanceNormalization."""

    name: ClassVar[str] = "onnx.InstanceNormalization"
    layer: ClassVar[str] = "instance_norm"

    def build(self) -> str:
        """`batch *space channel`."""
        return self.between("InstanceNormalization", "scale", "bias")


class BatchNormalization(_ChannelsSecond):
    """BatchNormalization; in training it gives the new moving averages too."""

    name: ClassVar[str] = "onnx.BatchNormalization"
    layer: ClassVar[str] = "batch_norm"

    def layouts(self) -> Sequence[Parameter]:
        """As they are."""
        own = [("mean", "moving_mean"), ("var", "moving_variance")]
        return [*super().layouts(), *(Parameter(n, w, "channel -> channel") for n, w in own)]

    def build(self) -> str:
        """`batch *space channel`."""
        training = self.config["training"]
        momentum = self.request.given("momentum", momentum=self.config["momentum"]) if training else {}
        return self.between(
            "BatchNormalization",
            *("scale", "bias", "mean", "var"),
            also=("running_mean", "running_var") if training else (),
            training_mode=int(training),
            **momentum,
        )


SUBJECTS = (
    BatchNormalization,
    RMSNormalization,
    SimplifiedLayerNormalization,
    GroupNormalization,
    InstanceNormalization,
)
