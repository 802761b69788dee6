"""Depthwise and separable convolutions in plain PyTorch, JAX, TensorFlow, Keras and NumPy, right and wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow as tf
import torch
import torch.nn.functional as F
from clean import Clean, CleanCorpus
from keras_attention import keras, ops
from notebook import Notebook, in_numpy
from planted import Corpus, Planted
from problem import Problem, by_position, drawn
from problems import margins
from torch import Tensor
from watched_jax import in_jax
from watched_tensorflow import in_tensorflow

Weights = Mapping[str, Any]
Config = Mapping[str, Any]
Call = Callable[..., Any]

X = drawn("channelwise x", 2, 8, 10, 3)
STRIDES, DILATION = {"padding": "same-upper", "strides": 2}, {"padding": "valid", "strides": 1, "dilation": 2}
KERNEL = drawn("channelwise kernel", 3, 3, 3, 2)
DEPTHWISE = Problem("depthwise_conv2d", STRIDES, {"x": X}, {"kernel": KERNEL, "bias": drawn("channelwise bias", 6)})
# As many outputs as channels in front of the pointwise kernel, so that no shape gives its orientation away.
SEPARABLE = Problem(
    "separable_conv2d",
    STRIDES,
    {"x": X},
    {"depthwise_kernel": KERNEL, "pointwise_kernel": drawn("pointwise", 6, 6), "bias": drawn("separable bias", 6)},
)
DEPTHWISES = {"strides": DEPTHWISE, "dilation": DEPTHWISE.with_config(**DILATION)}
SEPARABLES = {"strides": SEPARABLE, "dilation": SEPARABLE.with_config(**DILATION)}

IN_TORCH, RIGHT_IN_TORCH = Corpus(), CleanCorpus()
IN_JAX, RIGHT_IN_JAX = Corpus("JAX", in_jax), CleanCorpus("JAX", in_jax)
IN_TENSORFLOW, RIGHT_IN_TENSORFLOW = Corpus("TensorFlow", in_tensorflow), CleanCorpus("TensorFlow", in_tensorflow)
IN_KERAS, RIGHT_IN_KERAS = Corpus("Keras", in_tensorflow), CleanCorpus("Keras", in_tensorflow)
IN_NUMPY, RIGHT_IN_NUMPY = Corpus("NumPy", in_numpy), CleanCorpus("NumPy", in_numpy)


def around(c: Config, x: Any, kernel: Any) -> list[tuple[int, int]]:
    """How many zeros go before and after each axis of x."""
    return margins(c, x, kernel) if c["padding"] == "same-upper" else [(0, 0)] * 4


# -------------------------------------------------------------------------------------------- PyTorch
def grouped(c: Config, x: Tensor, kernel: Tensor, weight: Tensor | None = None, **k: Any) -> Tensor:
    """torch's convolution of a group for each channel, of channels last; `weight` is the kernel as torch has it."""
    (_, _), (top, bottom), (left, right), _ = around(c, x, kernel)
    padded = F.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
    if weight is None:
        weight = kernel.permute(2, 3, 0, 1).flatten(0, 1)[:, None]
    options = {"stride": c["strides"], "dilation": c.get("dilation", 1), **k}
    return F.conv2d(padded, weight, groups=x.shape[-1], **options).permute(0, 2, 3, 1)


@RIGHT_IN_TORCH.add(DEPTHWISES)
def depthwise_in_groups(w: Weights, c: Config) -> Call:
    return lambda x: grouped(c, x, w["kernel"]) + w["bias"]


@RIGHT_IN_TORCH.add(DEPTHWISES)
def depthwise_one_channel_after_another(w: Weights, c: Config) -> Call:
    def call(x: Tensor) -> Tensor:
        made = [grouped(c, x[..., i : i + 1], w["kernel"][:, :, i : i + 1]) for i in range(3)]
        return torch.cat(made, dim=-1) + w["bias"]

    return call


