"""What a resize makes of the size of each spatial axis. Framework-free."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from conformance_adapters.window_padding import spaces

if TYPE_CHECKING:
    from conformance.trace import Request


def factors(request: Request) -> tuple[float, ...] | None:
    """How many times as large each axis becomes, where the config says so."""
    scale = request.config["scale"]
    if scale is None:
        return None
    return (float(scale),) * spaces(request) if isinstance(scale, int | float) else tuple(float(s) for s in scale)


def sizes(request: Request) -> tuple[int, ...]:
    """How many elements come out along each axis."""
    given, size = factors(request), request.config["size"]
    if given is not None:
        return tuple(int(n * Fraction(repr(s))) for n, s in zip(request.inputs["x"].shape[1:-1], given, strict=True))
    return (size,) * spaces(request) if isinstance(size, int) else tuple(int(n) for n in size)


def only_sizes(request: Request) -> str | None:
    """Why what takes sizes cannot express the request: its scale is not the ratio of the sizes."""
    given = factors(request)
    if given is None:
        return None
    inside = request.inputs["x"].shape[1:-1]
    alike = all(n * Fraction(repr(s)) == m for n, s, m in zip(inside, given, sizes(request), strict=True))
    return None if alike else "it takes a size, and the scale that is asked for is not the ratio of two"


def kernel(config: Any) -> tuple[float, str]:
    """The coefficient and the border of a bicubic resize."""
    return float(config["cubic_coefficient"]), str(config["outside"])


def other_kernel(request: Request, coefficient: float, outside: str) -> str | None:
    """Why what has this coefficient and border cannot express a bicubic, or an antialiased, resize."""
    config = request.config
    if config["antialias"] and config["mode"] != "nearest" and config["outside"] != "excluded":
        return "antialiased, it takes no element from outside"
    if config["mode"] != "bicubic":
        return None
    asked = kernel(config)
    return None if asked == (coefficient, outside) else f"its cubic kernel has {coefficient} and {outside}, not {asked}"
