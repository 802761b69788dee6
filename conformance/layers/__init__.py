"""The oracle: the canonical layers, one file per family, in NumPy and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from conformance.errors import ConformanceError
from conformance.layer import Layer, nearest

# Where each layer is defined; a family is imported when one of its layers is asked for.
_FAMILIES = {
    "scaled_dot_product_attention": "attention",
    "multi_head_attention": "multi_head_attention",
    "additive_attention": "additive_attention",
    "rotary_embedding": "rotary",
    "sinusoidal_position": "sinusoidal",
    "alibi": "alibi",
    "linear": "linear",
    "bilinear": "bilinear",
    "embedding": "embedding",
    "flatten": "shape",
    "pad": "shape",
    "pixel_shuffle": "shape",
    "resize": "resize",
    "dropout": "shape",
    "softmax": "softmax",
    "layer_norm": "normalization",
    "rms_norm": "normalization",
    "batch_norm": "batch_normalization",
    "group_norm": "channel_normalization",
    "instance_norm": "channel_normalization",
    "relu": "rectifier",
    "leaky_relu": "rectifier",
    "prelu": "rectifier",
    "elu": "rectifier",
    "selu": "rectifier",
    "celu": "rectifier",
    "gelu": "activation",
    "silu": "activation",
    "mish": "activation",
    "sigmoid": "activation",
    "log_sigmoid": "activation",
    "hard_sigmoid": "activation",
    "hard_silu": "activation",
    "tanh": "activation",
    "softplus": "activation",
    "softsign": "activation",
    "relu6": "rectifier",
    "glu": "gated",
    "swiglu": "gated",
    "log_softmax": "softmax",
    "lstm": "recurrent",
    "gru": "gru",
    "simple_rnn": "simple_rnn",
    "conv1d": "convolution",
    "conv2d": "convolution",
    "conv3d": "convolution",
    "depthwise_conv2d": "depthwise_convolution",
    "separable_conv2d": "separable_convolution",
    "conv_transpose1d": "transposed_convolution",
    "conv_transpose2d": "transposed_convolution",
    "conv_transpose3d": "transposed_convolution",
    "max_pool1d": "pooling",
    "max_pool2d": "pooling",
    "max_pool3d": "pooling",
    "average_pool1d": "pooling",
    "average_pool2d": "pooling",
    "average_pool3d": "pooling",
    "global_average_pool": "pooling",
    "global_max_pool": "pooling",
    "adaptive_average_pool2d": "pooling",
    "feed_forward": "feed_forward",
    "transformer_encoder_layer": "transformer",
    "transformer_decoder_layer": "transformer",
    "sequential": "sequential",
}


def layer_names() -> list[str]:
    """The names of all layers, in the order of CANON."""
    return list(_FAMILIES)


def get_layer(name: str, config: Mapping[str, Any] | None = None) -> Layer:
    """The layer called `name`; a composite is made to fit `config`.

    Raises ConformanceError for an unknown name.
    """
    family = _FAMILIES.get(name)
    if family is None:
        raise ConformanceError(
            f"unknown layer {name!r}{nearest(name, _FAMILIES)}; `conformance list layers` has them all"
        )
    module = import_module(f"conformance.layers.{family}")
    makes = getattr(module, "MAKES", {})
    layer: Layer = makes[name](config or {}) if name in makes else module.LAYERS[name]
    if layer.scan is not None and (config or {}).get(layer.scan.reversed_by) == "bidirectional":
        from conformance.layers.bidirectional import in_both_directions

        layer = in_both_directions(layer)
    if layer.scan is not None and (config or {}).get("layers", 1) != 1:
        from conformance.layers.stacked import stacked

        return stacked(layer, config or {})
    return layer
