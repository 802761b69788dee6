"""Depthwise separable convolution: a depthwise convolution, and a linear map of what each place then has.

The input is `batch *space in`, the depthwise kernel `*space in multiplier`, the pointwise kernel `depth out`, where
depth is as many as there are channels between the two: in times multiplier, channel by channel. The one bias is added
at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance.layer import Layer
from conformance.layers import arithmetic, depthwise_convolution
from conformance.layers.convolution import Padding
from conformance.layers.linear import oriented
from conformance.refit import linear_in

if TYPE_CHECKING:
    from jaxtyping import Float

    from conformance.array import Array


def padded(
    x: Float[Array, "batch *space in"],
    depthwise_kernel: Float[Array, "*window in multiplier"],
    strides: int,
    padding: Padding,
    dilation: int,
    *,
    conv_padding: str = "<config>",
    conv_same_padding: str = "<config>",
) -> Float[Array, "batch *padded in"]:
    return depthwise_convolution.padded(
        x, depthwise_kernel, strides, padding, dilation, conv_padding=conv_padding, conv_same_padding=conv_same_padding
    )


def convolved(
    padded: Float[Array, "batch *padded in"],
    depthwise_kernel: Float[Array, "*window in multiplier"],
    strides: int,
    dilation: int,
    *,
    conv_flip: str = "correlation",
    conv_groups: str = "contiguous",
    conv_kernel_layout: str = "spatial,in,out",
    conv_multiplier_order: str = "in,multiplier",
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "batch *space depth"]:
    return depthwise_convolution.convolved(
        padded,
        depthwise_kernel,
        strides,
        dilation,
        conv_flip=conv_flip,
        conv_groups=conv_groups,
        conv_kernel_layout=conv_kernel_layout,
        conv_multiplier_order=conv_multiplier_order,
        arithmetic_precision=arithmetic_precision,
    )


@linear_in("pointwise_kernel")
def pointwise(
    convolved: Float[Array, "batch *space depth"],
    pointwise_kernel: Float[Array, "depth out"],
    *,
    linear_kernel_orientation: str = "in,out",
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "batch *space out"]:
    kernel = oriented(pointwise_kernel, linear_kernel_orientation)
    return arithmetic.product(convolved, kernel, arithmetic_precision)


@linear_in(vectors=("bias",))
def output(
    pointwise: Float[Array, "batch *space out"],
    bias: Float[Array, " out"] | None = None,
    *,
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "batch *space out"]:
    return arithmetic.with_bias(pointwise, bias, arithmetic_precision)


LAYERS = {
    "separable_conv2d": Layer.define(
        "separable_conv2d",
        summary="A depthwise correlation along two axes, then a linear map of the channels at each place.",
        formula="output[p] = depthwise(padded)[p] @ pointwise_kernel + bias; depthwise(padded)[p, c M + m] = "
        "sum over offsets o of padded[stride p + dilation o, c] * depthwise_kernel[o, c, m]",
        source="Chollet, Xception: Deep Learning with Depthwise Separable Convolutions (2017), section 1; "
        "Howard et al., MobileNets (2017), section 3.1",
        inputs={"x": "batch height width in"},
        weights={
            "depthwise_kernel": "window_height window_width in multiplier",
            "pointwise_kernel": "depth out",
            "bias?": "out",
        },
        config={"strides": 1, "padding": "valid", "dilation": 1},
        steps={"padded": padded, "convolved": convolved, "pointwise": pointwise, "output": output},
    )
}
