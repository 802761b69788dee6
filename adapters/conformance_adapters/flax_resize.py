"""JAX's resizing."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from conformance_adapters.jax_subject import JaxSubject
from conformance_adapters.resize_sizes import only_sizes, other_kernel, sizes

if TYPE_CHECKING:
    import jax

    from conformance.trace import Request


class Resize(JaxSubject):
    """jax.image.resize, told whether to antialias, which it does by default."""

    name: ClassVar[str] = "jax.image.resize"
    layer: ClassVar[str] = "resize"
    methods: ClassVar = {"nearest": "nearest", "bilinear": "linear", "bicubic": "cubic"}

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """It has one placement of the coordinates, and one kernel of each kind."""
        config = request.config
        if config["coordinates"] != "half-pixel":
            return f"it has no {config['coordinates']} coordinates"
        if config["mode"] == "nearest" and config["nearest_rounding"] != "half-up":
            return f"it has no nearest element with {config['nearest_rounding']}"
        return only_sizes(request) or other_kernel(request, -0.5, "excluded")

    def forward(self) -> jax.Array:
        """`batch *resized channel`."""
        import jax

        x = self.inputs["x"]
        shape = (x.shape[0], *sizes(self.request), x.shape[-1])
        return jax.image.resize(x, shape, self.methods[self.config["mode"]], antialias=self.config["antialias"])


SUBJECTS = (Resize,)