@IN_TORCH.plant(DEPTHWISE, "convolved", {"conv.flip": "convolution"})
def DepthwiseFlipped(w: Weights, c: Config) -> Call:
    return lambda x: grouped(c, x, w["kernel"].flip(0, 1)) + w["bias"]


@IN_TORCH.plant(DEPTHWISE, "convolved", {"conv.multiplier-order": "multiplier,in"})
def DepthwiseTransposedAsAnyOtherKernel(w: Weights, c: Config) -> Call:
    """(H,W,C,M) to (M,C,H,W) and then to (M*C,1,H,W), of which torch takes the first two for the first channel."""
    weight = w["kernel"].permute(3, 2, 0, 1).reshape(6, 1, 3, 3)
    return lambda x: grouped(c, x, w["kernel"], weight) + w["bias"]


@IN_TORCH.plant(DEPTHWISE, "padded", {"conv.same-padding": "same-lower"})
def DepthwisePaddedAbove(w: Weights, c: Config) -> Call:
    def call(x: Tensor) -> Tensor:
        padded = F.pad(x.permute(0, 3, 1, 2), (1, 0, 1, 0)).permute(0, 2, 3, 1)
        return grouped({**c, "padding": "valid"}, padded, w["kernel"]) + w["bias"]

    return call


@RIGHT_IN_TORCH.add(SEPARABLES)
def separable_in_two_convolutions(w: Weights, c: Config) -> Call:
    def call(x: Tensor) -> Tensor:
        depth = grouped(c, x, w["depthwise_kernel"]).permute(0, 3, 1, 2)
        return F.conv2d(depth, w["pointwise_kernel"].T[:, :, None, None], w["bias"]).permute(0, 2, 3, 1)

    return call


@RIGHT_IN_TORCH.add(SEPARABLES)
def separable_as_one_convolution(w: Weights, c: Config) -> Call:
    """The product of the two kernels."""
    merged = torch.einsum("hwcm,cmo->ochw", w["depthwise_kernel"], w["pointwise_kernel"].unflatten(0, (3, 2)))

    def call(x: Tensor) -> Tensor:
        (_, _), (top, bottom), (left, right), _ = around(c, x, w["depthwise_kernel"])
        padded = F.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
        made = F.conv2d(padded, merged, w["bias"], c["strides"], dilation=c.get("dilation", 1))
        return made.permute(0, 2, 3, 1)

    return call


@IN_TORCH.plant(SEPARABLE, "pointwise", {"linear.kernel-orientation": "out,in"})
def SeparableByTransposedPointwiseKernel(w: Weights, c: Config) -> Call:
    return lambda x: grouped(c, x, w["depthwise_kernel"]) @ w["pointwise_kernel"].T + w["bias"]


@IN_TORCH.plant(SEPARABLE, "convolved", {"conv.groups": "interleaved"})
def SeparableOneMultiplierAfterAnother(w: Weights, c: Config) -> Call:
    """The channels of the first kernels, then those of the second."""

    def call(x: Tensor) -> Tensor:
        depth = [grouped(c, x, w["depthwise_kernel"][..., m : m + 1]) for m in range(2)]
        return torch.cat(depth, dim=-1) @ w["pointwise_kernel"] + w["bias"]

    return call


