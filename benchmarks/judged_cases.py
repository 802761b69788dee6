"""The cases of another test suite after they were judged: counts, and the reasons of those that do not conform.

A reason is an entry of a script's own TOML file: patterns of `cases`, what their message `says`, the `backends` that it
is about, and the `reason` in words.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any


@dataclass(frozen=True)
class Judged:
    """What became of a case: a status, and why. It is counted with others of its `kind`, a layer or an operator."""

    name: str
    kind: str
    status: str
    message: str = ""
    backend: str = ""

    @property
    def conforms(self) -> bool:
        """Whether there is nothing to explain."""
        return self.status == "conforms"


def told(verdict: Any) -> str:
    """The culprit of a case or verdict, its causes, and the figures of its steps."""
    named = verdict.diagnosis if hasattr(verdict, "diagnosis") else verdict.causes
    causes = ", ".join(f"{c.convention} = {c.value}" for c in named) or "unexplained"
    figures = ", ".join(f"{s.name} {s.accumulated.ratio:.3g}" for s in verdict.steps if s.accumulated is not None)
    return f"{'' if verdict.culprit is None else f'at {verdict.culprit}: '}{causes} ({figures})"


def print_counts(title: str, found: list[Judged], kinds: Iterable[str]) -> None:
    """How many cases of each kind there are, and how many conform; and of all."""
    print(f"{title:24} {'cases':>5} {'conform':>8} {'other':>6}")
    for kind in kinds:
        print_count(kind, [case for case in found if case.kind == kind])
    print_count("all", found)


def print_count(name: str, found: list[Judged]) -> None:
    """One row of the counts."""
    conform = sum(case.conforms for case in found)
    print(f"{name:24} {len(found):5} {conform:8} {len(found) - conform:6}")


def explained(found: Iterable[Judged], reasons: list[Mapping[str, Any]], *, complete: bool) -> bool:
    """Print what does not conform, with its reason. Returns whether each has one, and, of all that there are
    (`complete`), each reason its case."""
    left, used = [], set()
    for case in (c for c in found if not c.conforms):
        number = next((i for i, reason in enumerate(reasons) if _explains(reason, case)), None)
        used.add(number)
        why = case.message if number is None else reasons[number]["reason"]
        print(" ".join(word for word in (f"{case.status:14}", case.backend, f"{case.name}: {why}") if word))
        if number is None:
            left.append(case)
    idle = [reason for i, reason in enumerate(reasons) if i not in used] if complete else []
    for reason in idle:
        print(f"no case needs the explanation of {', '.join(reason['cases'])} any more: take it out", file=sys.stderr)
    if left:
        print(f"{len(left)} without an explanation: {', '.join(c.name for c in left)}", file=sys.stderr)
    return not left and not idle


def _explains(reason: Mapping[str, Any], case: Judged) -> bool:
    return (
        any(fnmatchcase(case.name, pattern) for pattern in reason["cases"])
        and reason.get("says", "") in case.message
        and case.backend in reason.get("backends", [case.backend])
    )
