"""Flax's pools, which are functions that flax.nnx and flax.linen share, and JAX's reductions over all of a channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from conformance_adapters.jax_subject import JaxSubject
from conformance_adapters.window_padding import per_axis, spaces

if TYPE_CHECKING:
    import jax

    from conformance.trace import Request

PADDING = {"valid": "VALID", "same-upper": "SAME", "same-lower": "SAME_LOWER"}


class MaxPool(JaxSubject):
    """flax.linen.max_pool, which is flax.nnx.max_pool: jax.lax.reduce_window."""

    name: ClassVar[str] = "flax.linen.max_pool"
    layer: ClassVar[str] = "max_pool{axes}d"

    @classmethod
    def over(cls, axes: int) -> type[MaxPool]:
        """The subject of so many spatial axes."""
        return type(cls.__name__, (cls,), {"layer": cls.layer.format(axes=axes), "__doc__": cls.__doc__})

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """The number of windows is rounded down."""
        padding = request.config["padding"]
        if isinstance(padding, str) and padding not in PADDING:
            return f"it has no {padding} padding"
        return "it has no ceil_mode" if request.config["ceil_mode"] else None

    def arguments(self) -> dict[str, Any]:
        """Window, strides and padding."""
        axes, padding = spaces(self.request), self.config["padding"]
        return {
            "window_shape": per_axis(self.config["size"], axes),
            "strides": per_axis(self.config["strides"], axes),
            "padding": PADDING[padding] if isinstance(padding, str) else [tuple(pair) for pair in padding],
        }

    def forward(self) -> jax.Array:
        """`batch *space channel`."""
        from flax import linen

        return linen.max_pool(self.inputs["x"], **self.arguments())


class AvgPool(MaxPool):
    """flax.linen.avg_pool, told whether to count its padding."""

    name: ClassVar[str] = "flax.linen.avg_pool"
    layer: ClassVar[str] = "average_pool{axes}d"

    def forward(self) -> jax.Array:
        """`batch *space channel`."""
        from flax import linen

        counted = self.config["count_include_pad"]
        return linen.avg_pool(self.inputs["x"], **self.arguments(), count_include_pad=counted)


class GlobalAveragePool(JaxSubject):
    """jax.numpy.mean over the spatial axes."""

    name: ClassVar[str] = "jax.numpy.mean"
    layer: ClassVar[str] = "global_average_pool"

    def forward(self) -> jax.Array:
        """`batch channel`."""
        import jax.numpy as jnp

        x = self.inputs["x"]
        return jnp.mean(x, axis=tuple(range(1, x.ndim - 1)))


class GlobalMaxPool(JaxSubject):
    """jax.numpy.max over the spatial axes."""

    name: ClassVar[str] = "jax.numpy.max"
    layer: ClassVar[str] = "global_max_pool"

    def forward(self) -> jax.Array:
        """`batch channel`."""
        import jax.numpy as jnp

        x = self.inputs["x"]
        return jnp.max(x, axis=tuple(range(1, x.ndim - 1)))


SUBJECTS = (*(kind.over(axes) for kind in (MaxPool, AvgPool) for axes in (1, 2, 3)), GlobalAveragePool, GlobalMaxPool)
