"""Sinusoidal positions: a position as the sines and cosines of angles whose frequencies fall geometrically."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.array import constant
from conformance.errors import ConformanceError
from conformance.layer import Layer

if TYPE_CHECKING:
    from jaxtyping import Float

    from conformance.array import Array, Indices

CONFIG = "<config>"


def placed(dim: int, layout: str) -> tuple[Indices, Any, Any]:
    """For each of `dim` features, which pair it belongs to, whether it is the cosine, and whether it is one at all: of
    two halves, the last of an odd number of features is neither.

    Raises ConformanceError for an unknown layout.
    """
    features, half = np.arange(dim), dim // 2
    if layout == "interleaved":
        return features // 2, features % 2 == 1, features >= 0
    if layout not in ("sin|cos", "cos|sin"):
        raise ConformanceError(f"unknown layout {layout!r}; it can be 'interleaved', 'sin|cos' or 'cos|sin'")
    second = features >= half
    return features - half * second, second == (layout == "sin|cos"), features < 2 * half


def exponents(dim: int, pairs: Indices, spacing: str) -> Any:
    """What the base has as its exponent in each feature, but for the sign."""
    features = np.arange(dim)
    made = {
        "2i/dim": 2 * pairs / dim,
        "i/(dim/2-1)": pairs / max(dim // 2 - 1, 1),
        "2j/dim": 2 * features / dim,
        "j/dim": features / dim,
    }
    return made[spacing]


def output(
    positions: Float[Array, "*time"],
    dim: int | None,
    base: float,
    one: Float[Array, ""],
    *,
    sinusoidal_layout: str = "interleaved",
    sinusoidal_spacing: str = "2i/dim",
    sinusoidal_base: float | str = CONFIG,
    sinusoidal_first_position: str = "0",
) -> Float[Array, "*time dim"]:
    if not isinstance(dim, int) or dim < 1:
        raise ConformanceError(f"sinusoidal_position needs how many features it gives: dim is {dim!r}")
    base = float(base if sinusoidal_base == CONFIG else sinusoidal_base)
    pairs, is_cosine, is_there = placed(dim, sinusoidal_layout)
    powers = exponents(dim, pairs, sinusoidal_spacing)
    # base**-p is exp(-p log(base)): the rounding of its exponent is as many times that of the power.
    frequencies = constant(base**-powers, like=one, roundings=1 + np.abs(powers * math.log(base)))
    angles = (positions[..., None] + int(sinusoidal_first_position)) * frequencies
    waves = np.where(is_cosine, np.cos(angles), np.sin(angles))
    return waves if is_there.all() else np.where(is_there, waves, 0.0)


sinusoidal_position = Layer.define(
    "sinusoidal_position",
    summary="Positions as sines and cosines of wavelengths that grow geometrically, from 2 pi to base * 2 pi.",
    formula="output[2 i] = sin(position / base**(2 i / dim)), output[2 i + 1] = cos(position / base**(2 i / dim))",
    source="Vaswani et al., Attention Is All You Need (2017), section 3.5",
    inputs={"positions": "*time"},
    weights={},
    config={"dim": None, "base": 10000.0},
    steps={"output": output},
)

LAYERS = {"sinusoidal_position": sinusoidal_position}
