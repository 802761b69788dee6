"""Problems: cases that have one cause, told once, whatever the number of dtypes in which they show."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable
from dataclasses import dataclass

from conformance.result import Case, Run


@dataclass(frozen=True)
class Problem:
    """Cases of one cause, the one with the greatest ratio first: they differ in dtype and figures alone, or,
    where they are known divergences, are of one subject and one entry."""

    cases: tuple[Case, ...]

    @property
    def worst(self) -> Case:
        """The case whose figures are told."""
        return self.cases[0]

    @property
    def dtypes(self) -> list[str]:
        """The dtypes in which it shows."""
        return sorted({c.dtype for c in self.cases})

    @property
    def modes(self) -> list[str]:
        """The execution modes in which it shows, eager first."""
        return sorted({c.mode for c in self.cases}, key=lambda mode: (mode != "eager", mode))

    @property
    def fixtures(self) -> list[str]:
        """The fixtures on which it shows."""
        return list(dict.fromkeys(c.fixture for c in sorted(self.cases, key=lambda c: c.fixture)))

    @property
    def told_dtype(self) -> str:
        """The dtype of the figures, where there are several; else empty."""
        return self.worst.dtype if len(self.dtypes) > 1 else ""


def problems(run: Run, statuses: Collection[str]) -> list[Problem]:
    """The cases of these statuses, merged; in the order of the run."""
    merged: dict[Hashable, list[Case]] = {}
    for case in run.cases:
        if case.status in statuses:
            merged.setdefault(_sameness(case), []).append(case)
    return [Problem(tuple(sorted(cases, key=_size, reverse=True))) for cases in merged.values()]


def _sameness(case: Case) -> Hashable:
    if case.status == "known-divergence":
        return case.layer, case.adapter, case.subject, case.status, case.message
    diagnosis = tuple((f.convention, f.value, f.canonical, f.step) for f in case.diagnosis)
    # A divergence's message has figures, which differ by dtype; that of a failure is what there is to tell.
    message = None if case.status == "diverges" else case.message
    where = (case.layer, case.fixture, case.adapter, case.subject, case.mode, case.device)
    return (*where, case.status, case.culprit, case.culprit_until, diagnosis, message)


def _size(case: Case) -> float:
    if case.ratio is None:
        return -1.0
    return math.inf if math.isnan(case.ratio) else case.ratio
