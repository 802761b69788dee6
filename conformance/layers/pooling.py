"""Pooling: the maximum or the mean of every window of a padded input.

Everything is written for any number of spatial axes; the input is `batch *space channel`. What a maximum is padded
with is minus infinity, so that it is never the largest; a mean counts the elements of the input alone, unless it is
asked to count the padding too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.errors import ConformanceError
from conformance.layer import Layer
from conformance.layers.convolution import SPACE, Padding, margins, per_axis, windows

if TYPE_CHECKING:
    from jaxtyping import Float

    from conformance.array import Array

CONFIG = "<config>"
Pairs = list[tuple[int, int]]


def pool_margins(x: Array, size: Sequence[int], strides: Sequence[int], padding: Padding, same: str) -> Pairs:
    """How much padding goes before and after each spatial axis; `same` is the convention about it."""
    if same != CONFIG and isinstance(padding, str) and padding.startswith("same"):
        padding = same
    return margins(padding, x.shape[1:-1], size, strides, (1,) * len(size))


def overhang(sizes: Sequence[int], pairs: Pairs, window: Sequence[int], strides: Sequence[int]) -> Pairs:
    """What windows need after the padding of each axis where their number is rounded up.

    A window that would start behind the input and what is padded before it is left out, as torch does: it would hold
    nothing at all.
    """
    made = []
    for size, (before, after), extent, stride in zip(sizes, pairs, window, strides, strict=True):
        whole = before + size + after
        count = -(-(whole - extent) // stride) + 1
        if (count - 1) * stride >= before + size:
            count -= 1
        made.append((0, max((count - 1) * stride + extent - whole, 0)))
    return made


def beyond(x: Array, pairs: Pairs, window: Sequence[int], strides: Sequence[int], asked: bool, choice: str) -> Pairs:
    """What is appended to the padded input, in the mode that the config asks for or that the convention says."""
    rounds_up = asked if choice == CONFIG else choice != "floor"
    return overhang(x.shape[1:-1], pairs, window, strides) if rounds_up else [(0, 0)] * len(pairs)


def surrounded(x: Array, pairs: Pairs, value: float | str) -> Array:
    """`x` with `value` around its spatial axes, or with its own edge ("replicate")."""
    if not any(map(any, pairs)):
        return x
    widths = [(0, 0), *pairs, (0, 0)]
    if value == "replicate":
        return np.pad(x, widths, mode="edge")
    return np.pad(x, widths, constant_values=float(value))


def max_padded(
    x: Float[Array, "batch *space channel"],
    size: int,
    strides: int,
    padding: Padding,
    *,
    conv_same_padding: str = CONFIG,
    pool_padding_value: str = "-inf",
) -> Float[Array, "batch *padded channel"]:
    axes = x.ndim - 2
    pairs = pool_margins(x, per_axis(size, axes), per_axis(strides, axes), padding, conv_same_padding)
    return surrounded(x, pairs, pool_padding_value)


def max_output(
    padded: Float[Array, "batch *padded channel"],
    x: Float[Array, "batch *space channel"],
    size: int,
    strides: int,
    padding: Padding,
    ceil_mode: bool,
    *,
    conv_same_padding: str = CONFIG,
    pool_ceil_mode: str = CONFIG,
) -> Float[Array, "batch *pooled channel"]:
    if pool_ceil_mode == "ceil-divisor":
        raise ValueError("a maximum is divided by nothing")
    axes = x.ndim - 2
    window, steps = per_axis(size, axes), per_axis(strides, axes)
    pairs = pool_margins(x, window, steps, padding, conv_same_padding)
    more = beyond(x, pairs, window, steps, ceil_mode, pool_ceil_mode)
    seen = windows(surrounded(padded, more, -np.inf), window, steps, (1,) * axes)
    return np.max(seen, axis=tuple(range(-axes, 0)))


def average_padded(
    x: Float[Array, "batch *space channel"],
    size: int,
    strides: int,
    padding: Padding,
    *,
    conv_same_padding: str = CONFIG,
    pool_padding_mode: str = "zeros",
) -> Float[Array, "batch *padded channel"]:
    axes = x.ndim - 2
    pairs = pool_margins(x, per_axis(size, axes), per_axis(strides, axes), padding, conv_same_padding)
    return surrounded(x, pairs, "replicate" if pool_padding_mode == "replicate" else 0.0)


def average_output(
    padded: Float[Array, "batch *padded channel"],
    x: Float[Array, "batch *space channel"],
    size: int,
    strides: int,
    padding: Padding,
    count_include_pad: bool,
    ceil_mode: bool,
    *,
    conv_same_padding: str = CONFIG,
    pool_count_include_pad: str = CONFIG,
    pool_ceil_mode: str = CONFIG,
) -> Float[Array, "batch *pooled channel"]:
    axes = x.ndim - 2
    window, steps = per_axis(size, axes), per_axis(strides, axes)
    pairs = pool_margins(x, window, steps, padding, conv_same_padding)
    more = beyond(x, pairs, window, steps, ceil_mode, pool_ceil_mode)
    seen = windows(surrounded(padded, more, 0.0), window, steps, (1,) * axes)
    included = count_include_pad if pool_count_include_pad == CONFIG else pool_count_include_pad == "include"
    if pool_ceil_mode != "ceil-divisor":
        more = [(0, 0)] * axes  # what a window needs behind the padding is no padding, and never counts
    counted = [
        (before, after + further, 0) if included else (0, 0, -before)
        for (before, after), (_, further) in zip(pairs, more, strict=True)
    ]
    counts = elements(x.shape[1:-1], seen.shape[1 : 1 + axes], window, steps, counted)
    return np.sum(seen, axis=tuple(range(-axes, 0))) / counts[..., None]


def elements(
    sizes: Sequence[int],
    outputs: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    counted: Sequence[tuple[int, int, int]],
) -> Any:
    """How many elements each window counts, `*pooled`.

    `counted` has for each axis how many elements before and after the input count, and where the first window starts
    among what counts.
    """
    made: Any = np.ones((), np.int64)
    for size, count, extent, stride, (before, after, start) in zip(
        sizes, outputs, window, strides, counted, strict=True
    ):
        first = np.arange(count) * stride + start
        last = np.minimum(first + extent, before + size + after)
        made = made[..., None] * np.maximum(last - np.maximum(first, 0), 0)
    return made


def global_average(x: Float[Array, "batch *space channel"]) -> Float[Array, "batch channel"]:
    return np.mean(x, axis=tuple(range(1, x.ndim - 1)))


def global_max(x: Float[Array, "batch *space channel"]) -> Float[Array, "batch channel"]:
    return np.max(x, axis=tuple(range(1, x.ndim - 1)))


def adaptive_windows(size: int, count: int, choice: str = "floor,ceil") -> list[slice]:
    """`count` windows along an axis of `size`: they cover it, and overlap where `count` does not divide its `size`.

    "floor,floor" ends each where the next begins; "fixed" has one width and one stride for all of them, and covers the
    axis too; "divided" has a width of the whole of size / count, and leaves what is left at the end out. Raises
    ValueError where a window would be empty.
    """
    if count < 1:
        raise ConformanceError(f"an adaptive pool gives at least one element along an axis, not {count}")
    if choice == "floor,ceil":
        return [slice(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
    if size < count:
        raise ValueError(f"{count} windows without a common element do not fit into {size}")
    if choice == "floor,floor":
        return [slice(i * size // count, (i + 1) * size // count) for i in range(count)]
    stride = size // count
    width = size - (count - 1) * stride if choice == "fixed" else stride
    return [slice(i * stride, i * stride + width) for i in range(count)]


def adaptive_average(
    x: Float[Array, "batch height width channel"], size: int, *, pool_adaptive_windows: str = "floor,ceil"
) -> Float[Array, "batch pooled_height pooled_width channel"]:
    counts = per_axis(size, 2)
    rows, columns = (adaptive_windows(n, k, pool_adaptive_windows) for n, k in zip(x.shape[1:3], counts, strict=True))
    means = [np.stack([np.mean(x[:, r, c], axis=(1, 2)) for c in columns], axis=1) for r in rows]
    return np.stack(means, axis=1)


_SOURCE = "Boureau, Ponce, LeCun, A Theoretical Analysis of Feature Pooling in Visual Recognition (2010), section 2"


def _pool(name: str, axes: int, steps: dict[str, Callable[..., Any]], config: dict[str, Any], **said: str) -> Layer:
    return Layer.define(
        f"{name}{axes}d",
        source=_SOURCE,
        inputs={"x": f"batch {SPACE[axes]} channel"},
        weights={},
        config={"size": 2, "strides": None, "padding": "valid", **config, "ceil_mode": False},
        falls_back={"strides": "size"},
        steps=steps,
        **said,
    )


_MAXIMA = [
    _pool(
        "max_pool",
        axes,
        {"padded": max_padded, "output": max_output},
        {},
        summary=f"The largest element of each window, along {axes} spatial {'axis' if axes == 1 else 'axes'}.",
        formula="output[p] = max over offsets o of padded[stride p + o]",
    )
    for axes in SPACE
]
_AVERAGES = [
    _pool(
        "average_pool",
        axes,
        {"padded": average_padded, "output": average_output},
        {"count_include_pad": False},
        summary=f"The mean of each window, along {axes} spatial {'axis' if axes == 1 else 'axes'}.",
        formula="output[p] = sum over offsets o of padded[stride p + o] / (elements of x in the window)",
    )
    for axes in SPACE
]
_WHOLE = [
    Layer.define(
        name,
        summary=summary,
        formula=formula,
        source="Lin, Chen, Yan, Network In Network (2014), section 3.2",
        inputs={"x": "batch *space channel"},
        weights={},
        config={},
        steps={"output": step},
    )
    for name, step, summary, formula in (
        ("global_average_pool", global_average, "The mean of each channel.", "output = mean of x over its space"),
        ("global_max_pool", global_max, "The largest element of each channel.", "output = max of x over its space"),
    )
]
_ADAPTIVE = Layer.define(
    "adaptive_average_pool2d",
    summary="The means of as many windows as are asked for, which cover the input.",
    formula="output[i] = mean of x[floor(i n / size) : ceil((i + 1) n / size)], along height and width",
    source="He, Zhang, Ren, Sun, Spatial Pyramid Pooling in Deep Convolutional Networks (2015), section 3",
    inputs={"x": "batch height width channel"},
    weights={},
    config={"size": 1},
    steps={"output": adaptive_average},
)

LAYERS = {layer.name: layer for layer in (*_MAXIMA, *_AVERAGES, *_WHOLE, _ADAPTIVE)}
