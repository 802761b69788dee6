"""The options of a layer with windows, such as a pool, as one number or pair for each spatial axis. Framework-free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conformance.trace import Request

Pairs = tuple[tuple[int, int], ...]
NAMED = ("same-upper", "same-lower")


def per_axis(value: Any, axes: int) -> tuple[int, ...]:
    """A config entry that may be given as one number for all axes."""
    return (value,) * axes if isinstance(value, int) else tuple(int(v) for v in value)


def spaces(request: Request) -> int:
    """How many spatial axes the request's x has, `batch *space channel`."""
    return request.inputs["x"].ndim - 2


def pool_pads(request: Request) -> Pairs:
    """How much a pool pads before and after each axis."""
    axes = spaces(request)
    window, strides = (per_axis(request.config[n], axes) for n in ("size", "strides"))
    return margins(request.config["padding"], request.inputs["x"].shape[1:-1], window, strides, (1,) * axes)


def margins(
    padding: Any, sizes: Sequence[int], window: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> Pairs:
    """What goes before and after each axis; "same" gives ceil(size / stride) outputs, an odd element goes after with
    "same-upper" and before with "same-lower"."""
    if padding == "valid":
        return ((0, 0),) * len(sizes)
    extents = [d * (k - 1) + 1 for k, d in zip(window, dilation, strict=True)]
    if padding == "causal":
        return tuple((extent - 1, 0) for extent in extents)
    if padding not in NAMED:
        return tuple((int(before), int(after)) for before, after in padding)
    made = []
    for size, extent, stride in zip(sizes, extents, strides, strict=True):
        total = max((-(-size // stride) - 1) * stride + extent - size, 0)
        less, more = total // 2, total - total // 2
        made.append((less, more) if padding == "same-upper" else (more, less))
    return tuple(made)


def past_window(request: Request) -> bool:
    """Whether a pool's window can lie in its padding as a whole."""
    window = per_axis(request.config["size"], spaces(request))
    return any(max(sides) >= size for sides, size in zip(pool_pads(request), window, strict=True))


def alike(pairs: Pairs) -> bool:
    """Whether both sides of every axis are padded alike."""
    return all(before == after for before, after in pairs)


def convolution_pads(request: Request) -> Pairs:
    """How much a convolution pads before and after each axis."""
    axes, config = spaces(request), request.config
    strides, dilation = (per_axis(config[n], axes) for n in ("strides", "dilation"))
    window = request.weights["kernel"].shape[:axes]
    return margins(config["padding"], request.inputs["x"].shape[1:-1], window, strides, dilation)


def transposed_crops(request: Request) -> Pairs:
    """How much a transposed convolution cuts off before and after each axis, `output_padding` apart: what the
    convolution that it transposes pads. Less than none is put back."""
    axes, config = spaces(request), request.config
    strides, dilation = (per_axis(config[n], axes) for n in ("strides", "dilation"))
    padding = config["padding"]
    if padding not in NAMED:
        return ((0, 0),) * axes if padding == "valid" else tuple((int(a), int(b)) for a, b in padding)
    made = []
    for window, stride, apart in zip(request.weights["kernel"].shape[:axes], strides, dilation, strict=True):
        total = apart * (window - 1) + 1 - stride
        less, more = total // 2, total - total // 2
        made.append((0, total) if total < 0 else (less, more) if padding == "same-upper" else (more, less))
    return tuple(made)


def whole_crops(request: Request) -> Pairs:
    """`transposed_crops` with the `output_padding` that is not cut off."""
    more = per_axis(request.config["output_padding"], spaces(request))
    return tuple((a, b - n) for (a, b), n in zip(transposed_crops(request), more, strict=True))


def pad_pairs(request: Request) -> Pairs:
    """What a `pad` puts before and after each axis: one number for all sides, or a pair for each axis."""
    padding = request.config["padding"]
    if isinstance(padding, int):
        return ((padding, padding),) * spaces(request)
    return tuple((int(before), int(after)) for before, after in padding)