# ------------------------------------------------------------------------------------------------ JAX
def by_features(c: Config, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """jax.lax's convolution of a group for each channel."""
    return jax.lax.conv_general_dilated(
        x,
        kernel.reshape(3, 3, 1, 6),
        (c["strides"],) * 2,
        around(c, x, kernel)[1:3],
        rhs_dilation=(c.get("dilation", 1),) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=3,
    )


@RIGHT_IN_JAX.add(DEPTHWISES, compiled=True)
def jax_depthwise(w: Weights, c: Config) -> Call:
    return lambda x: by_features(c, x, w["kernel"]) + w["bias"]


@IN_JAX.plant(DEPTHWISE, "convolved", {"conv.kernel-layout": "transposed-spatial"})
def jax_depthwise_of_exchanged_axes(w: Weights, c: Config) -> Call:
    """Width in front of height, as MATLAB files read through HDF5 have them."""
    return lambda x: by_features(c, x, w["kernel"].swapaxes(0, 1)) + w["bias"]


@IN_JAX.plant(DEPTHWISE, "padded", {"conv.padding": "valid"})
def jax_depthwise_not_padded(w: Weights, c: Config) -> Call:
    """The output is smaller than it should be."""
    return lambda x: by_features({**c, "padding": "valid"}, x, w["kernel"]) + w["bias"]


@RIGHT_IN_JAX.add(SEPARABLES)
def jax_separable(w: Weights, c: Config) -> Call:
    return lambda x: by_features(c, x, w["depthwise_kernel"]) @ w["pointwise_kernel"] + w["bias"]


@IN_JAX.plant(SEPARABLE, "convolved", {"conv.flip": "convolution"})
def jax_separable_flipped(w: Weights, c: Config) -> Call:
    return lambda x: by_features(c, x, jnp.flip(w["depthwise_kernel"], (0, 1))) @ w["pointwise_kernel"] + w["bias"]


# ----------------------------------------------------------------------------------------- TensorFlow
def options(c: Config) -> dict[str, Any]:
    """Of TensorFlow's operations, whose SAME puts the odd pixel after."""
    padding = "SAME" if c["padding"].startswith("same") else "VALID"
    return {"strides": [1, c["strides"], c["strides"], 1], "padding": padding, "dilations": [c.get("dilation", 1)] * 2}


@RIGHT_IN_TENSORFLOW.add(DEPTHWISES)
def tensorflow_depthwise(w: Weights, c: Config) -> Call:
    return lambda x: tf.nn.bias_add(tf.nn.depthwise_conv2d(x, w["kernel"], **options(c)), w["bias"])


@IN_TENSORFLOW.plant(DEPTHWISE, "convolved", {"conv.flip": "convolution"})
def tensorflow_depthwise_flipped(w: Weights, c: Config) -> Call:
    return lambda x: tf.nn.depthwise_conv2d(x, w["kernel"][::-1, ::-1], **options(c)) + w["bias"]


@RIGHT_IN_TENSORFLOW.add(SEPARABLES, compiled=True)
def tensorflow_separable(w: Weights, c: Config) -> Call:
    kernels = w["depthwise_kernel"], w["pointwise_kernel"][None, None]
    return lambda x: tf.nn.bias_add(tf.nn.separable_conv2d(x, *kernels, **options(c)), w["bias"])


@IN_TENSORFLOW.plant(SEPARABLE.with_config(padding="same-lower"), "padded", {"conv.same-padding": "same-upper"})
def tensorflow_separable_padded_below(w: Weights, c: Config) -> Call:
    """For a model of ONNX's SAME_LOWER."""
    kernels = w["depthwise_kernel"], w["pointwise_kernel"][None, None]
    return lambda x: tf.nn.separable_conv2d(x, *kernels, **options(c)) + w["bias"]


# ---------------------------------------------------------------------------------------------- Keras
def given(c: Config) -> dict[str, Any]:
    """What Keras's functions and layers are told."""
    padding = "same" if c["padding"].startswith("same") else "valid"
    return {"strides": c["strides"], "padding": padding, "dilation_rate": c.get("dilation", 1)}


@RIGHT_IN_KERAS.add(DEPTHWISES)
def keras_depthwise(w: Weights, c: Config) -> Call:
    """The layer, with these weights."""
    layer = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, dtype=w["kernel"].dtype.name, **given(c))
    layer.build((None, None, None, 3))
    layer.set_weights([w["kernel"], w["bias"]])
    return by_position(layer)


@IN_KERAS.plant(DEPTHWISE, "output", {"weights.mismatch": "different weights"})
def keras_depthwise_without_bias(w: Weights, c: Config) -> Call:
    """As it is in front of a batch normalisation, which has one of its own."""
    layer = keras.layers.DepthwiseConv2D(
        3, depth_multiplier=2, use_bias=False, dtype=w["kernel"].dtype.name, **given(c)
    )
    layer.build((None, None, None, 3))
    layer.set_weights([w["kernel"]])
    return by_position(layer)


