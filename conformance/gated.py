"""What a gate gave: a run whose cases have their baseline and what changed. DESIGN section 11."""

from __future__ import annotations

import msgspec

from conformance.result import Case, Finding, Run

CHANGES = (
    "regressed",
    "changed-default",
    "crashed",
    "gone",
    "improved",
    "changed-divergence",
    "drift",
    "new",
    "unjudged",
    "same-divergence",
    "identical",
)
"""What a case can have become, what a reader must see first.

`regressed`: it conformed, and diverges (or cannot be told any more). `changed-default`: it diverges, with another
value of a convention than before. `crashed`: it was judged, and cannot be run now. `gone`, `new`: only one run has it,
or only in one of them the framework does.
`improved`: it diverged or failed, and conforms. `changed-divergence`: it diverges, and otherwise than before. `drift`:
other bits, within rounding. `unjudged`: neither run could judge it. `same-divergence`: it diverges as before.
`identical`: the same bits.
"""


class Moved(msgspec.Struct, frozen=True):
    """A convention that has another value than before; `before` or `now` is the canonical value where the layer had it,
    or has it now."""

    convention: str
    step: str
    before: str
    now: str


class Drift(msgspec.Struct, frozen=True):
    """How far two outputs are from each other, both within rounding of the oracle.

    `ratio` counts the greatest difference in tolerances. With the values of both runs it is `measured`, and `max_abs`
    and `elements` (how many differ) are known; from figures alone it is the bound that two errors have together.
    """

    ratio: float | str
    measured: bool
    max_abs: float | str | None = None
    elements: int | None = None
    of: int | None = None


class Baseline(msgspec.Struct, frozen=True):
    """What the case was in the baseline."""

    status: str
    culprit: str | None
    ratio: float | str | None
    message: str | None
    diagnosis: list[Finding]


class GatedCase(Case, frozen=True, kw_only=True):
    """A case of the candidate with its baseline; of what is gone, the case as it was."""

    baseline: Baseline | None
    change: str
    moved: list[Moved] = []  # noqa: RUF012  # msgspec copies it
    drift: Drift | None = None
    fails: bool = False


class Gated(Run, frozen=True, kw_only=True):
    """The candidate's run beside its baseline. `changes` counts the cases by what they became, `failing` those that the
    policy does not let pass; `versions` has what differs between the environments (before and now)."""

    cases: list[GatedCase]  # type: ignore[assignment]  # a run's cases, with more to each
    changes: dict[str, int]
    failing: int
    versions: dict[str, tuple[str | None, str | None]]

    @property
    def exit_code(self) -> int:
        """1 where the policy does not let it pass."""
        return 1 if self.failing else 0


def counted(cases: list[GatedCase]) -> dict[str, int]:
    """How many cases became what, in the order of CHANGES; absent ones are left out."""
    counts = {change: sum(c.change == change for c in cases) for change in CHANGES}
    return {change: n for change, n in counts.items() if n}
