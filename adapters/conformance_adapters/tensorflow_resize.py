"""TensorFlow's resizing: that of version 2, and that of version 1, whose coordinates are others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from conformance_adapters.resize_sizes import only_sizes, other_kernel, sizes
from conformance_adapters.tensorflow_subject import TensorFlowSubject
from conformance_adapters.window_padding import spaces

if TYPE_CHECKING:
    from conformance.trace import Request


class Resize(TensorFlowSubject):
    """`tf.image.resize`."""

    name = "tf.image.resize"
    layer = "resize"
    options: ClassVar = dict.fromkeys(
        ("size", "scale", "mode", "coordinates", "nearest_rounding", "cubic_coefficient", "outside", "antialias")
    )

    @classmethod
    def reason(cls, request: Request) -> str | None:
        """It resizes images, by the one placement of the coordinates and one kernel of each kind."""
        config = request.config
        if config["coordinates"] != "half-pixel":
            return f"it has no {config['coordinates']} coordinates"
        if config["mode"] == "nearest" and config["nearest_rounding"] != "half-up":
            return f"it has no nearest element with {config['nearest_rounding']}"
        return cls.not_an_image(request) or other_kernel(request, -0.5, "excluded")

    @classmethod
    def not_an_image(cls, request: Request) -> str | None:
        """Other than two axes, a scale that is no ratio, and a dtype that does not come out."""
        if spaces(request) != 2:
            return f"it has two spatial axes, not {spaces(request)}"
        if request.config["mode"] != "nearest" and request.dtype != "float32":
            return f"it gives float32, whatever it is given: no {request.dtype}"
        return only_sizes(request)

    def __call__(self) -> Any:
        """The output, `batch *resized channel`."""
        import tensorflow as tf

        size, config = list(sizes(self.request)), self.config
        return tf.image.resize(self.given["x"], size, config["mode"], antialias=config["antialias"])


class ResizeOfVersion1(Resize):
    """`tf.compat.v1.image.resize`, whose coordinates begin at the first element."""

    name = "tf.compat.v1.image.resize"

    @classmethod
    def reason(cls, request: Request) -> str | None:
        """It has two placements of the coordinates, and no antialias."""
        config = request.config
        frame = config["coordinates"]
        if frame not in ("asymmetric", "align-corners"):
            return f"it has no {frame} coordinates"
        rounding = {"asymmetric": "floor", "align-corners": "half-up"}[frame]
        if config["mode"] == "nearest" and config["nearest_rounding"] != rounding:
            return f"with {frame} coordinates it has no nearest element with {config['nearest_rounding']}"
        if config["antialias"]:
            return "it has no antialias"
        return cls.not_an_image(request) or other_kernel(request, -0.75, "edge")

    def __call__(self) -> Any:
        """The output, `batch *resized channel`."""
        import tensorflow as tf

        corners = self.config["coordinates"] == "align-corners"
        size = list(sizes(self.request))
        return tf.compat.v1.image.resize(self.given["x"], size, self.config["mode"], align_corners=corners)


SUBJECTS = (Resize, ResizeOfVersion1)
