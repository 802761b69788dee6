"""Transposed convolution: the convolution of an input with zeros between its elements, cropped.

It is what the gradient of a convolution does to its input: every element is multiplied with the whole kernel, and
what overlaps is added. Everything is written for any number of spatial axes; the input is `batch *space in`, the
kernel `*space out in`. `padding` is what the convolution that it transposes would pad, and is cropped here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from conformance.errors import ConformanceError
from conformance.layer import Layer
from conformance.layers import arithmetic, convolution
from conformance.layers.convolution import SPACE, WINDOW, Padding, per_axis
from conformance.refit import linear_in

if TYPE_CHECKING:
    from jaxtyping import Float

    from conformance.array import Array


def spread(x: Array, strides: Sequence[int]) -> Array:
    """`x` with `stride - 1` zeros between the elements of each spatial axis."""
    for axis, stride in enumerate(strides, start=1):
        size = x.shape[axis]
        apart = np.expand_dims(x, axis + 1)
        apart = np.pad(apart, [(0, stride - 1 if a == axis + 1 else 0) for a in range(apart.ndim)])
        x = np.reshape(apart, (*x.shape[:axis], size * stride, *x.shape[axis + 1 :]))
        x = x[(slice(None),) * axis + (slice(0, (size - 1) * stride + 1),)]
    return x


def convolved(
    x: Float[Array, "batch *space in"],
    kernel: Float[Array, "*window out in"],
    strides: int,
    dilation: int,
    *,
    conv_transpose_kernel_layout: str = "spatial,out,in",
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "batch *whole out"]:
    axes = x.ndim - 2
    # The buffer is read for another layout in the same way as that of a convolution: last axis first.
    layout, _, form = conv_transpose_kernel_layout.partition(":")
    if layout == "in,out,spatial":
        kernel = convolution.laid_out(kernel, "out,in,spatial" + (":" + form if form else ""))
    if layout != "unflipped":
        kernel = np.flip(kernel, axis=tuple(range(axes)))
    extents = [(k - 1) * d + 1 for k, d in zip(kernel.shape[:axes], per_axis(dilation, axes), strict=True)]
    between = spread(x, per_axis(strides, axes))
    padded = np.pad(between, [(0, 0), *((extent - 1, extent - 1) for extent in extents), (0, 0)])
    kernel = np.swapaxes(kernel, -1, -2)
    return convolution.convolved(padded, kernel, 1, dilation, 1, arithmetic_precision=arithmetic_precision)


def crops(
    padding: Padding, output_padding: Sequence[int], extents: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """How much is cut off before and after each axis; less than none is as many zeros.

    "same" leaves size * stride elements, and cuts the odd one after ("same-upper") or before ("same-lower").
    `output_padding` elements after are not cut off.
    """
    made: list[tuple[int, int]] = []
    if not isinstance(padding, str):
        made = [(int(before), int(after)) for before, after in padding]
    elif padding == "valid":
        made = [(0, 0)] * len(extents)
    elif padding in ("same-upper", "same-lower"):
        for extent, stride in zip(extents, strides, strict=True):
            total = extent - stride
            less, more = (total // 2, total - total // 2) if total > 0 else (0, total)
            made.append((less, more) if padding == "same-upper" or total < 0 else (more, less))
    else:
        raise ConformanceError(f"unknown padding {padding!r}; it can be 'valid', 'same-upper', 'same-lower' or pairs")
    return [(before, after - more) for (before, after), more in zip(made, output_padding, strict=True)]


@linear_in(vectors=("bias",))
def output(
    convolved: Float[Array, "batch *whole out"],
    kernel: Float[Array, "*window out in"],
    strides: int,
    padding: Padding,
    output_padding: int,
    dilation: int,
    bias: Float[Array, " out"] | None = None,
    *,
    conv_transpose_padding: str = "<config>",
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "batch *space out"]:
    axes = convolved.ndim - 2
    extents = [(k - 1) * d + 1 for k, d in zip(kernel.shape[:axes], per_axis(dilation, axes), strict=True)]
    pairs = crops(padding, per_axis(output_padding, axes), extents, per_axis(strides, axes))
    if conv_transpose_padding == "crop-upper":
        pairs = [(min(pair), max(pair)) for pair in pairs]
    elif conv_transpose_padding == "crop-lower":
        pairs = [(max(pair), min(pair)) for pair in pairs]
    cut, zeros = pairs, [(0, 0)] * axes
    if conv_transpose_padding == "crop-both":
        cut = [(max(pair), max(pair)) for pair in pairs]
        zeros = [(0, max(pair) - min(pair)) for pair in pairs]
    zeros = [(max(-b, 0), more + max(-a, 0)) for (b, a), (_, more) in zip(cut, zeros, strict=True)]
    sizes = convolved.shape[1:-1]
    kept = [slice(max(b, 0), size - max(a, 0)) for size, (b, a) in zip(sizes, cut, strict=True)]
    made = convolved[(slice(None), *kept)]
    if any(map(any, zeros)):
        made = np.pad(made, [(0, 0), *zeros, (0, 0)])
    return arithmetic.with_bias(made, bias, arithmetic_precision)


_ALONG = {1: "one axis", 2: "two axes", 3: "three axes"}
LAYERS = {
    f"conv_transpose{axes}d": Layer.define(
        f"conv_transpose{axes}d",
        summary=f"What the gradient of a convolution does to its input, along {_ALONG[axes]}.",
        formula="convolved[stride i + dilation o] = sum over i, o and channels of x[i] * kernel[o]; cropped, + bias",
        source="Dumoulin and Visin, A guide to convolution arithmetic for deep learning (2016), chapter 4",
        inputs={"x": f"batch {SPACE[axes]} in"},
        weights={"kernel": f"{WINDOW[axes]} out in", "bias?": "out"},
        config={"strides": 1, "padding": "valid", "output_padding": 0, "dilation": 1},
        steps={"convolved": convolved, "output": output},
    )
    for axes in SPACE
}
