"""Convolution, as the field says it: a correlation of a padded input with a kernel.

Everything is written for any number of spatial axes; the input is `batch *space in`, the kernel
`*space in/groups out`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from conformance.correlation import correlation
from conformance.errors import ConformanceError
from conformance.layer import Layer
from conformance.layers import arithmetic
from conformance.refit import linear_in

if TYPE_CHECKING:
    from jaxtyping import Float

    from conformance.array import Array

Padding = str | Sequence[Sequence[int]]


def per_axis(value: int | Sequence[int], axes: int) -> tuple[int, ...]:
    """One number per spatial axis, from one for all or one for each."""
    return (value,) * axes if isinstance(value, int) else tuple(value)


def margins(
    padding: Padding, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> list[tuple[int, int]]:
    """How many zeros go before and after each spatial axis.

    "same" gives ceil(size / stride) outputs; the odd zero goes after ("same-upper") or before
    ("same-lower"). "symmetric" is torch's kernel // 2 on both sides.
    """
    if not isinstance(padding, str):
        return [(int(before), int(after)) for before, after in padding]
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if padding == "valid":
        return [(0, 0)] * len(sizes)
    if padding == "symmetric":
        return [(extent // 2, extent // 2) for extent in extents]
    if padding == "causal":
        return [(extent - 1, 0) for extent in extents]
    if padding not in ("same-upper", "same-lower"):
        raise ConformanceError(
            f"unknown padding {padding!r}; it can be 'valid', 'same-upper', 'same-lower', 'causal' or pairs"
        )
    pairs = []
    for size, extent, stride in zip(sizes, extents, strides, strict=True):
        total = max((math.ceil(size / stride) - 1) * stride + extent - size, 0)
        small, large = total // 2, total - total // 2
        pairs.append((small, large) if padding == "same-upper" else (large, small))
    return pairs


def padded(
    x: Float[Array, "batch *space in"],
    kernel: Float[Array, "*window in_per_group out"],
    strides: int,
    padding: Padding,
    dilation: int,
    *,
    conv_padding: str = "<config>",
    conv_same_padding: str = "<config>",
) -> Float[Array, "batch *padded in"]:
    axes = x.ndim - 2
    same = isinstance(padding, str) and padding.startswith("same")
    if conv_same_padding != "<config>" and same:
        padding = conv_same_padding
    elif conv_padding == "valid" or (conv_padding != "<config>" and not same):
        padding = conv_padding
    pairs = margins(padding, x.shape[1:-1], kernel.shape[:axes], per_axis(strides, axes), per_axis(dilation, axes))
    return np.pad(x, [(0, 0), *pairs, (0, 0)]) if any(map(any, pairs)) else x


def windows(x: Array, size: Sequence[int], strides: Sequence[int], dilation: Sequence[int]) -> Array:
    """Every window of a padded `batch *space channel`: `batch *out channel *window`."""
    axes = tuple(range(1, x.ndim - 1))
    extents = tuple((k - 1) * d + 1 for k, d in zip(size, dilation, strict=True))
    whole = np.lib.stride_tricks.sliding_window_view(x, extents, axis=axes)
    step = [slice(None), *(slice(None, None, s) for s in strides), slice(None)]
    return whole[(*step, *(slice(None, None, d) for d in dilation))]


def laid_out(kernel: Array, choice: str) -> Array:
    """A kernel `*window in out`, as whoever takes it for another layout reads it.

    "out,in,spatial" takes the buffer for `out in *window`; with ":stored", a buffer of `out in *window` is taken
    for the canonical. Raises ValueError where height and width are to be swapped and differ.
    """
    window, (channels, out) = kernel.shape[:-2], kernel.shape[-2:]
    if choice == "out,in,spatial":
        return np.moveaxis(np.reshape(kernel, (out, channels, *window)), (0, 1), (-1, -2))
    if choice == "out,in,spatial:stored":
        return np.reshape(np.moveaxis(kernel, (-1, -2), (0, 1)), kernel.shape)
    if choice == "transposed-spatial":
        if len(window) < 2 or len(set(window)) > 1:
            raise ValueError("a window that is not square cannot be taken for its transpose")
        return np.transpose(kernel, (*reversed(range(len(window))), -2, -1))
    return kernel


@linear_in("kernel", groups="groups")
def convolved(
    padded: Float[Array, "batch *padded in"],
    kernel: Float[Array, "*window in_per_group out"],
    strides: int,
    dilation: int,
    groups: int,
    *,
    conv_flip: str = "correlation",
    conv_groups: str = "contiguous",
    conv_kernel_layout: str = "spatial,in,out",
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "batch *space out"]:
    axes = padded.ndim - 2
    kernel = laid_out(kernel, conv_kernel_layout)
    if conv_flip == "convolution":
        kernel = np.flip(kernel, axis=tuple(range(axes)))
    steps, apart = per_axis(strides, axes), per_axis(dilation, axes)
    result = arithmetic.bilinear(
        lambda x, k: correlation(x, k, steps, apart, groups),
        padded,
        kernel,
        math.prod(kernel.shape[:-1]),
        arithmetic_precision,
    )  # batch *space groups out/groups
    if conv_groups != "contiguous":
        result = np.swapaxes(result, -1, -2)
    return np.reshape(result, (*result.shape[:-2], kernel.shape[-1]))


@linear_in(vectors=("bias",))
def output(
    convolved: Float[Array, "batch *space out"],
    bias: Float[Array, " out"] | None = None,
    *,
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "batch *space out"]:
    return arithmetic.with_bias(convolved, bias, arithmetic_precision)


SPACE = {1: "time", 2: "height width", 3: "depth height width"}
WINDOW = {n: " ".join(f"window_{axis}" for axis in axes.split()) for n, axes in SPACE.items()}
_ALONG = {1: "one axis", 2: "two axes", 3: "three axes"}

LAYERS = {
    f"conv{axes}d": Layer.define(
        f"conv{axes}d",
        summary=f"A correlation of the padded input with a kernel, along {_ALONG[axes]}.",
        formula="output[p] = sum over offsets o and channels of padded[stride p + dilation o] * kernel[o] + bias",
        source="Dumoulin and Visin, A guide to convolution arithmetic for deep learning (2016)",
        inputs={"x": f"batch {SPACE[axes]} in"},
        weights={"kernel": f"{WINDOW[axes]} in/groups out", "bias?": "out"},
        config={"strides": 1, "padding": "valid", "dilation": 1, "groups": 1},
        steps={"padded": padded, "convolved": convolved, "output": output},
    )
    for axes in SPACE
}
