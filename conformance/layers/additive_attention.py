"""Additive attention: scores are a weighted sum of tanh(query + key), after projections where there are any."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from conformance.layer import Layer
from conformance.layers import arithmetic, attention

if TYPE_CHECKING:
    from jaxtyping import Float

    from conformance.array import Array, Mask


def projected(x: Array, own: Array | None, other: Array | None, order: str, precision: str) -> Array:
    """`x` through its own kernel, or through the other's; `x` itself where there is none."""
    kernel = own if order == "query|key" else other
    return x if kernel is None else arithmetic.product(x, kernel, precision)


def query(
    query: Float[Array, "batch query query_channel"],
    query_kernel: Float[Array, "query_channel dim"] | None = None,
    key_kernel: Float[Array, "key_channel dim"] | None = None,
    *,
    additive_kernel_order: str = "query|key",
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "batch query dim"]:
    return projected(query, query_kernel, key_kernel, additive_kernel_order, arithmetic_precision)


def key(
    key: Float[Array, "batch key key_channel"],
    key_kernel: Float[Array, "key_channel dim"] | None = None,
    query_kernel: Float[Array, "query_channel dim"] | None = None,
    *,
    additive_kernel_order: str = "query|key",
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "batch key dim"]:
    return projected(key, key_kernel, query_kernel, additive_kernel_order, arithmetic_precision)


def scores(
    query: Float[Array, "batch query dim"],
    key: Float[Array, "batch key dim"],
    scale: Float[Array, " dim"] | None = None,
    *,
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "batch query key"]:
    if query.shape[-1] != key.shape[-1]:
        raise ValueError(f"a query of {query.shape[-1]} features and a key of {key.shape[-1]} cannot be added")
    joined = np.tanh(query[:, :, None] + key[:, None])
    if scale is None:
        return np.sum(joined, axis=-1)
    return arithmetic.product(joined, scale[:, None], arithmetic_precision)[..., 0]


def masked(
    scores: Float[Array, "batch query key"],
    mask: Mask | None = None,
    *,
    attention_mask_polarity: str = "true-attends",
    attention_mask_fill: str = "-inf",
    attention_mask_axis: str = "key",
) -> Float[Array, "batch query key"]:
    return attention.masked(
        scores[:, None],
        mask,
        attention_mask_polarity=attention_mask_polarity,
        attention_mask_fill=attention_mask_fill,
        attention_mask_axis=attention_mask_axis,
    )[:, 0]


def weights(
    masked: Float[Array, "batch query key"],
    mask: Mask | None = None,
    *,
    additive_sharpness: float | str = "1",
    attention_softmax_axis: str = "key",
    attention_fully_masked_row: str = "zero",
    attention_mask_fill: str = "-inf",
) -> Float[Array, "batch query key"]:
    sharpness = float(additive_sharpness)
    return attention.weights(
        (masked if sharpness == 1 else masked * sharpness)[:, None],
        mask,
        attention_softmax_axis=attention_softmax_axis,
        attention_fully_masked_row=attention_fully_masked_row,
        attention_mask_fill=attention_mask_fill,
    )[:, 0]


def context(
    weights: Float[Array, "batch query key"],
    value: Float[Array, "batch key vdim"],
    *,
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "batch query vdim"]:
    return arithmetic.product(weights, value, arithmetic_precision)


additive_attention = Layer.define(
    "additive_attention",
    summary="Each query takes the mean of the values, weighted by a small network that sees it beside each key.",
    formula="context = softmax(tanh(query @ query_kernel + key @ key_kernel) @ scale + mask) @ value",
    source="Bahdanau, Cho, Bengio, Neural Machine Translation by Jointly Learning to Align and Translate (2015), "
    "section 3.1 and appendix A.1.2",
    inputs={
        "query": "batch query query_channel",
        "value": "batch key vdim",
        "key?": "batch key key_channel",
        "mask?": "...",
    },
    weights={"query_kernel?": "query_channel dim", "key_kernel?": "key_channel dim", "scale?": "dim"},
    config={},
    falls_back={"key": "value"},
    steps={
        "query": query,
        "key": key,
        "scores": scores,
        "masked": (masked, "mask"),
        "weights": weights,
        "context": context,
    },
)

LAYERS = {"additive_attention": additive_attention}
