"""Flax's normalisation layers other than LayerNorm as subjects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from conformance.errors import Unsupported
from conformance.layout import Parameter
from conformance.trace import Request
from conformance_adapters.flax_batch_normalization import SUBJECTS as BATCH_NORM
from conformance_adapters.jax_subject import LinenSubject, NnxSubject


class _RMSNorm:
    layer: ClassVar[str] = "rms_norm"
    request: Request
    dtype: Any

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """It has no bias."""
        return "it has no bias" if "bias" in request.weights else None

    def layouts(self) -> Sequence[Parameter]:
        """As it is."""
        return [Parameter("scale", "scale", "channel -> channel")]

    def options(self) -> dict[str, Any]:
        """The constructor's arguments; what is Flax's default is left out."""
        return {
            **self.request.given("epsilon", epsilon=self.request.config["epsilon"]),
            "use_scale": "scale" in self.request.weights,
            "param_dtype": self.dtype,
        }


def rms_config(module: Any) -> dict[str, Any]:
    """The config of a user's RMSNorm. Raises Unsupported for what the canonical layer does not have."""
    if module.axis_name is not None:
        raise Unsupported(f"its statistics are shared between devices (axis_name={module.axis_name!r})")
    for option in ("reduction_axes", "feature_axes"):
        axes = getattr(module, option)
        if axes not in (-1, (-1,), [-1]):
            raise Unsupported(f"its {option} are {axes}; an RMS norm's is the last one, counted from the end")
    return {"epsilon": float(module.epsilon)}


def group_config(module: Any) -> dict[str, Any]:
    """The config of a user's GroupNorm. Raises Unsupported for what the canonical layer does not have."""
    if module.axis_name is not None:
        raise Unsupported(f"its statistics are shared between devices (axis_name={module.axis_name!r})")
    if module.reduction_axes is not None:
        raise Unsupported(f"its reduction_axes are {module.reduction_axes}, not all but the batch's")
    if module.num_groups is None:
        raise Unsupported(f"it tells the size of its groups (group_size={module.group_size}): give it num_groups")
    return {"groups": module.num_groups, "epsilon": float(module.epsilon)}


def instance_config(module: Any) -> dict[str, Any]:
    """The config of a user's InstanceNorm. Raises Unsupported for what the canonical layer does not have."""
    if module.axis_name is not None:
        raise Unsupported(f"its statistics are shared between devices (axis_name={module.axis_name!r})")
    if module.feature_axes not in (-1, (-1,), [-1]):
        raise Unsupported(f"its feature_axes are {module.feature_axes}; a canonical channel is the last axis")
    return {"epsilon": float(module.epsilon)}


class NnxRMSNorm(_RMSNorm, NnxSubject):
    """flax.nnx.RMSNorm."""

    name: ClassVar[str] = "flax.nnx.RMSNorm"

    def make(self) -> Any:
        """The module."""
        from flax import nnx

        return nnx.RMSNorm(self.request.inputs["x"].shape[-1], rngs=nnx.Rngs(0), **self.options())


class LinenRMSNorm(_RMSNorm, LinenSubject):
    """flax.linen.RMSNorm."""

    name: ClassVar[str] = "flax.linen.RMSNorm"

    def make(self) -> Any:
        """The module."""
        from flax import linen

        return linen.RMSNorm(**self.options())


class _ChannelNorm:
    fast: ClassVar[bool] = True
    request: Request
    dtype: Any

    def layouts(self) -> Sequence[Parameter]:
        """As they are."""
        return [Parameter("scale", "scale", "channel -> channel"), Parameter("bias", "bias", "channel -> channel")]

    def options(self) -> dict[str, Any]:
        """The constructor's arguments; what is Flax's default is left out."""
        config, weights = self.request.config, self.request.weights
        named: dict[str, Any] = {
            **self.request.given("epsilon", epsilon=config["epsilon"]),
            "use_scale": "scale" in weights,
            "use_bias": "bias" in weights,
            "param_dtype": self.dtype,
        }
        if "groups" in config:
            named["num_groups"] = config["groups"]
        if not self.fast:
            named["use_fast_variance"] = False
        return named

    @property
    def channels(self) -> int:
        """The number of channels."""
        return int(self.request.inputs["x"].shape[-1])


class NnxGroupNorm(_ChannelNorm, NnxSubject):
    """flax.nnx.GroupNorm, whose default variance is E[x²] - E[x]²."""

    name: ClassVar[str] = "flax.nnx.GroupNorm"
    layer: ClassVar[str] = "group_norm"

    def make(self) -> Any:
        """The module."""
        from flax import nnx

        return nnx.GroupNorm(self.channels, rngs=nnx.Rngs(0), **self.options())


class LinenGroupNorm(_ChannelNorm, LinenSubject):
    """flax.linen.GroupNorm, whose default variance is E[x²] - E[x]²."""

    name: ClassVar[str] = "flax.linen.GroupNorm"
    layer: ClassVar[str] = "group_norm"

    def make(self) -> Any:
        """The module."""
        from flax import linen

        return linen.GroupNorm(**self.options())


class NnxInstanceNorm(_ChannelNorm, NnxSubject):
    """flax.nnx.InstanceNorm, whose default variance is E[x²] - E[x]²."""

    name: ClassVar[str] = "flax.nnx.InstanceNorm"
    layer: ClassVar[str] = "instance_norm"

    def make(self) -> Any:
        """The module."""
        from flax import nnx

        return nnx.InstanceNorm(self.channels, rngs=nnx.Rngs(0), **self.options())


class LinenInstanceNorm(_ChannelNorm, LinenSubject):
    """flax.linen.InstanceNorm, whose default variance is E[x²] - E[x]²."""

    name: ClassVar[str] = "flax.linen.InstanceNorm"
    layer: ClassVar[str] = "instance_norm"

    def make(self) -> Any:
        """The module."""
        from flax import linen

        return linen.InstanceNorm(**self.options())


class NnxGroupNormTwoPass(NnxGroupNorm):
    """flax.nnx.GroupNorm with the variance as E[(x - E[x])²]."""

    name: ClassVar[str] = "flax.nnx.GroupNorm(use_fast_variance=False)"
    fast: ClassVar[bool] = False


class LinenGroupNormTwoPass(LinenGroupNorm):
    """flax.linen.GroupNorm with the variance as E[(x - E[x])²]."""

    name: ClassVar[str] = "flax.linen.GroupNorm(use_fast_variance=False)"
    fast: ClassVar[bool] = False


class NnxInstanceNormTwoPass(NnxInstanceNorm):
    """flax.nnx.InstanceNorm with the variance as E[(x - E[x])²]."""

    name: ClassVar[str] = "flax.nnx.InstanceNorm(use_fast_variance=False)"
    fast: ClassVar[bool] = False


class LinenInstanceNormTwoPass(LinenInstanceNorm):
    """flax.linen.InstanceNorm with the variance as E[(x - E[x])²]."""

    name: ClassVar[str] = "flax.linen.InstanceNorm(use_fast_variance=False)"
    fast: ClassVar[bool] = False


SUBJECTS = (
    NnxRMSNorm,
    LinenRMSNorm,
    NnxGroupNorm,
    NnxGroupNormTwoPass,
    LinenGroupNorm,
    LinenGroupNormTwoPass,
    NnxInstanceNorm,
    NnxInstanceNormTwoPass,
    LinenInstanceNorm,
    LinenInstanceNormTwoPass,
    *BATCH_NORM,
)
