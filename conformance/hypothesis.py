"""What a search for a fault tries, and what it finds: hypotheses, the better ones first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conformance.tape import Found


@dataclass(frozen=True)
class Round:
    """What one round of a search tries: up to so many faulty steps (`depth`), at each of them known variants,
    singly or also two at once (`pairs`), `numbers` that are solved for, and coarser `precision`."""

    depth: int = 1
    known: bool = True
    pairs: bool = False
    numbers: bool = False
    precision: bool = False


# The fewest changes first, a name before a bare number, and coarser arithmetic after all else.
ROUNDS = (
    Round(),
    Round(known=False, numbers=True),
    Round(known=False, pairs=True, numbers=True),
    Round(2, pairs=True, numbers=True),
    Round(3, pairs=True),
    Round(known=False, precision=True),
)
NAMED = Round(pairs=True)


@dataclass(frozen=True)
class Fault:
    """A hypothesis: `step` (by number) has `value`, seen in `found` if anywhere.

    Its conventions hold in later steps too, or `here_only`; `exceptions` are later steps in which they do not.
    """

    number: int
    value: Any
    found: Found | None
    conventions: Mapping[str, Any]
    reached: int
    complete: bool
    rest: tuple[Fault, ...] = ()
    here_only: bool = False
    exceptions: int = 0

    @property
    def rank(self) -> tuple[Any, ...]:
        """Smaller is better: explains the output, gets further, is seen, changes less, comes first."""
        changes = len(self.conventions) + sum(len(f.conventions) for f in self.rest)
        exceptions = self.exceptions + sum(f.exceptions for f in self.rest)
        return (not self.complete, -self.reached, self._unseen, changes, exceptions, self.number)

    @property
    def _unseen(self) -> int:
        """How many of the faulty values the tape does not show: what is seen is the better evidence."""
        return sum(f.found is None for f in (self, *self.rest))
