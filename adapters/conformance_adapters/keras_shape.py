"""Keras's embedding, and its layers and functions that move elements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from conformance.errors import Unsupported
from conformance.layout import Parameter
from conformance_adapters.keras_subject import KerasSubject
from conformance_adapters.window_padding import pad_pairs, spaces

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.trace import Request


class Embedding(KerasSubject):
    """`keras.layers.Embedding`."""

    name = "keras.layers.Embedding"
    layer = "embedding"
    inputs = ("indices",)
    weight_names = ("table",)
    parameters = (Parameter("embeddings", "table", "index dim -> index dim"),)

    def __init__(self, request: Request) -> None:
        from keras import layers

        super().__init__(request)
        self.instance = layers.Embedding(*request.weights["table"].shape, dtype=request.dtype, name="embedding")
        self.instance.build(request.inputs["indices"].shape)
        self.load(self.instance, request.weights)

    def weights(self) -> dict[str, NDArray[Any]]:
        """The table, read back out of the layer."""
        return self.read(self.instance)

    def __call__(self) -> Any:
        """The rows, `... dim`."""
        return self.instance(self.given["indices"])


class Flatten(KerasSubject):
    """`keras.layers.Flatten`, of channels last."""

    name = "keras.layers.Flatten"
    layer = "flatten"

    def __init__(self, request: Request) -> None:
        from keras import layers

        super().__init__(request)
        self.instance = layers.Flatten(data_format="channels_last", dtype=request.dtype)

    def __call__(self) -> Any:
        """The output, `batch feature`."""
        return self.instance(self.given["x"])


class Dropout(KerasSubject):
    """`keras.layers.Dropout`, at inference."""

    name = "keras.layers.Dropout"
    layer = "dropout"
    options: ClassVar = {"rate": None}

    def __init__(self, request: Request) -> None:
        from keras import layers

        super().__init__(request)
        self.instance = layers.Dropout(request.config["rate"], dtype=request.dtype)

    def __call__(self) -> Any:
        """What it is given."""
        return self.instance(self.given["x"], training=False)


class ZeroPadding(KerasSubject):
    """`keras.layers.ZeroPadding`, over `axes` spatial axes."""

    layer = "pad"
    options: ClassVar = {"padding": None, "mode": ("constant",), "value": (0, 0.0)}
    axes: ClassVar[int]

    @classmethod
    def over(cls, axes: int) -> type[ZeroPadding]:
        """The subject of so many spatial axes."""
        own = {"name": f"keras.layers.ZeroPadding{axes}D", "axes": axes, "__doc__": cls.__doc__}
        return type(cls.__name__, (cls,), own)

    @classmethod
    def reason(cls, request: Request) -> str | None:
        """Another number of axes, and taking away."""
        if spaces(request) != cls.axes:
            return f"it pads {cls.axes} axes, not {spaces(request)}"
        return "it takes nothing away" if min(min(p) for p in pad_pairs(request)) < 0 else None

    def __init__(self, request: Request) -> None:
        from keras import layers

        super().__init__(request)
        pairs: Any = pad_pairs(request)
        named = {} if self.axes == 1 else {"data_format": "channels_last"}
        kind = getattr(layers, f"ZeroPadding{self.axes}D")
        self.instance = kind(pairs[0] if self.axes == 1 else pairs, dtype=request.dtype, **named)

    def __call__(self) -> Any:
        """The output, `batch *padded channel`."""
        return self.instance(self.given["x"])


MODES = {
    "constant": "constant",
    "reflect": "reflect",
    "symmetric": "symmetric",
    "replicate": "edge",
    "circular": "wrap",
}
KNOWN = {  # what Keras says that its back ends have
    "jax": tuple(MODES),
    "tensorflow": ("constant", "reflect", "symmetric"),
    "torch": ("constant", "reflect", "symmetric", "circular"),
}


class Pad(KerasSubject):
    """`keras.ops.pad`."""

    name = "keras.ops.pad"
    layer = "pad"
    options: ClassVar = {"padding": None, "mode": None, "value": None}

    @classmethod
    def reason(cls, request: Request) -> str | None:
        """A mode that the back end has not, and taking away."""
        mode = request.config["mode"]
        if mode not in KNOWN[cls.backend]:
            return f"has no mode {mode!r} on {cls.backend}"
        return "it takes nothing away" if min(min(p) for p in pad_pairs(request)) < 0 else None

    def __call__(self) -> Any:
        """The output, `batch *padded channel`. Raises Unsupported where the back end does not pad so many axes."""
        from keras import ops

        mode = self.request.config["mode"]
        named = {"constant_values": self.request.config["value"]} if mode == "constant" else {}
        spelled = "circular" if (mode, self.backend) == ("circular", "torch") else MODES[mode]
        try:
            return ops.pad(self.given["x"], ((0, 0), *pad_pairs(self.request), (0, 0)), mode=spelled, **named)
        except NotImplementedError as error:
            raise Unsupported(f"keras.ops.pad on {self.backend}: {error}") from error


class DepthToSpace(KerasSubject):
    """`keras.ops.depth_to_space`, whose channels are the fastest of a block."""

    name = "keras.ops.depth_to_space"
    layer = "pixel_shuffle"
    options: ClassVar = {"factor": None, "mode": ("DCR",)}

    def __call__(self) -> Any:
        """The output, `batch rows columns out`. Raises Unsupported where this version has none."""
        from keras import ops

        if not hasattr(ops, "depth_to_space"):
            raise Unsupported("this version of Keras has no depth_to_space")
        return ops.depth_to_space(self.given["x"], self.request.config["factor"], data_format="channels_last")


ZERO_PADDING = tuple(ZeroPadding.over(axes) for axes in (1, 2, 3))
SUBJECTS: tuple[type[KerasSubject], ...] = (Embedding, Flatten, *ZERO_PADDING, Pad, DepthToSpace, Dropout)
