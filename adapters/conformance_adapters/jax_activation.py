"""JAX's activations, a row of a table each, and Flax's PReLU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from conformance.layout import Parameter
from conformance_adapters.jax_subject import JaxSubject, LinenSubject, NnxSubject

if TYPE_CHECKING:
    import jax

    from conformance.trace import Request


class Activation(JaxSubject):
    """jax.nn.<function>; `options` maps the config's names to the function's for the same."""

    function: ClassVar[str]
    options: ClassVar[Mapping[str, str]] = {}

    def forward(self) -> jax.Array:
        """The activation of every element; of a gated unit, half as many."""
        import jax

        options: dict[str, Any] = {}
        for name, own in self.options.items():
            options |= self.request.given(name, **{own: self.config[name]})
        return getattr(jax.nn, self.function)(self.inputs["x"], **options)


def _function(function: str, layer: str = "", **options: str) -> type[Activation]:
    named = {"name": f"jax.nn.{function}", "layer": layer or function, "function": function, "options": options}
    return type(function, (Activation,), {**named, "__doc__": f"jax.nn.{function}."})


class _Prelu:
    layer: ClassVar[str] = "prelu"
    request: Request

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """It has one slope."""
        slopes = request.weights["slope"].size
        return None if slopes == 1 else f"it has one slope, not {slopes}"

    def layouts(self) -> Sequence[Parameter]:
        """A number without an axis, where the request may have one of size one."""
        slope = self.request.weights.get("slope")
        ones = "" if slope is None else " ".join("1" for _ in slope.shape)
        return [Parameter("negative_slope", "slope", f"{ones} ->")]


class NnxPrelu(_Prelu, NnxSubject):
    """flax.nnx.PReLU."""

    name: ClassVar[str] = "flax.nnx.PReLU"

    def make(self) -> Any:
        """The module."""
        from flax import nnx

        return nnx.PReLU(param_dtype=self.dtype)


class LinenPrelu(_Prelu, LinenSubject):
    """flax.linen.PReLU."""

    name: ClassVar[str] = "flax.linen.PReLU"

    def make(self) -> Any:
        """The module."""
        from flax import linen

        return linen.PReLU(param_dtype=self.dtype)


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
    _function("soft_sign", "softsign"),
    _function("relu6"),
    _function("glu", axis="axis"),
    _function("log_softmax", axis="axis"),
)
SUBJECTS: Sequence[type[JaxSubject]] = (*FUNCTIONS, NnxPrelu, LinenPrelu)
