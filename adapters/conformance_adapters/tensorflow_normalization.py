"""TensorFlow's own operations for normalisation as subjects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformance.layout import Parameter
from conformance_adapters.tensorflow_subject import TensorFlowSubject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.trace import Request


class InstanceNorm(TensorFlowSubject):
    """`tf.nn.moments` over space, then `tf.nn.batch_normalization`, which only applies them."""

    name = "tf.nn.moments+tf.nn.batch_normalization"
    layer = "instance_norm"
    weight_names = ("scale", "bias")
    options: ClassVar = {"epsilon": None}
    parameters = (
        Parameter("scale", "scale", "channel -> channel"),
        Parameter("offset", "bias", "channel -> channel"),
    )

    def __call__(self) -> Any:
        """`batch *space channel`."""
        import tensorflow as tf

        x = self.given["x"]
        mean, variance = tf.nn.moments(x, list(range(1, x.ndim - 1)), keepdims=True)
        offset, scale = self.variables.get("offset"), self.variables.get("scale")
        return tf.nn.batch_normalization(x, mean, variance, offset, scale, self.config["epsilon"])


class BatchNorm(TensorFlowSubject):
    """`tf.nn.batch_normalization`, which only applies the statistics; in training those of `tf.nn.moments`."""

    name = "tf.nn.batch_normalization"
    layer = "batch_norm"
    weight_names = ("scale", "bias", "moving_mean", "moving_variance")
    options: ClassVar = {"epsilon": None, "momentum": None, "training": (False, True)}
    parameters = (
        *InstanceNorm.parameters,
        Parameter("mean", "moving_mean", "channel -> channel"),
        Parameter("variance", "moving_variance", "channel -> channel"),
    )

    def __call__(self) -> Any:
        """`batch *space channel`."""
        import tensorflow as tf

        x, held = self.given["x"], self.variables
        mean, variance = held["mean"], held["variance"]
        if self.config["training"]:
            mean, variance = tf.nn.moments(x, list(range(x.ndim - 1)))
        return tf.nn.batch_normalization(
            x, mean, variance, held.get("offset"), held.get("scale"), self.config["epsilon"]
        )


class FusedBatchNorm(BatchNorm):
    """`tf.compat.v1.nn.fused_batch_norm`, of images and volumes, which always has a scale and a bias.

    What it averages with is the weight of the new.
    """

    name = "tf.compat.v1.nn.fused_batch_norm"

    @classmethod
    def reason(cls, request: Request) -> str | None:
        """It is for two or three axes of space, and its kernels for three formats."""
        if request.inputs["x"].ndim not in (4, 5):
            return "is for two or three axes of space"
        return "computes in float32, at most" if request.dtype == "float64" else None

    def complete(self, request: Request) -> Mapping[str, NDArray[Any]]:
        """The weights; scale and bias that change nothing, where there are none."""
        channels = request.inputs["x"].shape[-1]
        return {"scale": np.ones(channels), "bias": np.zeros(channels), **request.weights}

    def __call__(self) -> Any:
        """`batch *space channel`; in training the new moving averages come with it."""
        import tensorflow as tf

        x = self.given["x"]
        # Its statistics, scale and bias are float32 whatever x is.
        held = {n: tf.cast(v, tf.float32) for n, v in self.variables.items()}
        training = self.config["training"]
        return tf.compat.v1.nn.fused_batch_norm(
            x,
            held["scale"],
            held["offset"],
            held["mean"],
            held["variance"],
            self.config["epsilon"],
            data_format="NHWC" if x.ndim == 4 else "NDHWC",
            is_training=training,
            exponential_avg_factor=1 - self.config["momentum"] if training else 1.0,
        )[0]


SUBJECTS = (InstanceNorm, BatchNorm, FusedBatchNorm)
