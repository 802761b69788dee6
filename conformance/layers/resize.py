"""Resizing: every element of the output is interpolated at coordinates of the input.

The coordinates are rational numbers, and which element of the input is nearest to one of them, or below it, is told
in integers: a floor of floating-point numbers is another one for many sizes. What weighs the neighbours is computed
as frameworks do, in floating point.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from math import ceil, floor
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.array import constant
from conformance.errors import ConformanceError
from conformance.layer import Layer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Float

    from conformance.array import Array

CONFIG = "<config>"
HALF = Fraction(1, 2)
FRAMES = ("half-pixel", "asymmetric", "align-corners", "half-pixel-symmetric", "pytorch-half-pixel")
SUPPORT = {"bilinear": 1, "bicubic": 2}
Size = int | Sequence[int] | None
Scale = float | Sequence[float] | None


def _each(value: Any, axes: int, what: str) -> list[Any]:
    each = [value] * axes if isinstance(value, int | float) else list(value)
    if len(each) != axes:
        raise ConformanceError(f"{what} has {len(each)} numbers for {axes} spatial axes; give one, or one for each")
    return each


def strides_of(space: Sequence[int], size: Size, scale: Scale, choice: str = "given") -> list[tuple[int, Fraction]]:
    """For each axis, how many elements come out, and how many of the input go to one of them.

    A `scale` is taken as it is written, also where it does not divide the sizes; `choice` "recomputed" takes the ratio
    of the sizes in its place. Raises ConformanceError where neither or both are given.
    """
    if (size is None) == (scale is None):
        raise ConformanceError("a resize needs its `size` or its `scale`, and not both")
    if size is not None:
        return [(int(m), Fraction(n, int(m))) for n, m in zip(space, _each(size, len(space), "size"), strict=True)]
    made = []
    for n, factor in zip(space, _each(scale, len(space), "scale"), strict=True):
        exact = Fraction(repr(factor))
        count = floor(n * exact)
        made.append((count, Fraction(n, count) if choice == "recomputed" else 1 / exact))
    return made


def placed(inside: int, count: int, stride: Fraction, frame: str) -> list[Fraction]:
    """Where along an axis of `inside` elements each of `count` elements of the output lies."""
    if frame == "align-corners":
        return [Fraction(j * (inside - 1), max(count - 1, 1)) for j in range(count)]
    if frame == "asymmetric":
        return [j * stride for j in range(count)]
    if frame not in FRAMES:
        raise ConformanceError(f"unknown coordinates {frame!r}; they can be {', '.join(FRAMES)}")
    if frame == "pytorch-half-pixel" and count == 1:
        return [Fraction(0)]
    shift = Fraction(inside, 2) * (1 - count * stride / inside) if frame == "half-pixel-symmetric" else Fraction(0)
    return [(j + HALF) * stride - HALF + shift for j in range(count)]


def _frame(x: Array, size: Size, scale: Scale, frame: str, choice: str) -> list[tuple[list[Fraction], Fraction]]:
    """The coordinates along each axis, and how many elements of the input go to one of the output."""
    space = x.shape[1:-1]
    return [
        (placed(n, count, stride, frame), stride)
        for n, (count, stride) in zip(space, strides_of(space, size, scale, choice), strict=True)
    ]


def told(coordinates: Array, x: Array, size: Size, scale: Scale, frame: str) -> list[tuple[list[Fraction], Fraction]]:
    """The exact numbers that `coordinates` are, and how many elements of the input go to one of the output.

    Raises ValueError where they are not those of any placement.
    """
    seen: Any = getattr(coordinates, "value", coordinates)
    for choice, placement in product(("given", "recomputed"), (frame, *FRAMES)):
        axes = _frame(x, size, scale, placement, choice)
        if seen.shape[:-1] != tuple(len(positions) for positions, _ in axes):
            continue
        along = [np.moveaxis(seen[..., k], k, -1).reshape(-1, seen.shape[k])[0] for k in range(len(axes))]
        exact = [np.array([float(p) for p in positions]) for positions, _ in axes]
        if all(np.allclose(a, b, rtol=1e-5, atol=1e-5) for a, b in zip(along, exact, strict=True)):
            return axes
    raise ValueError("these coordinates are of no placement that is known")


def coordinates(
    x: Float[Array, "batch *space channel"],
    size: Size,
    scale: Scale,
    frame: str,
    *,
    resize_coordinates: str = CONFIG,
    resize_scale: str = "given",
) -> Float[Array, "*resized axis"]:
    axes = _frame(x, size, scale, frame if resize_coordinates == CONFIG else resize_coordinates, resize_scale)
    counts = [len(positions) for positions, _ in axes]
    made = []
    for number, (positions, _) in enumerate(axes):
        shape = [-1 if k == number else 1 for k in range(len(axes))]
        # A product of a ratio, which is rounded, with an index; half an element is taken off again.
        scaled = constant(np.array([float(p + HALF) for p in positions]), like=x) * 1.0 - 0.5
        made.append(np.broadcast_to(np.reshape(scaled, shape), counts))
    return np.stack(made, axis=-1)


def rounded(position: Fraction, how: str) -> int:
    """The nearest element; `how` says which one where two are as near, or which is taken for the nearest."""
    if how == "half-up":
        return floor(position + HALF)
    if how == "half-down":
        return ceil(position - HALF)
    if how not in ("floor", "ceil"):
        raise ConformanceError(f"unknown nearest_rounding {how!r}; it can be half-up, half-down, floor or ceil")
    return floor(position) if how == "floor" else ceil(position)


def cubic(distance: Array, a: float, near: Any) -> Array:
    """Keys's kernel at distances, of which `near` says where they are below one."""
    inner = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    outer = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(near, inner, outer)


