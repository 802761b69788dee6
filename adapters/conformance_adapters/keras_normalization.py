"""Keras's normalisation layers other than LayerNormalization as subjects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from conformance.errors import Unsupported
from conformance.layout import Parameter
from conformance_adapters.keras_subject import KerasSubject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.trace import Request


class RMSNormalization(KerasSubject):
    """`keras.layers.RMSNormalization`, which always has a scale."""

    name = "keras.layers.RMSNormalization"
    layer = "rms_norm"
    weight_names = ("scale",)
    options: ClassVar = {"epsilon": None}
    parameters = (Parameter("scale", "scale", "channel -> channel"),)

    def __init__(self, request: Request) -> None:
        import numpy as np
        from keras import layers

        super().__init__(request)
        shape = request.inputs["x"].shape
        self.instance = layers.RMSNormalization(
            **request.given("epsilon", epsilon=request.config["epsilon"]), dtype=request.dtype, name="rms_normalization"
        )
        self.instance.build(shape)
        self.load(self.instance, {"scale": np.ones(shape[-1]), **request.weights})

    def weights(self) -> dict[str, NDArray[Any]]:
        """The canonical weights, read back out of the layer."""
        return self.read(self.instance)

    def __call__(self) -> Any:
        """The shape of x."""
        return self.instance(self.given["x"], training=False)

    @classmethod
    def read_config(cls, layer: Any) -> dict[str, Any]:
        """The config of a user's layer. Raises Unsupported where it is not over the last axis."""
        axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
        rank = len((layer.get_build_config() or {}).get("input_shape") or ())
        if [a - rank if a >= 0 else a for a in axes] != [-1]:
            raise Unsupported(f"{cls.name} over other axes than the last: {axes}")
        return {"epsilon": layer.epsilon}


class GroupNormalization(KerasSubject):
    """`keras.layers.GroupNormalization`, channels last."""

    name = "keras.layers.GroupNormalization"
    layer = "group_norm"
    weight_names = ("scale", "bias")
    options: ClassVar = {"groups": None, "epsilon": None}
    parameters = (
        Parameter("gamma", "scale", "channel -> channel"),
        Parameter("beta", "bias", "channel -> channel"),
    )

    def __init__(self, request: Request) -> None:
        from keras import layers

        super().__init__(request)
        self.instance = layers.GroupNormalization(
            groups=request.config.get("groups", -1),
            **request.given("epsilon", epsilon=request.config["epsilon"]),
            scale="scale" in request.weights,
            center="bias" in request.weights,
            dtype=request.dtype,
            name="group_normalization",
        )
        self.instance.build(request.inputs["x"].shape)
        self.load(self.instance, request.weights)

    def weights(self) -> dict[str, NDArray[Any]]:
        """The canonical weights, read back out of the layer."""
        return self.read(self.instance)

    def __call__(self) -> Any:
        """`batch *space channel`."""
        return self.instance(self.given["x"], training=False)

    @classmethod
    def read_config(cls, layer: Any) -> dict[str, Any]:
        """The config of a user's layer. Raises Unsupported where its channels are not last."""
        rank = len((layer.get_build_config() or {}).get("input_shape") or ())
        if layer.axis not in (-1, rank - 1):
            raise Unsupported(f"{cls.name} with its channels in the axis {layer.axis}, not the last")
        return {"groups": layer.groups, "epsilon": layer.epsilon}


class InstanceNormalization(GroupNormalization):
    """`keras.layers.GroupNormalization` with as many groups as there are channels."""

    name = "keras.layers.GroupNormalization(groups=-1)"
    layer = "instance_norm"
    options: ClassVar = {"epsilon": None}


class BatchNormalization(KerasSubject):
    """`keras.layers.BatchNormalization`, channels last."""

    name = "keras.layers.BatchNormalization"
    layer = "batch_norm"
    weight_names = ("scale", "bias", "moving_mean", "moving_variance")
    options: ClassVar = {"epsilon": None, "momentum": None, "training": (False, True)}
    parameters = (
        Parameter("gamma", "scale", "channel -> channel"),
        Parameter("beta", "bias", "channel -> channel"),
        Parameter("moving_mean", "moving_mean", "channel -> channel"),
        Parameter("moving_variance", "moving_variance", "channel -> channel"),
    )

    def __init__(self, request: Request) -> None:
        from keras import layers

        super().__init__(request)
        self.instance = layers.BatchNormalization(
            **request.given("epsilon", epsilon=request.config["epsilon"]),
            **request.given("momentum", momentum=request.config["momentum"]),
            scale="scale" in request.weights,
            center="bias" in request.weights,
            dtype=request.dtype,
            name="batch_normalization",
        )
        self.instance.build(request.inputs["x"].shape)
        self.load(self.instance, request.weights)

    def weights(self) -> dict[str, NDArray[Any]]:
        """The canonical weights, read back out of the layer."""
        return self.read(self.instance)

    def __call__(self) -> Any:
        """`batch *space channel`; in training the layer is called without a state, and stays as it is."""
        if not self.request.config["training"]:
            return self.instance(self.given["x"], training=False)
        held = (
            [v.value for v in self.instance.trainable_variables],
            [v.value for v in self.instance.non_trainable_variables],
        )
        return self.instance.stateless_call(*held, self.given["x"], training=True)[0]

    @classmethod
    def read_config(cls, layer: Any) -> dict[str, Any]:
        """The config of a user's layer for inference. Raises Unsupported where its channels are not last."""
        rank = len((layer.get_build_config() or {}).get("input_shape") or ())
        if layer.axis not in (-1, rank - 1):
            raise Unsupported(f"{cls.name} with its channels in the axis {layer.axis}, not the last")
        return {"epsilon": layer.epsilon, "momentum": layer.momentum, "training": False}


SUBJECTS = (RMSNormalization, GroupNormalization, InstanceNormalization, BatchNormalization)
