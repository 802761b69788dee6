"""The padding that a convolution's config asks for, as numbers. Framework-free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conformance.trace import Request


def pair(value: Any) -> tuple[int, int]:
    """A config entry of two axes, which may be given as one number for both."""
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def pads(request: Request) -> tuple[tuple[int, int], tuple[int, int]]:
    """((top, bottom), (left, right)) of a conv2d.

    "same" gives every axis ceil(size / stride) outputs; an odd pixel goes to the end with "same-upper".
    """
    config = request.config
    padding = config["padding"]
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding not in ("same-upper", "same-lower"):
        (top, bottom), (left, right) = padding
        return (int(top), int(bottom)), (int(left), int(right))
    made = []
    sizes, kernels = request.inputs["x"].shape[1:3], request.weights["kernel"].shape[:2]
    for size, kernel, stride, dilation in zip(
        sizes, kernels, pair(config["strides"]), pair(config["dilation"]), strict=True
    ):
        total = max((-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
        less, more = total // 2, total - total // 2
        made.append((less, more) if padding == "same-upper" else (more, less))
    return made[0], made[1]
