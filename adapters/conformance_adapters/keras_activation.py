"""Keras's activations, a row of a table each: its functions, and the layers that it has of some of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from conformance.layout import Parameter
from conformance_adapters.keras_subject import KerasSubject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.trace import Request


def named_options(named: Mapping[str, str], request: Request) -> dict[str, Any]:
    """The config of `request` under Keras's names, without what is left to Keras."""
    options: dict[str, Any] = {}
    for name, own in named.items():
        options |= request.given(name, **{own: request.config[name]})
    return options


class ActivationFunction(KerasSubject):
    """`keras.activations.<function>`; `named` maps the config's names to the function's for the same."""

    function: ClassVar[str]
    named: ClassVar[Mapping[str, str]] = {}

    def __call__(self) -> Any:
        """The activation of every element; of a gated unit, half as many."""
        from keras import activations

        return getattr(activations, self.function)(self.given["x"], **named_options(self.named, self.request))


class ActivationLayer(KerasSubject):
    """`keras.layers.<kind>`; `named` is as in `ActivationFunction`."""

    kind: ClassVar[str]
    named: ClassVar[Mapping[str, str]] = {}

    def __init__(self, request: Request) -> None:
        from keras import layers

        super().__init__(request)
        self.instance = getattr(layers, self.kind)(**named_options(self.named, request), dtype=request.dtype)

    @classmethod
    def read(cls, layer: Any) -> dict[str, Any]:
        """The config of a layer of this kind."""
        return {name: float(getattr(layer, own)) for name, own in cls.named.items()}

    def __call__(self) -> Any:
        """The activation of every element."""
        return self.instance(self.given["x"])


class PReLU(KerasSubject):
    """`keras.layers.PReLU`, whose slopes are shared along every axis on which there is but one."""

    name = "keras.layers.PReLU"
    layer = "prelu"
    weight_names = ("slope",)
    parameters = (Parameter("alpha", "slope", "... -> ..."),)

    def __init__(self, request: Request) -> None:
        from keras import layers

        super().__init__(request)
        shape, slope = request.inputs["x"].shape, request.weights["slope"]
        sizes = (1,) * (len(shape) - 1 - slope.ndim) + slope.shape
        shared = [axis for axis, (size, whole) in enumerate(zip(sizes, shape[1:], strict=True), 1) if size != whole]
        self.instance = layers.PReLU(shared_axes=shared or None, dtype=request.dtype, name="prelu")
        self.instance.build(shape)
        self.load(self.instance, {"slope": slope.reshape(sizes)})

    @classmethod
    def reason(cls, request: Request) -> str | None:
        """Its slopes are those of one sample."""
        axes = request.inputs["x"].ndim - 1
        return None if request.weights["slope"].ndim <= axes else f"its slopes have {axes} axes"

    def weights(self) -> dict[str, NDArray[Any]]:
        """The slopes, in the axes in which they were given."""
        return {n: a.reshape(self.request.weights[n].shape) for n, a in self.read(self.instance).items()}

    def __call__(self) -> Any:
        """The shape of x."""
        return self.instance(self.given["x"])


def _function(function: str, layer: str = "", **named: str) -> type[ActivationFunction]:
    name = f"keras.activations.{function}"
    made = {"name": name, "layer": layer or function, "function": function, "named": named}
    return type(function, (ActivationFunction,), {**made, "options": dict.fromkeys(named), "__doc__": f"`{name}`."})


def _layer(kind: str, layer: str, **named: str) -> type[ActivationLayer]:
    name = f"keras.layers.{kind}"
    made = {"name": name, "layer": layer, "kind": kind, "named": named}
    return type(kind, (ActivationLayer,), {**made, "options": dict.fromkeys(named), "__doc__": f"`{name}`."})


FUNCTIONS = (
    _function("relu"),
    _function("leaky_relu", slope="negative_slope"),
    _function("elu", alpha="alpha"),
    _function("selu"),
    _function("celu", alpha="alpha"),
    _function("silu"),
    _function("mish"),
    _function("sigmoid"),
    _function("log_sigmoid"),
    _function("hard_sigmoid"),
    _function("hard_silu"),
    _function("tanh"),
    _function("softplus"),
    _function("softsign"),
    _function("relu6"),
    _function("glu", axis="axis"),
    _function("log_softmax", axis="axis"),
)
LAYERS = (
    _layer("ReLU", "relu"),
    _layer("LeakyReLU", "leaky_relu", slope="negative_slope"),
    _layer("ELU", "elu", alpha="alpha"),
)
SUBJECTS: Sequence[type[KerasSubject]] = (*FUNCTIONS, *LAYERS, PReLU)
