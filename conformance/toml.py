"""TOML from anywhere, read within bounds, into a type."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from conformance.errors import ConformanceError

MOST_BYTES = 2**18
MOST_LINE = 4000
"""Characters of a line: the time that a dotted name takes grows with the square of its parts."""

T = TypeVar("T")


def decode(content: bytes, kind: type[T], name: str, advice: str) -> T:
    """What the file `name` holds, as a `kind`. Raises ConformanceError, with `advice`, where that is something else."""
    lines = content.splitlines() or [b""]
    if len(content) > MOST_BYTES or max(map(len, lines)) > MOST_LINE:
        raise ConformanceError(
            f"{name}: has more than {MOST_BYTES} bytes, or a line of more than {MOST_LINE}; {advice}"
        )
    try:
        return msgspec.toml.decode(content, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        # ValueError: of text that is no UTF-8, and of dates and numbers that there are not
        raise ConformanceError(f"{name}: {error}; {advice}") from None
