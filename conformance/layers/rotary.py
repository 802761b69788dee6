"""Rotary position embedding: pairs of features are turned by an angle that grows with position."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from conformance.array import constant
from conformance.errors import ConformanceError
from conformance.layer import Layer

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from conformance.array import Array, Indices


def angles(
    x: Float[Array, "batch time head dim"],
    base: float,
    dim: int | None,
    positions: Int[Indices, ...] | None = None,
    *,
    rope_base: float | str = "<config>",
) -> Float[Array, "... pair"]:
    size = x.shape[-1] if dim is None else dim
    base = base if rope_base == "<config>" else float(rope_base)
    where = np.arange(x.shape[1]) if positions is None else positions
    frequencies = constant(base ** (-np.arange(0, size, 2) / size), like=x)
    return where[..., None] * frequencies


def rotated(
    x: Float[Array, "batch time head dim"],
    angles: Float[Array, "... pair"],
    pairing: str,
    *,
    rope_pairing: str = "<config>",
    rope_direction: str = "+sin",
) -> Float[Array, "batch time head dim"]:
    pairs = angles.shape[-1]
    turn = np.expand_dims(angles, -2)  # the head axis
    cosine, sine = np.cos(turn), np.sin(turn)
    if rope_direction == "-sin":
        sine = -sine
    form = pairing if rope_pairing == "<config>" else rope_pairing
    if form not in ("half-split", "interleaved"):
        raise ConformanceError(f"unknown pairing {form!r}; it can be 'half-split' or 'interleaved'")
    turning, rest = x[..., : 2 * pairs], x[..., 2 * pairs :]
    if form == "interleaved":
        first, second = turning[..., 0::2], turning[..., 1::2]
    else:
        first, second = turning[..., :pairs], turning[..., pairs:]
    new = first * cosine - second * sine, second * cosine + first * sine
    if form == "interleaved":
        joined = np.reshape(np.stack(new, axis=-1), turning.shape)
    else:
        joined = np.concatenate(new, axis=-1)
    return np.concatenate([joined, rest], axis=-1) if rest.shape[-1] else joined


rotary_embedding = Layer.define(
    "rotary_embedding",
    summary="Turns pairs of features by an angle proportional to the position.",
    formula="(a, b) -> (a cos t - b sin t, b cos t + a sin t), t = position * base**(-2 i / dim)",
    source="Su et al., RoFormer (2021), equation 15; the half-split pairing: GPT-NeoX",
    inputs={"x": "batch time head dim", "positions?": "..."},
    weights={},
    config={"base": 10000.0, "dim": None, "pairing": "half-split"},
    steps={"angles": angles, "rotated": rotated},
)

LAYERS = {"rotary_embedding": rotary_embedding}
