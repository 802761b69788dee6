"""Depthwise convolution: every channel is correlated with kernels of its own.

The input is `batch *space in`, the kernel `*space in multiplier`; output channel `c * multiplier + m` is that of input
channel c with its kernel m. It is a convolution of as many groups as there are channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from conformance.layer import Layer
from conformance.layers import arithmetic, convolution
from conformance.layers.convolution import Padding

if TYPE_CHECKING:
    from jaxtyping import Float

    from conformance.array import Array


def padded(
    x: Float[Array, "batch *space in"],
    kernel: Float[Array, "*window in multiplier"],
    strides: int,
    padding: Padding,
    dilation: int,
    *,
    conv_padding: str = "<config>",
    conv_same_padding: str = "<config>",
) -> Float[Array, "batch *padded in"]:
    return convolution.padded(
        x, kernel, strides, padding, dilation, conv_padding=conv_padding, conv_same_padding=conv_same_padding
    )


def counted(kernel: Array, choice: str) -> Array:
    """A kernel `*window in multiplier`, as whoever counts its last two axes in another order reads it.

    "multiplier,in" takes the buffer for `*window multiplier in`; with ":stored", a buffer of that is taken for the
    canonical.
    """
    *window, channels, multiplier = kernel.shape
    if choice == "multiplier,in":
        return np.swapaxes(np.reshape(kernel, (*window, multiplier, channels)), -1, -2)
    if choice == "multiplier,in:stored":
        return np.reshape(np.swapaxes(kernel, -1, -2), kernel.shape)
    return kernel


def convolved(
    padded: Float[Array, "batch *padded in"],
    kernel: Float[Array, "*window in multiplier"],
    strides: int,
    dilation: int,
    *,
    conv_flip: str = "correlation",
    conv_groups: str = "contiguous",
    conv_kernel_layout: str = "spatial,in,out",
    conv_multiplier_order: str = "in,multiplier",
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "batch *space out"]:
    """As of as many groups as there are channels: of one channel in, and of all that there are out."""
    *window, channels, multiplier = kernel.shape
    merged = np.reshape(counted(kernel, conv_multiplier_order), (*window, 1, channels * multiplier))
    return convolution.convolved(
        padded,
        merged,
        strides,
        dilation,
        channels,
        conv_flip=conv_flip,
        conv_groups=conv_groups,
        conv_kernel_layout=conv_kernel_layout,
        arithmetic_precision=arithmetic_precision,
    )


LAYERS = {
    "depthwise_conv2d": Layer.define(
        "depthwise_conv2d",
        summary="A correlation of each channel of the padded input with kernels of its own, along two axes.",
        formula="output[p, c M + m] = sum over offsets o of padded[stride p + dilation o, c] * kernel[o, c, m] + bias",
        source="Howard et al., MobileNets (2017), section 3.1; Chollet, Xception (2017)",
        inputs={"x": "batch height width in"},
        weights={"kernel": "window_height window_width in multiplier", "bias?": "out"},
        config={"strides": 1, "padding": "valid", "dilation": 1},
        steps={"padded": padded, "convolved": convolved, "output": convolution.output},
    )
}
