"""Multi-head attention: projections, attention in each head, heads side by side, a last projection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.layer import Layer
from conformance.layers import attention, rotary

if TYPE_CHECKING:
    from jaxtyping import Float

    from conformance.array import Array


def projected(x: Array, kernel: Array, bias: Array | None) -> Array:
    """x @ kernel + bias."""
    return x @ kernel if bias is None else x @ kernel + bias


def split(x: Array, heads: int, choice: str = "contiguous") -> Array:
    """`batch time hdim` as `batch head time dim`; an array that is split already is left as it is."""
    if x.ndim == 4:
        return x
    batch, time, width = x.shape
    if choice == "reshape-without-transpose":
        return np.reshape(x, (batch, heads, time, width // heads))
    if choice == "interleaved":
        return np.moveaxis(np.reshape(x, (batch, time, width // heads, heads)), -1, 1)
    return np.swapaxes(np.reshape(x, (batch, time, heads, width // heads)), 1, 2)


def query(
    query_input: Float[Array, "batch query channel"],
    query_kernel: Float[Array, "channel hdim"],
    query_bias: Float[Array, " hdim"] | None = None,
) -> Float[Array, "batch query hdim"]:
    return projected(query_input, query_kernel, query_bias)


def key(
    key_input: Float[Array, "batch key channel"],
    key_kernel: Float[Array, "channel kv_hdim"],
    key_bias: Float[Array, " kv_hdim"] | None = None,
) -> Float[Array, "batch key kv_hdim"]:
    return projected(key_input, key_kernel, key_bias)


def value(
    value_input: Float[Array, "batch key channel"],
    value_kernel: Float[Array, "channel hvdim"],
    value_bias: Float[Array, " hvdim"] | None = None,
) -> Float[Array, "batch key hvdim"]:
    return projected(value_input, value_kernel, value_bias)


def turned(x: Array, heads: int, config: dict[str, Any] | bool, base: float | str, pairing: str, way: str) -> Array:
    """`batch time hdim` split into heads, each feature pair turned by its position's angle.

    `base`, `pairing` and `way` are the conventions `rope.base`, `rope.pairing` and `rope.direction`.
    """
    options = {"base": 10000.0, "dim": None, "pairing": "half-split", **(config if isinstance(config, dict) else {})}
    by_time = np.swapaxes(split(x, heads), 1, 2)
    angles = rotary.angles(by_time, options["base"], options["dim"], rope_base=base)
    by_time = rotary.rotated(by_time, angles, options["pairing"], rope_pairing=pairing, rope_direction=way)
    return np.swapaxes(by_time, 1, 2)


def rotated_query(
    query: Float[Array, "batch query hdim"],
    heads: int,
    rotary: dict[str, Any],
    *,
    rope_base: float | str = "<config>",
    rope_pairing: str = "<config>",
    rope_direction: str = "+sin",
) -> Float[Array, "batch head query dim"]:
    return turned(query, heads, rotary, rope_base, rope_pairing, rope_direction)


def rotated_key(
    key: Float[Array, "batch key kv_hdim"],
    kv_heads: int,
    rotary: dict[str, Any],
    *,
    rope_base: float | str = "<config>",
    rope_pairing: str = "<config>",
    rope_direction: str = "+sin",
) -> Float[Array, "batch kv_head key dim"]:
    return turned(key, kv_heads, rotary, rope_base, rope_pairing, rope_direction)


def scores(
    rotated_query: Float[Array, "batch query hdim"],
    rotated_key: Float[Array, "batch key kv_hdim"],
    heads: int,
    kv_heads: int,
    *,
    attention_head_split: str = "contiguous",
    attention_kv_head_repeat: str = "blocked",
) -> Float[Array, "batch head query key"]:
    return attention.scores(
        split(rotated_query, heads, attention_head_split),
        split(rotated_key, kv_heads, attention_head_split),
        attention_kv_head_repeat=attention_kv_head_repeat,
    )


def scaled(
    scores: Float[Array, "batch head query key"],
    query_kernel: Float[Array, "channel hdim"],
    value_kernel: Float[Array, "channel kv_hvdim"],
    scale: float | None,
    heads: int,
    kv_heads: int,
    *,
    attention_scale: float | str = "1/sqrt(head_dim)",
) -> Float[Array, "batch head query key"]:
    # The sizes are the kernels': a step that reads `value` for its shape would seem to follow from its values.
    head_dim, value_dim = query_kernel.shape[-1] // heads, value_kernel.shape[-1] // kv_heads
    return attention.multiplied(scores, scale, head_dim, value_dim, attention_scale)


def context(
    weights: Float[Array, "batch head query key"],
    value: Float[Array, "batch key hvdim"],
    kv_heads: int,
    *,
    attention_head_split: str = "contiguous",
    attention_kv_head_repeat: str = "blocked",
) -> Float[Array, "batch head query vdim"]:
    heads = split(value, kv_heads, attention_head_split)
    return attention.context(weights, heads, attention_kv_head_repeat=attention_kv_head_repeat)


def merged(
    context: Float[Array, "batch head query vdim"], *, attention_head_merge: str = "contiguous"
) -> Float[Array, "batch query hvdim"]:
    batch, heads, time, dim = context.shape
    if attention_head_merge == "interleaved":
        context = np.moveaxis(context, 1, -1)
    elif attention_head_merge == "contiguous":
        context = np.swapaxes(context, 1, 2)
    return np.reshape(context, (batch, time, heads * dim))


def output(
    merged: Float[Array, "batch query hvdim"],
    output_kernel: Float[Array, "hvdim out"] | None = None,
    output_bias: Float[Array, " out"] | None = None,
) -> Float[Array, "batch query out"]:
    return merged if output_kernel is None else projected(merged, output_kernel, output_bias)


multi_head_attention = Layer.define(
    "multi_head_attention",
    summary="Attention in several heads, each on its own projection of the inputs.",
    formula="output = concat_h(softmax(query_h @ key_h.T * scale + mask) @ value_h) @ output_kernel + output_bias",
    source="Vaswani et al., Attention Is All You Need (2017), section 3.2.2; grouped queries: Ainslie et al. (2023)",
    inputs={
        "query_input": "batch query channel",
        "key_input?": "batch key key_channel",
        "value_input?": "batch key value_channel",
        "mask?": "...",
    },
    weights={
        "query_kernel": "channel hdim",
        "key_kernel": "key_channel kv_hdim",
        "value_kernel": "value_channel kv_hvdim",
        "output_kernel?": "hvdim out",
        "query_bias?": "hdim",
        "key_bias?": "kv_hdim",
        "value_bias?": "kv_hvdim",
        "output_bias?": "out",
    },
    config={
        "heads": 1,
        "kv_heads": None,
        "scale": None,
        "causal": None,
        "window": None,
        "softcap": None,
        "rotary": None,
    },
    falls_back={"key_input": "query_input", "value_input": "key_input", "kv_heads": "heads"},
    steps={
        "query": query,
        "key": key,
        "value": value,
        "rotated_query": (rotated_query, "rotary"),
        "rotated_key": (rotated_key, "rotary"),
        "scores": scores,
        "scaled": scaled,
        "softcapped": (attention.softcapped, "softcap"),
        "masked": (attention.masked, *attention.MASKING),
        "weights": attention.weights,
        "context": context,
        "merged": merged,
        "output": output,
    },
)

LAYERS = {"multi_head_attention": multi_head_attention}
