"""Multi-head attention: projections, attention in each head, heads side by side, a last projection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.layer import Layer
from conformance.layers import arithmetic, attention, rotary
from conformance.layers.linear import oriented
from conformance.refit import linear_in

if TYPE_CHECKING:
    from jaxtyping import Float

    from conformance.array import Array, Indices


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


def projected(x: Array, kernel: Array, bias: Array | None, orientation: str, precision: str) -> Array:
    """x @ kernel + bias, under the conventions `linear.kernel-orientation` and `arithmetic.precision`."""
    product = arithmetic.product(x, oriented(kernel, orientation), precision)
    return arithmetic.with_bias(product, bias, precision)


def unpacked(
    part: str, kernels: tuple[Array | None, ...], biases: tuple[Array | None, ...], heads: int, packing: str
) -> tuple[Array, Array | None]:
    """Kernel and bias of one `part` (q, k or v), where the three stand side by side and are told apart by `packing`.

    They are packed as q|k|v and read in another order, or, with ":stored", packed in that order and read as q|k|v.
    Raises ValueError where the three have not one shape.
    """
    side_by_side = [kernel for kernel in kernels if kernel is not None]
    if len({kernel.shape for kernel in side_by_side}) > 1:
        raise ValueError("kernels of query, key and value that differ in size are not packed into one")
    order, _, form = packing.partition(":")
    width = side_by_side[0].shape[1]
    columns = packed_columns(order, width, heads)
    if form == "stored":
        columns = np.argsort(columns.ravel()).reshape(3, width)
    chosen = columns["qkv".index(part)]
    added = [bias for bias in biases if bias is not None]
    bias = np.concatenate(added)[chosen] if len(added) == 3 else None
    return np.concatenate(side_by_side, axis=1)[:, chosen], bias


def packed_columns(order: str, width: int, heads: int) -> Indices:
    """Where query, key and value (first axis, each of `width`) are read in a packed kernel's columns."""
    everywhere = np.arange(3 * width)
    if order == "per-head q|k|v":
        return np.moveaxis(everywhere.reshape(heads, 3, -1), 1, 0).reshape(3, width)
    if order == "per-feature q|k|v":
        return everywhere.reshape(width, 3).T
    return everywhere.reshape(3, width)[[order.split("|").index(letter) for letter in "qkv"]]


@linear_in("query_kernel", vectors=("query_bias",))
def query(
    query_input: Float[Array, "batch query channel"],
    query_kernel: Float[Array, "channel hdim"],
    query_bias: Float[Array, " hdim"] | None = None,
    key_kernel: Float[Array, "key_channel kv_hdim"] | None = None,
    key_bias: Float[Array, " kv_hdim"] | None = None,
    value_kernel: Float[Array, "value_channel hvdim"] | None = None,
    value_bias: Float[Array, " hvdim"] | None = None,
    heads: int = 1,
    *,
    attention_qkv_packing: str = "q|k|v",
    attention_bias: str = "query,key,value,output",
    linear_kernel_orientation: str = "in,out",
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "batch query hdim"]:
    if attention_qkv_packing != "q|k|v":
        kernels, biases = (query_kernel, key_kernel, value_kernel), (query_bias, key_bias, value_bias)
        query_kernel, query_bias = unpacked("q", kernels, biases, heads, attention_qkv_packing)
    bias = query_bias if "query" in attention_bias else None
    return projected(query_input, query_kernel, bias, linear_kernel_orientation, arithmetic_precision)


