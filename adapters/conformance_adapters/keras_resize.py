"""Keras's resizing layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from conformance_adapters.keras_subject import KerasSubject
from conformance_adapters.resize_sizes import factors, only_sizes, other_kernel, sizes
from conformance_adapters.window_padding import spaces

if TYPE_CHECKING:
    from conformance.trace import Request


class Resizing(KerasSubject):
    """`keras.layers.Resizing`: the kernels are those of tf.image.resize."""

    name = "keras.layers.Resizing"
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
        if spaces(request) != 2:
            return f"it has two spatial axes, not {spaces(request)}"
        return only_sizes(request) or other_kernel(request, -0.5, "excluded")

    def __init__(self, request: Request) -> None:
        from keras import layers

        super().__init__(request)
        config = request.config
        self.instance = layers.Resizing(
            *sizes(request),
            interpolation=config["mode"],
            antialias=config["antialias"],
            data_format="channels_last",
            dtype=request.dtype,
        )

    def __call__(self) -> Any:
        """The output, `batch *resized channel`."""
        return self.instance(self.given["x"])


class UpSampling2D(Resizing):
    """`keras.layers.UpSampling2D`, by whole numbers."""

    name = "keras.layers.UpSampling2D"

    @classmethod
    def reason(cls, request: Request) -> str | None:
        """It takes factors, and has no antialias."""
        given = factors(request)
        if given is None or any(not f.is_integer() for f in given):
            return "it takes whole factors"
        return "it has no antialias" if request.config["antialias"] else super().reason(request)

    def __init__(self, request: Request) -> None:
        from keras import layers

        KerasSubject.__init__(self, request)
        given = factors(request)
        assert given is not None
        self.instance = layers.UpSampling2D(
            tuple(int(f) for f in given),
            interpolation=request.config["mode"],
            data_format="channels_last",
            dtype=request.dtype,
        )


SUBJECTS: tuple[type[KerasSubject], ...] = (Resizing, UpSampling2D)