def weighed(
    at: Any, positions: Sequence[Fraction], stride: Fraction, inside: int, mode: str, a: float, antialias: bool
) -> tuple[Any, Any, Array]:
    """Which elements enter each of the output, which of them there are, and their weights, `out tap`."""
    stretch = max(stride, Fraction(1)) if antialias else Fraction(1)
    reach = SUPPORT[mode] * stretch
    first = [floor(p - reach) + 1 for p in positions]
    taps = np.array(first)[:, None] + np.arange(ceil(2 * reach))
    off = [[abs(Fraction(int(i)) - p) / stretch for i in row] for row, p in zip(taps, positions, strict=True)]
    distance = np.absolute(taps.astype(np.float64) - at[:, None])
    if stretch != 1:
        distance = distance / float(stretch)
    # What is farther away than the kernel reaches has no weight.
    beyond = np.array([[d >= SUPPORT[mode] for d in row] for row in off])
    if mode == "bilinear":
        weights = 1.0 - distance
    else:
        weights = cubic(distance, a, np.array([[d <= 1 for d in row] for row in off]))
    if beyond.any():
        weights = np.where(beyond, 0.0, weights)
    return taps, (taps >= 0) & (taps < inside), weights


def interpolated(x: Array, axis: int, taps: Any, weights: Array) -> Array:
    """The weighted sum of elements of `x` along `axis`."""
    seen = np.take(np.moveaxis(x, axis, -1), taps, axis=-1)
    return np.moveaxis(np.sum(seen * weights, axis=-1), -1, axis)


def output(
    x: Float[Array, "batch *space channel"],
    coordinates: Float[Array, "*resized axis"],
    size: Size,
    scale: Scale,
    frame: str,
    mode: str,
    nearest_rounding: str,
    cubic_coefficient: float,
    outside: str,
    antialias: bool,
    *,
    resize_nearest_rounding: str = CONFIG,
    resize_cubic_coefficient: str = CONFIG,
    resize_outside: str = CONFIG,
    resize_antialias: str = CONFIG,
    resize_cubic_table: str = "exact",
) -> Float[Array, "batch *resized channel"]:
    def chosen(asked: Any, convention: str) -> Any:
        return asked if convention == CONFIG else convention

    how, border = chosen(nearest_rounding, resize_nearest_rounding), chosen(outside, resize_outside)
    a = float(chosen(cubic_coefficient, resize_cubic_coefficient))
    stretched = antialias if resize_antialias == CONFIG else resize_antialias == "on"
    if mode not in ("nearest", *SUPPORT):
        raise ConformanceError(f"unknown mode {mode!r} of a resize; it can be nearest, {', '.join(SUPPORT)}")
    if border not in ("edge", "excluded"):
        raise ConformanceError(f"unknown outside {border!r} of a resize; it can be 'edge' or 'excluded'")
    made = x
    for number, (positions, stride) in enumerate(told(coordinates, x, size, scale, frame)):
        inside = x.shape[1 + number]
        if mode == "nearest":
            nearest = np.array([rounded(p, how) for p in positions])
            made = np.take(made, np.clip(nearest, 0, inside - 1), axis=1 + number)
            continue
        if stride == 1 and all(p == j for j, p in enumerate(positions)):
            continue  # an axis that stays as it is
        along = [slice(None) if k == number else 0 for k in range(x.ndim - 2)]
        at = coordinates[(*along, number)]
        if mode == "bicubic" and resize_cubic_table == "1024" and not stretched:
            at = np.array([floor(p) + round((p - floor(p)) * 1024) / 1024 for p in positions])
        taps, there, weights = weighed(at, positions, stride, inside, mode, a, stretched)
        if border == "excluded" and not there.all():
            weights = np.where(there, weights, 0.0)
        if stretched or (border == "excluded" and not there.all()):
            weights = weights / np.sum(weights, axis=-1, keepdims=True)
        made = interpolated(made, 1 + number, np.clip(taps, 0, inside - 1), weights)
    return made


def _asked(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"frame": values["coordinates"]}  # by another name than that of the step


resize = Layer.define(
    "resize",
    summary="An image of another size, each element interpolated at its coordinates in the input.",
    formula="output[j] = sum over elements i of x[i] kernel(coordinates[j] - i), one axis after the other",
    source="Keys, Cubic Convolution Interpolation for Digital Image Processing (1981), equations 4 and 15",
    inputs={"x": "batch *space channel"},
    weights={},
    config={
        "size": None,
        "scale": None,
        "mode": "nearest",
        "coordinates": "half-pixel",
        "nearest_rounding": "half-up",
        "cubic_coefficient": -0.75,
        "outside": "edge",
        "antialias": False,
    },
    steps={"coordinates": coordinates, "output": output},
    initial=_asked,
)

LAYERS = {"resize": resize}
