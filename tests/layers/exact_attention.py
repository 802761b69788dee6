"""Attention from the papers' formulas, in 50 digits: Vaswani et al. (2017), equation 1; Ainslie et al. (2023)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mpmath
import numpy as np
from exact import Exact, affine, exact, filled, softmax, total
from numpy.typing import NDArray

MINUS = -mpmath.inf

# What a query may see by position: query index, key index, number of queries, number of keys.
Sees = Callable[[int, int, int, int], bool]


def top_left(i: int, j: int, queries: int, keys: int) -> bool:
    return j <= i


def bottom_right(i: int, j: int, queries: int, keys: int) -> bool:
    return j - (keys - 1) <= i - (queries - 1)


def everything(i: int, j: int, queries: int, keys: int) -> bool:
    return True


def masked_scores(scores: Exact, mask: NDArray[Any] | None, sees: Sees) -> Exact:
    """Minus infinity where `sees` says no or a boolean four-axis `mask` is false; a float one is added."""
    queries, keys = scores.shape[-2:]

    def element(b: int, h: int, i: int, j: int) -> Any:
        given: Any = True
        if mask is not None:
            at = tuple(0 if n == 1 else k for n, k in zip(mask.shape, (b, h, i, j), strict=True))
            given = mask[at]
        if not sees(i, j, queries, keys):
            return MINUS
        if mask is not None and mask.dtype.kind == "f":
            return MINUS if np.isneginf(given) else scores[b, h, i, j] + mpmath.mpf(float(given))
        return scores[b, h, i, j] if given else MINUS

    return filled(scores.shape, element)


def attend(
    query: Exact,
    key: Exact,
    value: Exact,
    *,
    scale: Any = None,
    softcap: float | None = None,
    mask: NDArray[Any] | None = None,
    sees: Sees | None = None,
) -> dict[str, Exact]:
    """The steps of scaled dot-product attention; query head h is served by key head h // group."""
    batch, heads, queries, dim = query.shape
    group, keys = heads // key.shape[1], key.shape[2]
    shape = batch, heads, queries, keys
    factor = 1 / mpmath.sqrt(dim) if scale is None else mpmath.mpf(scale)
    steps = {}
    steps["scores"] = filled(
        shape, lambda b, h, i, j: total(query[b, h, i, d] * key[b, h // group, j, d] for d in range(dim))
    )
    last = steps["scaled"] = filled(shape, lambda *at: steps["scores"][at] * factor)
    if softcap is not None:
        last = steps["softcapped"] = filled(shape, lambda *at: softcap * mpmath.tanh(steps["scaled"][at] / softcap))
    if mask is not None or sees is not None:
        last = steps["masked"] = masked_scores(last, mask, sees or everything)

    def weight(b: int, h: int, i: int, j: int) -> Any:
        row = [last[b, h, i, k] for k in range(keys)]
        return mpmath.mpf(0) if all(mpmath.isinf(v) for v in row) else softmax(row)[j]

    steps["weights"] = filled(shape, weight)
    steps["context"] = filled(
        (batch, heads, queries, value.shape[-1]),
        lambda b, h, i, d: total(steps["weights"][b, h, i, j] * value[b, h // group, j, d] for j in range(keys)),
    )
    return steps


def heads_of(x: Exact, heads: int) -> Exact:
    """`batch time hdim` as `batch head time dim`: head h owns the h-th block of features."""
    batch, time, width = x.shape
    dim = width // heads
    return filled((batch, heads, time, dim), lambda b, h, t, d: x[b, t, h * dim + d])


def rotated(x: Exact, base: int) -> Exact:
    """Half-split rotary embedding of `batch head time dim` (Su et al. 2021, equation 15)."""
    half = x.shape[-1] // 2

    def element(b: int, h: int, t: int, d: int) -> Any:
        turn = t * mpmath.mpf(base) ** (mpmath.mpf(-(d % half)) / half)
        one, two = x[b, h, t, d % half], x[b, h, t, d % half + half]
        if d < half:
            return one * mpmath.cos(turn) - two * mpmath.sin(turn)
        return two * mpmath.cos(turn) + one * mpmath.sin(turn)

    return filled(x.shape, element)


def multi_head(
    inputs: Mapping[str, NDArray[Any]],
    weights: Mapping[str, NDArray[Any]],
    heads: int,
    kv_heads: int | None = None,
    base: int | None = None,
    **options: Any,
) -> dict[str, Exact]:
    """The steps of multi-head attention (Vaswani et al. 2017, section 3.2.2); `base` is that of rotary angles."""
    kv_heads = heads if kv_heads is None else kv_heads
    key_input = inputs.get("key_input", inputs["query_input"])
    read = {"query": inputs["query_input"], "key": key_input, "value": inputs.get("value_input", key_input)}
    steps = {}
    for name, x in read.items():
        bias = weights.get(f"{name}_bias")
        steps[name] = affine(exact(x), exact(weights[f"{name}_kernel"]), None if bias is None else exact(bias))
    query, key, value = (heads_of(steps[n], h) for n, h in (("query", heads), ("key", kv_heads), ("value", kv_heads)))
    if base is not None:
        query = steps["rotated_query"] = rotated(query, base)
        key = steps["rotated_key"] = rotated(key, base)
    steps |= attend(query, key, value, **options)
    context = steps["context"]
    batch, _, time, dim = context.shape
    merged = filled((batch, time, heads * dim), lambda b, t, c: context[b, c // dim, t, c % dim])
    steps["merged"] = steps["output"] = merged
    if "output_kernel" in weights:
        bias = weights.get("output_bias")
        steps["output"] = affine(merged, exact(weights["output_kernel"]), None if bias is None else exact(bias))
    return steps
