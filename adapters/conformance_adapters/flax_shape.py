"""Flax's embeddings and dropout, and JAX's padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from conformance.layout import Parameter
from conformance_adapters.jax_subject import JaxSubject, LinenSubject, NnxSubject
from conformance_adapters.window_padding import pad_pairs

if TYPE_CHECKING:
    import jax

    from conformance.trace import Request


class _Embed:
    layer: ClassVar[str] = "embedding"
    request: Request
    inputs: Mapping[str, jax.Array]
    dtype: Any

    def layouts(self) -> Sequence[Parameter]:
        """As it is."""
        return [Parameter("embedding", "table", "index dim -> index dim")]


class NnxEmbed(_Embed, NnxSubject):
    """flax.nnx.Embed."""

    name: ClassVar[str] = "flax.nnx.Embed"

    def make(self) -> Any:
        """The module, of the table's size."""
        from flax import nnx

        return nnx.Embed(*self.request.weights["table"].shape, param_dtype=self.dtype, rngs=nnx.Rngs(0))

    def apply(self, module: Any) -> jax.Array:
        """`... dim`."""
        return module(self.inputs["indices"])


class LinenEmbed(_Embed, LinenSubject):
    """flax.linen.Embed."""

    name: ClassVar[str] = "flax.linen.Embed"

    def make(self) -> Any:
        """The module, of the table's size."""
        from flax import linen

        return linen.Embed(*self.request.weights["table"].shape, param_dtype=self.dtype)

    def arguments(self) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """The indices."""
        return (self.inputs["indices"],), {}


class NnxDropout(NnxSubject):
    """flax.nnx.Dropout, told to be deterministic."""

    name: ClassVar[str] = "flax.nnx.Dropout"
    layer: ClassVar[str] = "dropout"

    def make(self) -> Any:
        """The module."""
        from flax import nnx

        return nnx.Dropout(self.config["rate"], deterministic=True)


class LinenDropout(LinenSubject):
    """flax.linen.Dropout, told to be deterministic."""

    name: ClassVar[str] = "flax.linen.Dropout"
    layer: ClassVar[str] = "dropout"

    def make(self) -> Any:
        """The module."""
        from flax import linen

        return linen.Dropout(self.config["rate"], deterministic=True)


class Pad(JaxSubject):
    """jax.numpy.pad."""

    name: ClassVar[str] = "jax.numpy.pad"
    layer: ClassVar[str] = "pad"
    modes: ClassVar = {"replicate": "edge", "circular": "wrap"}

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """It only adds."""
        return "it takes nothing away" if min(min(p) for p in pad_pairs(request)) < 0 else None

    def forward(self) -> jax.Array:
        """`batch *padded channel`."""
        import jax.numpy as jnp

        mode = self.config["mode"]
        named = {"constant_values": self.config["value"]} if mode == "constant" else {}
        amounts = ((0, 0), *pad_pairs(self.request), (0, 0))
        return jnp.pad(self.inputs["x"], amounts, self.modes.get(mode, mode), **named)


SUBJECTS = (NnxEmbed, LinenEmbed, Pad, NnxDropout, LinenDropout)
