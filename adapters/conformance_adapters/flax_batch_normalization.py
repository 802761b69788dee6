"""Flax's BatchNorm as a subject. Its moving averages are variables of a kind of their own, which training changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from conformance.errors import Unsupported
from conformance.layout import Parameter
from conformance.trace import Request
from conformance_adapters.jax_subject import LinenSubject, NnxSubject

if TYPE_CHECKING:
    import jax

_AVERAGES = ("mean", "var")


class _BatchNorm:
    layer: ClassVar[str] = "batch_norm"
    fast: ClassVar[bool] = True
    request: Request
    config: Mapping[str, Any]
    dtype: Any

    def layouts(self) -> Sequence[Parameter]:
        """As they are."""
        names = {"scale": "scale", "bias": "bias", "mean": "moving_mean", "var": "moving_variance"}
        return [Parameter(own, canonical, "channel -> channel") for own, canonical in names.items()]

    def options(self) -> dict[str, Any]:
        """The constructor's arguments; what is Flax's default is left out."""
        weights, given = self.request.weights, self.request.given
        named: dict[str, Any] = {
            **given("epsilon", epsilon=self.config["epsilon"]),
            **given("momentum", momentum=self.config["momentum"]),
            "use_scale": "scale" in weights,
            "use_bias": "bias" in weights,
            "param_dtype": self.dtype,
        }
        if not self.fast:
            named["use_fast_variance"] = False
        return named


class NnxBatchNorm(_BatchNorm, NnxSubject):
    """flax.nnx.BatchNorm, whose default variance is E[x²] - E[x]²."""

    name: ClassVar[str] = "flax.nnx.BatchNorm"

    def make(self) -> Any:
        """The module."""
        from flax import nnx

        return nnx.BatchNorm(self.request.inputs["x"].shape[-1], rngs=nnx.Rngs(0), **self.options())

    def kinds(self) -> Any:
        """Parameters and moving averages."""
        from flax import nnx

        return nnx.Param, nnx.BatchStat

    def apply(self, module: Any) -> jax.Array:
        """`batch *space channel`."""
        return module(self.inputs["x"], use_running_average=not self.config["training"])


class LinenBatchNorm(_BatchNorm, LinenSubject):
    """flax.linen.BatchNorm, whose default variance is E[x²] - E[x]²."""

    name: ClassVar[str] = "flax.linen.BatchNorm"

    def make(self) -> Any:
        """The module."""
        from flax import linen

        return linen.BatchNorm(**self.options())

    def load(self, parameters: Mapping[str, jax.Array]) -> None:
        """The parameters, and beside them the moving averages."""
        super().load({n: p for n, p in parameters.items() if n not in _AVERAGES})
        self.variables["batch_stats"] = {n: parameters[n] for n in _AVERAGES}

    def parameters(self) -> Mapping[str, jax.Array]:
        """The leaves of both."""
        return {**super().parameters(), **self.variables["batch_stats"]}

    def arguments(self) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """x, and whether its own averages are to be used, where the module does not say."""
        said = self.module.use_running_average is not None
        return (self.inputs["x"],), {} if said else {"use_running_average": not self.config["training"]}

    def forward(self) -> jax.Array:
        """`batch *space channel`."""
        if not self.config["training"]:
            return super().forward()
        positional, named = self.arguments()
        return self.module.apply(self.variables, *positional, **named, mutable=["batch_stats"])[0]


class NnxBatchNormTwoPass(NnxBatchNorm):
    """flax.nnx.BatchNorm with the variance as E[(x - E[x])²]."""

    name: ClassVar[str] = "flax.nnx.BatchNorm(use_fast_variance=False)"
    fast: ClassVar[bool] = False

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """Without training there is no variance to take."""
        return None if request.config["training"] else "in inference it is as with the default"


class LinenBatchNormTwoPass(LinenBatchNorm):
    """flax.linen.BatchNorm with the variance as E[(x - E[x])²]."""

    name: ClassVar[str] = "flax.linen.BatchNorm(use_fast_variance=False)"
    fast: ClassVar[bool] = False

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """Without training there is no variance to take."""
        return None if request.config["training"] else "in inference it is as with the default"


def batch_config(module: Any) -> dict[str, Any]:
    """The config of a user's BatchNorm for inference. Raises Unsupported for what the canonical layer has not."""
    from flax import linen

    if module.axis not in (-1, (-1,), [-1]):
        raise Unsupported(f"its axis is {module.axis}; a canonical channel is the last axis")
    if isinstance(module, linen.Module) and module.use_running_average is False:
        raise Unsupported("it was made for training (use_running_average=False)")
    return {"epsilon": float(module.epsilon), "momentum": float(module.momentum), "training": False}


SUBJECTS = (NnxBatchNorm, NnxBatchNormTwoPass, LinenBatchNorm, LinenBatchNormTwoPass)
