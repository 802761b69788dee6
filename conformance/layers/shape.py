"""Layers that move elements and compute nothing: flattening, padding, pixel shuffle, and dropout at inference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from conformance.errors import ConformanceError
from conformance.layer import Layer

if TYPE_CHECKING:
    from jaxtyping import Float

    from conformance.array import Array

CONFIG = "<config>"
PAD_MODES = {"reflect": "reflect", "symmetric": "symmetric", "replicate": "edge", "circular": "wrap"}
Amounts = int | Sequence[Sequence[int]]


def flattened(
    x: Float[Array, "batch *space channel"], *, flatten_order: str = "channels-last"
) -> Float[Array, "batch feature"]:
    if flatten_order == "channels-first":
        x = np.moveaxis(x, -1, 1)
    elif flatten_order == "column-major":
        x = np.transpose(x, (0, *range(x.ndim - 1, 0, -1)))
    return np.reshape(x, (x.shape[0], -1))


def pad_amounts(padding: Amounts, axes: int) -> list[tuple[int, int]]:
    """How much goes before and after each spatial axis, of one number for all sides or a pair for each axis.

    Raises ConformanceError for another number of pairs than axes.
    """
    if isinstance(padding, int):
        return [(padding, padding)] * axes
    if len(padding) != axes:
        raise ConformanceError(f"padding has {len(padding)} pairs for {axes} spatial axes; give one for each")
    return [(int(before), int(after)) for before, after in padding]


def padded(
    x: Float[Array, "batch *space channel"],
    padding: Amounts,
    mode: str,
    value: float,
    *,
    pad_mode: str = CONFIG,
    pad_axis_order: str = "first-axis-first",
) -> Float[Array, "batch *padded channel"]:
    pairs = pad_amounts(padding, x.ndim - 2)
    if pad_axis_order == "last-axis-first":
        pairs.reverse()
    mode = mode if pad_mode == CONFIG else pad_mode
    # What is taken away is cut off first, what is added comes after.
    x = x[(slice(None), *(slice(max(-b, 0), n - max(-a, 0)) for (b, a), n in zip(pairs, x.shape[1:-1], strict=True)))]
    widths = [(0, 0), *((max(b, 0), max(a, 0)) for b, a in pairs), (0, 0)]
    if mode == "constant":
        return np.pad(x, widths, constant_values=float(value))
    if mode not in PAD_MODES:
        raise ConformanceError(f"unknown mode {mode!r} of a padding; it can be constant, {', '.join(PAD_MODES)}")
    return np.pad(x, widths, mode=PAD_MODES[mode])  # type: ignore[call-overload]


def shuffled(
    x: Float[Array, "batch height width channel"], factor: int, mode: str, *, pixel_shuffle_mode: str = CONFIG
) -> Float[Array, "batch rows columns out"]:
    mode = mode if pixel_shuffle_mode == CONFIG else pixel_shuffle_mode
    batch, height, width, channels = x.shape
    out = channels // factor**2
    if out * factor**2 != channels:
        raise ConformanceError(f"{channels} channels are no multiple of factor * factor = {factor**2}")
    if mode == "CRD":
        blocks = np.moveaxis(np.reshape(x, (batch, height, width, out, factor, factor)), 3, -1)
    elif mode == "DCR":
        blocks = np.reshape(x, (batch, height, width, factor, factor, out))
    else:
        raise ConformanceError(f"unknown mode {mode!r} of a pixel shuffle; it can be 'CRD' or 'DCR'")
    return np.reshape(np.swapaxes(blocks, 2, 3), (batch, height * factor, width * factor, out))


def kept(x: Float[Array, "*shape"], rate: float, *, dropout_scaling: str = "none") -> Float[Array, "*shape"]:
    if dropout_scaling == "1-rate":
        return x * (1 - rate)
    return x / (1 - rate) if dropout_scaling == "1/(1-rate)" else x


flatten = Layer.define(
    "flatten",
    summary="All axes but the first as one, the last axis the fastest.",
    formula="output[b, (p, c)] = x[b, p, c]",
    source="LeCun, Bottou, Bengio, Haffner, Gradient-Based Learning Applied to Document Recognition (1998), section II",
    inputs={"x": "batch *space channel"},
    weights={},
    config={},
    steps={"output": flattened},
)

pad = Layer.define(
    "pad",
    summary="Elements around the spatial axes: a constant, the edge, a reflection, or the other side.",
    formula="output[b, p, c] = x[b, p - before, c], around it what the mode says",
    source="Dumoulin and Visin, A guide to convolution arithmetic for deep learning (2016), section 2; numpy.pad",
    inputs={"x": "batch *space channel"},
    weights={},
    config={"padding": 1, "mode": "constant", "value": 0.0},
    steps={"output": padded},
)

pixel_shuffle = Layer.define(
    "pixel_shuffle",
    summary="Channels laid out as blocks of pixels: the image grows by a factor along both axes.",
    formula="output[h r + i, w r + j, c] = x[h, w, c r^2 + i r + j]",
    source="Shi et al., Real-Time Single Image and Video Super-Resolution (2016), equation 4",
    inputs={"x": "batch height width channel"},
    weights={},
    config={"factor": 2, "mode": "CRD"},
    steps={"output": shuffled},
)

dropout = Layer.define(
    "dropout",
    summary="Dropout as it is at inference, where nothing is dropped; in training, what is kept was scaled.",
    formula="output = x",
    source="Srivastava et al., Dropout: A Simple Way to Prevent Neural Networks from Overfitting (2014), section 10",
    inputs={"x": "*shape"},
    weights={},
    config={"rate": 0.5},
    steps={"output": kept},
)

LAYERS = {made.name: made for made in (flatten, pad, pixel_shuffle, dropout)}
