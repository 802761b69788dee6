"""Planted faults of which the judge does not say all that it should: what it misses, and why.

The tests hold it to exactly this. An entry that is not needed any more fails them, and the entries count
against the shares that are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shortfall:
    """Whether the right steps are blamed all the same, whether the names are right, and `why` something is not."""

    placed: bool
    named: bool
    why: str


_CENTRED = "`x - mean` is taken for the normalised value, which is never there: the factor holds the scale too"
SHORTFALLS = {"flax_norm_without_bias": Shortfall(False, True, _CENTRED)}
WITHOUT = Shortfall(True, True, "")
