"""JAX's and Flax's linear, normalisation, activation and convolution layers as subjects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from conformance.layout import Parameter
from conformance_adapters.jax_subject import JaxSubject, LinenSubject, NnxSubject

if TYPE_CHECKING:
    import jax

    from conformance.trace import Request


class Softmax(JaxSubject):
    """jax.nn.softmax."""

    name: ClassVar[str] = "jax.nn.softmax"
    layer: ClassVar[str] = "softmax"

    def forward(self) -> jax.Array:
        """The weights along the axis of the config."""
        import jax

        return jax.nn.softmax(self.inputs["x"], **self.request.given("axis", axis=self.config["axis"]))


class Gelu(JaxSubject):
    """jax.nn.gelu, which approximates unless it is told not to."""

    name: ClassVar[str] = "jax.nn.gelu"
    layer: ClassVar[str] = "gelu"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """It has the exact form and the one with tanh."""
        chosen = request.config["approximation"]
        return None if chosen in ("none", "tanh") else f"it has no {chosen} approximation"

    def forward(self) -> jax.Array:
        """The activation."""
        import jax

        tanh = self.config["approximation"] == "tanh"
        return jax.nn.gelu(self.inputs["x"], **self.request.given("approximation", approximate=tanh))


class _Linear:
    layer: ClassVar[str] = "linear"

    def layouts(self) -> Sequence[Parameter]:
        """As they are."""
        return [Parameter("kernel", "kernel", "channel out -> channel out"), Parameter("bias", "bias", "out -> out")]


class NnxLinear(_Linear, NnxSubject):
    """flax.nnx.Linear."""

    name: ClassVar[str] = "flax.nnx.Linear"

    def make(self) -> Any:
        """The module."""
        from flax import nnx

        weights = self.request.weights
        return nnx.Linear(
            *weights["kernel"].shape, use_bias="bias" in weights, param_dtype=self.dtype, rngs=nnx.Rngs(0)
        )


class LinenDense(_Linear, LinenSubject):
    """flax.linen.Dense."""

    name: ClassVar[str] = "flax.linen.Dense"

    def make(self) -> Any:
        """The module."""
        from flax import linen

        weights = self.request.weights
        return linen.Dense(weights["kernel"].shape[1], use_bias="bias" in weights, param_dtype=self.dtype)


class _LayerNorm:
    layer: ClassVar[str] = "layer_norm"
    fast: ClassVar[bool] = True
    request: Request
    dtype: Any

    def layouts(self) -> Sequence[Parameter]:
        """As they are."""
        return [Parameter("scale", "scale", "... -> ..."), Parameter("bias", "bias", "... -> ...")]

    def options(self) -> dict[str, Any]:
        """The constructor's arguments; what is Flax's default is left out."""
        config, weights = self.request.config, self.request.weights
        named: dict[str, Any] = {
            **self.request.given("epsilon", epsilon=config["epsilon"]),
            "use_scale": "scale" in weights,
            "use_bias": "bias" in weights,
            "param_dtype": self.dtype,
        }
        if config["axes"] != 1:
            named["reduction_axes"] = tuple(range(-config["axes"], 0))
        if not self.fast:
            named["use_fast_variance"] = False
        return named


class NnxLayerNorm(_LayerNorm, NnxSubject):
    """flax.nnx.LayerNorm, whose default variance is E[x²] - E[x]²."""

    name: ClassVar[str] = "flax.nnx.LayerNorm"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """Its scale and bias have one axis."""
        if request.config["axes"] != 1 and request.weights:
            return "its scale and bias have one axis"
        return None

    def make(self) -> Any:
        """The module."""
        from flax import nnx

        return nnx.LayerNorm(self.request.inputs["x"].shape[-1], rngs=nnx.Rngs(0), **self.options())


class LinenLayerNorm(_LayerNorm, LinenSubject):
    """flax.linen.LayerNorm, whose default variance is E[x²] - E[x]²."""

    name: ClassVar[str] = "flax.linen.LayerNorm"

    def make(self) -> Any:
        """The module."""
        from flax import linen

        named = self.options()
        if "reduction_axes" in named:
            named["feature_axes"] = named["reduction_axes"]
        return linen.LayerNorm(**named)


class NnxLayerNormTwoPass(NnxLayerNorm):
    """flax.nnx.LayerNorm with the variance as E[(x - E[x])²]."""

    name: ClassVar[str] = "flax.nnx.LayerNorm(use_fast_variance=False)"
    fast: ClassVar[bool] = False


class LinenLayerNormTwoPass(LinenLayerNorm):
    """flax.linen.LayerNorm with the variance as E[(x - E[x])²]."""

    name: ClassVar[str] = "flax.linen.LayerNorm(use_fast_variance=False)"
    fast: ClassVar[bool] = False


SUBJECTS = (
    Softmax,
    Gelu,
    NnxLinear,
    LinenDense,
    NnxLayerNorm,
    NnxLayerNormTwoPass,
    LinenLayerNorm,
    LinenLayerNormTwoPass,
)