@RIGHT_IN_KERAS.add(SEPARABLES)
def keras_separable(w: Weights, c: Config) -> Call:
    kernels = w["depthwise_kernel"], w["pointwise_kernel"][None, None]
    return lambda x: ops.separable_conv(x, *kernels, **given(c)) + w["bias"]


@IN_KERAS.plant(SEPARABLE, "output", {"weights.mismatch": "different weights"})
def keras_separable_without_bias(w: Weights, c: Config) -> Call:
    kernels = w["depthwise_kernel"], w["pointwise_kernel"][None, None]
    return lambda x: ops.separable_conv(x, *kernels, **given(c))


# ---------------------------------------------------------------------------------------------- NumPy
def summed(c: Config, x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """A term for each offset of the kernel: `batch height width in multiplier`."""
    padded = np.pad(x, around(c, x, kernel))
    stride, dilation = c["strides"], c.get("dilation", 1)

    def seen(axis: int, offset: int) -> slice:
        first = offset * dilation
        return slice(first, first + padded.shape[axis] - 2 * dilation, stride)

    offsets = [(i, j) for i in range(3) for j in range(3)]
    return sum(padded[:, seen(1, i), seen(2, j), :, None] * kernel[i, j] for i, j in offsets)


def merged(made: np.ndarray) -> np.ndarray:
    """The last two axes as one."""
    return made.reshape(*made.shape[:-2], -1)


@RIGHT_IN_NUMPY.add(DEPTHWISES)
def numpy_depthwise(note: Notebook, w: Weights, c: Config) -> Call:
    return lambda x: note("add", note("multiply", merged(summed(c, x, w["kernel"]))) + w["bias"])


@IN_NUMPY.plant(DEPTHWISE, "convolved", {"conv.groups": "interleaved"})
def numpy_depthwise_one_multiplier_after_another(note: Notebook, w: Weights, c: Config) -> Call:
    def call(x: np.ndarray) -> np.ndarray:
        return note("add", note("multiply", merged(summed(c, x, w["kernel"]).swapaxes(-1, -2))) + w["bias"])

    return call


@IN_NUMPY.plant(DEPTHWISE, "convolved", {"conv.kernel-layout": "out,in,spatial"})
def numpy_depthwise_by_a_reshaped_kernel_of_torch(note: Notebook, w: Weights, c: Config) -> Call:
    """(C*M,1,H,W) taken for (H,W,C,M)."""
    stored = np.moveaxis(merged(w["kernel"]), -1, 0)
    kernel = stored.reshape(w["kernel"].shape)
    return lambda x: note("add", note("multiply", merged(summed(c, x, kernel))) + w["bias"])


@RIGHT_IN_NUMPY.add(SEPARABLES)
def numpy_separable(note: Notebook, w: Weights, c: Config) -> Call:
    def call(x: np.ndarray) -> np.ndarray:
        depth = note("depthwise", merged(summed(c, x, w["depthwise_kernel"])))
        return note("add", note("pointwise", depth @ w["pointwise_kernel"]) + w["bias"])

    return call


@IN_NUMPY.plant(SEPARABLE, "convolved", {"conv.kernel-layout": "transposed-spatial"})
def numpy_separable_of_exchanged_axes(note: Notebook, w: Weights, c: Config) -> Call:
    def call(x: np.ndarray) -> np.ndarray:
        depth = note("depthwise", merged(summed(c, x, w["depthwise_kernel"].swapaxes(0, 1))))
        return note("add", depth @ w["pointwise_kernel"] + w["bias"])

    return call


FAULTS: list[Planted] = [*IN_TORCH, *IN_JAX, *IN_TENSORFLOW, *IN_KERAS, *IN_NUMPY]
CLEAN: list[Clean] = [*RIGHT_IN_TORCH, *RIGHT_IN_JAX, *RIGHT_IN_TENSORFLOW, *RIGHT_IN_KERAS, *RIGHT_IN_NUMPY]