@linear_in("key_kernel", vectors=("key_bias",))
def key(
    key_input: Float[Array, "batch key channel"],
    key_kernel: Float[Array, "channel kv_hdim"],
    key_bias: Float[Array, " kv_hdim"] | None = None,
    query_kernel: Float[Array, "query_channel hdim"] | None = None,
    query_bias: Float[Array, " hdim"] | None = None,
    value_kernel: Float[Array, "value_channel hvdim"] | None = None,
    value_bias: Float[Array, " hvdim"] | None = None,
    heads: int = 1,
    *,
    attention_qkv_packing: str = "q|k|v",
    attention_bias: str = "query,key,value,output",
    linear_kernel_orientation: str = "in,out",
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "batch key kv_hdim"]:
    if attention_qkv_packing != "q|k|v":
        kernels, biases = (query_kernel, key_kernel, value_kernel), (query_bias, key_bias, value_bias)
        key_kernel, key_bias = unpacked("k", kernels, biases, heads, attention_qkv_packing)
    bias = key_bias if "key" in attention_bias else None
    return projected(key_input, key_kernel, bias, linear_kernel_orientation, arithmetic_precision)


@linear_in("value_kernel", vectors=("value_bias",))
def value(
    value_input: Float[Array, "batch key channel"],
    value_kernel: Float[Array, "channel hvdim"],
    value_bias: Float[Array, " hvdim"] | None = None,
    query_kernel: Float[Array, "query_channel hdim"] | None = None,
    query_bias: Float[Array, " hdim"] | None = None,
    key_kernel: Float[Array, "key_channel kv_hdim"] | None = None,
    key_bias: Float[Array, " kv_hdim"] | None = None,
    heads: int = 1,
    *,
    attention_qkv_packing: str = "q|k|v",
    attention_bias: str = "query,key,value,output",
    linear_kernel_orientation: str = "in,out",
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "batch key hvdim"]:
    if attention_qkv_packing != "q|k|v":
        kernels, biases = (query_kernel, key_kernel, value_kernel), (query_bias, key_bias, value_bias)
        value_kernel, value_bias = unpacked("v", kernels, biases, heads, attention_qkv_packing)
    bias = value_bias if "value" in attention_bias else None
    return projected(value_input, value_kernel, bias, linear_kernel_orientation, arithmetic_precision)


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
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "batch head query key"]:
    return attention.scores(
        split(rotated_query, heads, attention_head_split),
        split(rotated_key, kv_heads, attention_head_split),
        attention_kv_head_repeat=attention_kv_head_repeat,
        arithmetic_precision=arithmetic_precision,
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
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "batch head query key"]:
    # The sizes are the kernels': a step that reads `value` for its shape would seem to follow from its values.
    head_dim, value_dim = query_kernel.shape[-1] // heads, value_kernel.shape[-1] // kv_heads
    result = attention.multiplied(scores, scale, head_dim, value_dim, attention_scale)
    return arithmetic.result(result, arithmetic_precision)


def context(
    weights: Float[Array, "batch head query key"],
    value: Float[Array, "batch key hvdim"],
    kv_heads: int,
    *,
    attention_head_split: str = "contiguous",
    attention_kv_head_repeat: str = "blocked",
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "batch head query vdim"]:
    return attention.context(
        weights,
        split(value, kv_heads, attention_head_split),
        attention_kv_head_repeat=attention_kv_head_repeat,
        arithmetic_precision=arithmetic_precision,
    )


def merged(
    context: Float[Array, "batch head query vdim"], *, attention_head_merge: str = "contiguous"
) -> Float[Array, "batch query hvdim"]:
    batch, heads, time, dim = context.shape
    if attention_head_merge == "interleaved":
        context = np.moveaxis(context, 1, -1)
    elif attention_head_merge == "contiguous":
        context = np.swapaxes(context, 1, 2)
    return np.reshape(context, (batch, time, heads * dim))


@linear_in("output_kernel", vectors=("output_bias",))
def output(
    merged: Float[Array, "batch query hvdim"],
    output_kernel: Float[Array, "hvdim out"] | None = None,
    output_bias: Float[Array, " out"] | None = None,
    *,
    attention_bias: str = "query,key,value,output",
    linear_kernel_orientation: str = "in,out",
    arithmetic_precision: str = arithmetic.CLAIMED,
) -> Float[Array, "batch query out"]:
    if output_kernel is None:
        return merged
    bias = output_bias if "output" in attention_bias else None
    return projected(merged, output_kernel, bias, linear_kernel_orientation, arithmetic_precision)


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
