"""A convolution of as many groups as channels, seen as the depthwise one that it is.

Few frameworks have a layer of that name: elsewhere a grouped convolution is one where its user means it as one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from conformance.subject import Own


def as_asked(own: Own, layer: str) -> Own:
    """`own` as `layer`, where that is `depthwise_conv2d` and it is a `conv2d` with a group for each channel; else it
    stays what it is. Its kernel `*space 1 (in multiplier)` becomes `*space in multiplier`."""
    groups, kernel = own.config.get("groups", 1), own.weights.get("kernel")
    if (own.layer, layer) != ("conv2d", "depthwise_conv2d") or kernel is None or kernel.shape[-2] != 1:
        return own
    config = {name: value for name, value in own.config.items() if name != "groups"}
    weights = {**own.weights, "kernel": np.reshape(kernel, (*kernel.shape[:-2], groups, -1))}
    return replace(own, layer=layer, config=config, weights=weights)
