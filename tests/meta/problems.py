"""The problems that subjects in several frameworks are written for, a name each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from problem import Problem, attention, drawn, lengths

# -- attention with projections ------------------------------------------------------------------------------

SELF = attention()
CROSS = attention(times=(5, 7), channels=(13, 11, 11, 10), value_dim=5)
PADDED = attention(mask=lengths(3, 4, times=5))
GROUPED = attention(heads=6, kv_heads=2)

# -- attention without ---------------------------------------------------------------------------------------

DOT_PRODUCT = Problem(
    "scaled_dot_product_attention",
    {},
    {"query": drawn("q", 2, 3, 5, 4), "key": drawn("k", 2, 3, 7, 4), "value": drawn("v", 2, 3, 7, 6)},
)
# Values as wide as keys, which some frameworks' own functions ask for.
EVEN_DOT_PRODUCT = DOT_PRODUCT.with_inputs(value=drawn("v", 2, 3, 7, 4))
PADDED_DOT_PRODUCT = DOT_PRODUCT.with_inputs(mask=lengths(4, 6, times=7))
# As many queries as keys, so that a mask of keys fits the queries.
SQUARE_DOT_PRODUCT = DOT_PRODUCT.with_inputs(query=drawn("q", 2, 3, 7, 4), mask=lengths(4, 6, times=7))
DEAD_DOT_PRODUCT = DOT_PRODUCT.with_inputs(mask=lengths(0, 6, times=7))
CAUSAL_DOT_PRODUCT = DOT_PRODUCT.with_config(causal="top-left")
BOTTOM_RIGHT_DOT_PRODUCT = DOT_PRODUCT.with_config(causal="bottom-right")
CAPPED_DOT_PRODUCT = PADDED_DOT_PRODUCT.with_config(softcap=1.5)
GROUPED_DOT_PRODUCT = DOT_PRODUCT.with_inputs(query=drawn("q", 2, 6, 5, 4)).with_config(kv_heads=3)
# A scale of its own: the square of 1/sqrt(4) is 1/4, which is another convention.
OWN_SCALE_DOT_PRODUCT = DOT_PRODUCT.with_config(scale=0.3)

# -- other layers --------------------------------------------------------------------------------------------

ROTARY = Problem("rotary_embedding", {}, {"x": drawn("rotary x", 2, 5, 3, 6)})
INTERLEAVED_ROTARY = ROTARY.with_config(pairing="interleaved")
SOFTMAX = Problem("softmax", {"axis": -1}, {"x": drawn("softmax x", 3, 5, 5, deviation=2.0)})
LINEAR = Problem("linear", {}, {"x": drawn("linear x", 3, 6)}, {"kernel": drawn("kernel", 6, 6), "bias": drawn("b", 6)})
GELU = Problem("gelu", {}, {"x": drawn("gelu x", 11, 13, deviation=2.0)})
TANH_GELU = GELU.with_config(approximation="tanh")
# Rows of small variance, one below the epsilon, so that its place shows, and a square, so that a wrong axis fits.
NORM = Problem(
    "layer_norm",
    {"epsilon": 1e-5},
    {"x": drawn("norm x", 2, 7, 7) * np.geomspace(1e-3, 0.1, 7)[:, None] + 0.1},
    {"scale": drawn("norm scale", 7) + 1, "bias": drawn("norm bias", 7)},
)
LSTM = Problem(
    "lstm",
    {},
    {"x": drawn("lstm x", 2, 5, 3)},
    {
        "kernel": drawn("lstm kernel", 3, 16),
        "recurrent_kernel": drawn("lstm recurrent", 4, 16, deviation=0.5),
        "bias": drawn("lstm bias", 16),
    },
)
CONVOLUTION = Problem(
    "conv2d",
    {"padding": "same-upper", "strides": 2},
    {"x": drawn("conv x", 2, 8, 10, 4)},
    {"kernel": drawn("conv kernel", 3, 3, 4, 6), "bias": drawn("conv bias", 6)},
)
# For a stride of two, what both sides of padding give is what the lower side alone gives.
STRIDE_OF_THREE = Problem(
    "conv2d",
    {"padding": "same-upper", "strides": 3},
    {"x": drawn("conv x", 2, 8, 11, 4)},
    {"kernel": drawn("conv kernel", 4, 4, 4, 6), "bias": drawn("conv bias", 6)},
)
GROUPED_CONVOLUTION = Problem(
    "conv2d",
    {"groups": 2},
    {"x": drawn("conv x", 2, 8, 10, 4)},
    {"kernel": drawn("conv kernel", 3, 3, 2, 6), "bias": drawn("conv bias", 6)},
)

# -- what is right is right for each of these ----------------------------------------------------------------

ATTENDED = {
    "all keys": DOT_PRODUCT,
    "padded": PADDED_DOT_PRODUCT,
    "causal": CAUSAL_DOT_PRODUCT,
    "causal from the end": BOTTOM_RIGHT_DOT_PRODUCT,
    "large scores": DOT_PRODUCT.with_inputs(query=DOT_PRODUCT.inputs["query"] * 20),
}
PROJECTED = {"self": SELF, "cross": CROSS, "padded": PADDED, "grouped": GROUPED}
NORMS = {
    "small variance": NORM,
    "wide": Problem(
        "layer_norm",
        {"epsilon": 1e-5},
        {"x": drawn("wide x", 3, 257) * 3 - 1},
        {"scale": drawn("wide scale", 257) + 1, "bias": drawn("wide bias", 257)},
    ),
}
LINEARS = {
    "square": LINEAR,
    "stacked": Problem(
        "linear", {}, {"x": drawn("stacked x", 2, 5, 48)}, {"kernel": drawn("tall", 48, 11), "bias": drawn("b11", 11)}
    ),
}
SOFTMAXES = {
    "last axis": SOFTMAX,
    "another axis": SOFTMAX.with_config(axis=1),
    "large": SOFTMAX.with_inputs(x=SOFTMAX.inputs["x"] * 30),
}
# exp(x - logsumexp(x)) loses as many digits as x has before the point (Blanchard, Higham and Higham, 2021), which is
# more than the tolerance allows for where x goes to a hundred: 8 tolerances in "large".
UP_TO_TEN = {name: posed for name, posed in SOFTMAXES.items() if name != "large"}
CONVOLUTIONS = {
    "stride of two": CONVOLUTION,
    "stride of three": STRIDE_OF_THREE,
    "large kernel": Problem(
        "conv2d",
        {"padding": "same-upper", "strides": 1},
        {"x": drawn("conv x", 2, 8, 10, 4)},
        {"kernel": drawn("conv 5x3", 5, 3, 4, 6), "bias": drawn("conv bias", 6)},
    ),
}


def seen(config: Mapping[str, Any], query: Any, key: Any, mask: Any) -> Any:
    """Which keys a query attends to, of the shape of the scores or broadcast to it: None where all."""
    if mask is not None:
        return mask[:, None, None, :]
    if config.get("causal") is None:
        return None
    queries, keys = query.shape[-2], key.shape[-2]
    return np.tri(queries, keys, keys - queries if config["causal"] == "bottom-right" else 0, dtype=bool)


def margins(config: Mapping[str, Any], x: Any, kernel: Any) -> list[tuple[int, int]]:
    """How many zeros go before and after each axis of `batch height width channel`, the odd one after."""
    pairs = []
    for size, window in zip(x.shape[1:3], kernel.shape[:2], strict=True):
        outputs = -(-size // config["strides"])
        total = max((outputs - 1) * config["strides"] + window - size, 0)
        pairs.append((total // 2, total - total // 2))
    return [(0, 0), *pairs, (0, 0)]
