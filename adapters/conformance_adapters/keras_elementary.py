"""Keras's dense layer, normalisation and activations as subjects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from conformance.layout import Parameter
from conformance_adapters.keras_subject import KerasSubject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.trace import Request


class Dense(KerasSubject):
    """`keras.layers.Dense`."""

    name = "keras.layers.Dense"
    layer = "linear"
    weight_names = ("kernel", "bias")
    parameters = (Parameter("kernel", "kernel", "channel out -> channel out"), Parameter("bias", "bias", "out -> out"))

    def __init__(self, request: Request) -> None:
        from keras import layers

        super().__init__(request)
        width, units = request.weights["kernel"].shape
        self.instance = layers.Dense(units, use_bias="bias" in request.weights, dtype=request.dtype, name="dense")
        self.instance.build((None, width))
        self.load(self.instance, request.weights)

    def weights(self) -> dict[str, NDArray[Any]]:
        """The canonical weights, read back out of the layer."""
        return self.read(self.instance)

    def __call__(self) -> Any:
        """The output, `... out`."""
        return self.instance(self.given["x"], training=False)


class LayerNormalization(KerasSubject):
    """`keras.layers.LayerNormalization`."""

    name = "keras.layers.LayerNormalization"
    layer = "layer_norm"
    weight_names = ("scale", "bias")
    options: ClassVar = {"axes": None, "epsilon": None}
    parameters = (Parameter("gamma", "scale", "... -> ..."), Parameter("beta", "bias", "... -> ..."))

    def __init__(self, request: Request) -> None:
        from keras import layers

        super().__init__(request)
        self.instance = layers.LayerNormalization(
            axis=list(range(-request.config["axes"], 0)),
            **request.given("epsilon", epsilon=request.config["epsilon"]),
            scale="scale" in request.weights,
            center="bias" in request.weights,
            dtype=request.dtype,
            name="layer_normalization",
        )
        self.instance.build(request.inputs["x"].shape)
        self.load(self.instance, request.weights)

    def weights(self) -> dict[str, NDArray[Any]]:
        """The canonical weights, read back out of the layer."""
        return self.read(self.instance)

    def __call__(self) -> Any:
        """The normalised input, scaled and shifted."""
        return self.instance(self.given["x"], training=False)


class Softmax(KerasSubject):
    """`keras.layers.Softmax`."""

    name = "keras.layers.Softmax"
    layer = "softmax"
    options: ClassVar = {"axis": None}

    def __init__(self, request: Request) -> None:
        from keras import layers

        super().__init__(request)
        self.instance = layers.Softmax(
            **request.given("axis", axis=request.config["axis"]), dtype=request.dtype, name="softmax"
        )

    def __call__(self) -> Any:
        """The softmax along the configured axis."""
        return self.instance(self.given["x"], training=False)


class Gelu(KerasSubject):
    """`keras.activations.gelu`."""

    name = "keras.activations.gelu"
    layer = "gelu"
    options: ClassVar = {"approximation": ("none", "tanh")}

    def __call__(self) -> Any:
        """The activation of every element."""
        from keras import activations

        tanh = self.request.config["approximation"] == "tanh"
        return activations.gelu(self.given["x"], **self.request.given("approximation", approximate=tanh))
