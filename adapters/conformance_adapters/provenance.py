"""What a tensor was made of: the entries of a tape, or weights and constants alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Positions on the tape, ascending, and whether nothing but weights and constants is behind them."""

    positions: tuple[int, ...] = ()
    fixed: bool = True


def joined(sources: Iterable[Source]) -> Source:
    """What is made of all of `sources`; what is made of nothing is a constant."""
    found = list(sources)
    positions = {p for source in found for p in source.positions}
    return Source(tuple(sorted(positions)), all(s.fixed for s in found))
