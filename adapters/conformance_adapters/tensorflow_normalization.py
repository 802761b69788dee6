"""TensorFlow's own operations for normalisation as subjects."""

from __future__ import annotations

from typing import Any, ClassVar

from conformance.layout import Parameter
from conformance_adapters.tensorflow_subject import TensorFlowSubject


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


SUBJECTS = (InstanceNorm,)
