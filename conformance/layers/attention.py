"""Scaled dot-product attention: softmax(query @ key.T / sqrt(dim)) @ value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from conformance.errors import ConformanceError
from conformance.layer import Layer
from conformance.layers import arithmetic, softmax

if TYPE_CHECKING:
    from jaxtyping import Float

    from conformance.array import Array, Mask


def repeated(x: Array, heads: int, choice: str) -> Array:
    """Key or value heads, repeated until each query head has one: head j serves a block of query heads."""
    group = heads // x.shape[1]
    if group == 1:
        return x
    return np.repeat(x, group, axis=1) if choice == "blocked" else np.tile(x, (1, group, 1, 1))


def scores(
    query: Float[Array, "batch head query dim"],
    key: Float[Array, "batch kv_head key dim"],
    *,
    attention_kv_head_repeat: str = "blocked",
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "batch head query key"]:
    keys = repeated(key, query.shape[1], attention_kv_head_repeat)
    return arithmetic.product(query, np.swapaxes(keys, -1, -2), arithmetic_precision)


def scaled(
    scores: Float[Array, "batch head query key"],
    query: Float[Array, "batch head query dim"],
    value: Float[Array, "batch kv_head key vdim"],
    scale: float | None,
    *,
    attention_scale: float | str = "1/sqrt(head_dim)",
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "batch head query key"]:
    result = multiplied(scores, scale, query.shape[-1], value.shape[-1], attention_scale)
    return arithmetic.result(result, arithmetic_precision)


def multiplied(scores: Array, scale: float | None, head_dim: int, value_dim: int, choice: float | str) -> Array:
    """Scores times `scale`, or what the convention says instead."""
    canonical = 1 / math.sqrt(head_dim) if scale is None else scale
    factors = {
        "1/sqrt(head_dim)": canonical,
        "1/sqrt(model_dim)": 1 / math.sqrt(head_dim * scores.shape[1]),
        "1/sqrt(value_dim)": 1 / math.sqrt(value_dim),
        "1/head_dim": 1 / head_dim,
        "sqrt(head_dim)": math.sqrt(head_dim),
        "twice": canonical * canonical,
    }
    factor = factors[choice] if choice in factors else float(choice)
    return scores if factor == 1 else scores * factor


def softcapped(
    scaled: Float[Array, "batch head query key"],
    softcap: float,
    mask: Mask | None = None,
    causal: str | None = None,
    window: int | None = None,
    *,
    attention_softcap: str = "before-mask",
) -> Float[Array, "batch head query key"]:
    if attention_softcap == "after-mask" and not (mask is None and causal is None and window is None):
        return scaled  # the step `masked` caps; without one there is no order to choose
    return np.tanh(scaled / softcap) * softcap


def as_four_axes(mask: Mask, shape: tuple[int, ...]) -> Mask:
    """A mask as `batch head query key` (sizes of one broadcast), from any of the forms that CANON allows.

    Two axes are `batch key` where they fit, else `query key`; three are `batch query key`.
    """
    batch, _, queries, keys = shape
    if mask.ndim == 2 and mask.shape == (batch, keys):
        mask = mask[:, None, None, :]
    elif mask.ndim == 3:
        mask = mask[:, None]
    full = mask.reshape((1,) * (4 - mask.ndim) + mask.shape)
    if any(size not in (1, whole) for size, whole in zip(full.shape, shape, strict=True)):
        raise ConformanceError(
            f"a mask of shape {'x'.join(map(str, mask.shape))} does not fit scores of batch {batch}, "
            f"query {queries}, key {keys}: give it as batch key, query key, batch query key, or all four axes"
        )
    return full


def attended(queries: int, keys: int, causal: str | None, window: int | tuple[int, int] | None) -> Mask | None:
    """Which keys a query may see by position alone: `query key`, or None where all.

    `causal` "top-left" lets query i see keys up to i; "bottom-right" lets the last query see the last
    key. `window` is how far to the left and right of its own position a query sees.
    """
    if causal not in (None, "top-left", "bottom-right"):
        raise ConformanceError(f"causal is {causal!r}; it can be 'top-left', 'bottom-right' or left out")
    if causal is None and window is None:
        return None
    offset = keys - queries if causal == "bottom-right" else 0
    distance = np.arange(keys)[None, :] - np.arange(queries)[:, None] - offset
    seen = np.ones((queries, keys), dtype=bool)
    if causal is not None:
        seen &= distance <= 0
    if window is not None:
        left, right = (window, window) if isinstance(window, int) else window
        seen &= (-left <= distance) & (distance <= right)
    return seen


def masked(
    softcapped: Float[Array, "batch head query key"],
    mask: Mask | None = None,
    causal: str | None = None,
    window: int | None = None,
    softcap: float | None = None,
    *,
    attention_mask_polarity: str = "true-attends",
    attention_mask_fill: str = "-inf",
    attention_mask_axis: str = "key",
    attention_causal_alignment: str = "<config>",
    attention_softcap: str = "before-mask",
) -> Float[Array, "batch head query key"]:
    x = softcapped
    if attention_mask_fill == "ignored":
        mask = causal = window = None
    if mask is not None and mask.dtype.kind == "f":
        x = x + as_four_axes(mask, x.shape)
        mask = None
    seen = allowed(
        x.shape,
        mask,
        causal,
        window,
        attention_mask_polarity=attention_mask_polarity,
        attention_mask_axis=attention_mask_axis,
        attention_causal_alignment=attention_causal_alignment,
    )
    if seen is not None:
        if attention_mask_fill == "0":
            x = np.where(seen, x, 0.0)
        elif attention_mask_fill == "additive-0-1":
            x = x + seen.astype(np.float64)
        elif attention_mask_fill != "post-softmax":
            x = np.where(seen, x, float(attention_mask_fill))
    if attention_softcap == "after-mask" and softcap is not None:
        x = np.tanh(x / softcap) * softcap
    return x


def allowed(
    shape: tuple[int, ...],
    mask: Mask | None,
    causal: str | None,
    window: int | None,
    *,
    attention_mask_polarity: str = "true-attends",
    attention_mask_axis: str = "key",
    attention_causal_alignment: str = "<config>",
) -> Mask | None:
    """Which scores take part, `batch head query key`, or None where all do."""
    if causal is not None and attention_causal_alignment != "<config>":
        causal = attention_causal_alignment
    seen = attended(shape[-2], shape[-1], causal, window)
    if mask is not None:
        given = as_four_axes(mask, shape)
        if attention_mask_polarity == "true-blocks":
            given = ~given
        if attention_mask_axis == "query":
            given = np.swapaxes(given, -1, -2)
        seen = given if seen is None else seen & given
    return None if seen is None else np.broadcast_to(seen, shape)


def weights(
    masked: Float[Array, "batch head query key"],
    mask: Mask | None = None,
    causal: str | None = None,
    window: int | None = None,
    *,
    attention_softmax_axis: str = "key",
    attention_fully_masked_row: str = "zero",
    attention_mask_fill: str = "-inf",
) -> Float[Array, "batch head query key"]:
    axis = -1 if attention_softmax_axis == "key" else -2
    dead = np.all(np.isneginf(masked), axis=axis, keepdims=True)
    result = softmax.normalised(np.where(dead, 0.0, masked), axis)  # a dead row becomes uniform
    if attention_fully_masked_row != "uniform" and dead.any():
        result = np.where(dead, 0.0 if attention_fully_masked_row == "zero" else np.nan, result)
    if attention_mask_fill == "post-softmax" and (mask is None or mask.dtype.kind == "b"):
        seen = allowed(masked.shape, mask, causal, window)
        result = result if seen is None else np.where(seen, result, 0.0)
    return result


def context(
    weights: Float[Array, "batch head query key"],
    value: Float[Array, "batch kv_head key vdim"],
    *,
    attention_kv_head_repeat: str = "blocked",
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "batch head query vdim"]:
    values = repeated(value, weights.shape[1], attention_kv_head_repeat)
    return arithmetic.product(weights, values, arithmetic_precision)


MASKING = ("mask", "causal", "window")

scaled_dot_product_attention = Layer.define(
    "scaled_dot_product_attention",
    summary="Each query takes the mean of the values, weighted by how well their keys match.",
    formula="context = softmax(query @ key.T * scale + mask) @ value",
    source="Vaswani et al., Attention Is All You Need (2017), equation 1; grouped queries: Ainslie et al. (2023)",
    inputs={
        "query": "batch head query dim",
        "key": "batch kv_head key dim",
        "value": "batch kv_head key vdim",
        "mask?": "...",
    },
    weights={},
    config={"scale": None, "causal": None, "window": None, "softcap": None, "kv_heads": None},
    steps={
        "scores": scores,
        "scaled": scaled,
        "softcapped": (softcapped, "softcap"),
        "masked": (masked, *MASKING),
        "weights": weights,
        "context": context,
    },
)

LAYERS = {"scaled_dot_product_attention": scaled_dot_product_attention}
