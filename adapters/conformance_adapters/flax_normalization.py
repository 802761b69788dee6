"""Flax's normalisation layers other than LayerNorm as subjects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from conformance.errors import Unsupported
from conformance.layout import Parameter
from conformance.trace import Request
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
            "epsilon": self.request.config["epsilon"],
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


SUBJECTS = (NnxRMSNorm, LinenRMSNorm)
