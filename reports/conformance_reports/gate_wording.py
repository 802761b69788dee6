"""A gate in words: what a case became, cases that became the same told once, and the outcome."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from conformance.gated import CHANGES, Drift, Gated, GatedCase
from conformance.result import Finding
from conformance_reports.wording import cause, figure, listed, tolerances

QUIET = ("identical", "same-divergence", "unjudged")
"""The changes that are none: they are counted, and not listed."""
_COUNTED = {
    "regressed": ("regressed", "regressed"),
    "changed-default": ("changed default", "changed defaults"),
    "crashed": ("can no longer be run", "can no longer be run"),
    "gone": ("gone", "gone"),
    "improved": ("improved", "improved"),
    "changed-divergence": ("diverges otherwise", "diverge otherwise"),
    "drift": ("drifted within rounding", "drifted within rounding"),
    "new": ("new", "new"),
    "unjudged": ("not judged in either", "not judged in either"),
    "same-divergence": ("diverges as before", "diverge as before"),
    "identical": ("identical", "identical"),
}


@dataclass(frozen=True)
class Row:
    """Cases that became the same, of one subject."""

    cases: tuple[GatedCase, ...]

    @property
    def worst(self) -> GatedCase:
        """The case that is told: of drift the greatest."""
        return max(self.cases, key=lambda case: 0.0 if case.drift is None else float(case.drift.ratio))

    @property
    def where(self) -> str:
        """The fixtures and dtypes."""
        case = self.cases[0]
        fixtures = list(dict.fromkeys(c.fixture or c.subject for c in self.cases))
        many = f"{len(fixtures)} fixtures" if len(fixtures) > 1 else fixtures[0]
        mode = "" if case.mode == "eager" else f", {case.mode}"
        return f"{many}, {listed(sorted({c.dtype for c in self.cases}))}{mode}"


def rows(run: Gated) -> list[Row]:
    """What changed, the gravest first."""
    merged: dict[tuple[object, ...], list[GatedCase]] = {}
    for case in run.cases:
        if case.change not in QUIET:
            merged.setdefault(_sameness(case), []).append(case)
    found = [Row(tuple(cases)) for cases in merged.values()]
    return sorted(found, key=lambda row: (not row.worst.fails, CHANGES.index(row.worst.change)))


def _sameness(case: GatedCase) -> tuple[object, ...]:
    told = "" if case.change == "drift" else " ".join(sentences(case))
    return (case.layer, case.adapter, case.subject, case.mode, case.change, case.fails, told)


def sentences(case: GatedCase) -> Iterator[str]:
    """What a case became, and how."""
    before = case.baseline
    for moved in case.moved:
        yield f"{moved.convention} at `{moved.step}`: {moved.before} before, {moved.now} now"
    if case.drift is not None:
        yield drift(case.drift)
    if case.change in ("regressed", "changed-divergence") and not case.moved:
        yield f"{_fault(case.culprit, case.diagnosis)} now"
    if case.change in ("improved", "changed-divergence") and before is not None and not case.moved:
        if before.culprit is not None:
            yield f"{_fault(before.culprit, before.diagnosis)} before"
        else:
            yield f"{before.status} before"
    if case.change == "crashed":
        yield f"{case.status}: {case.message}" if case.message else case.status
    if case.change == "gone" and before is not None:
        yield f"{before.status} before, {'not there' if case.status == before.status else case.status} now"
    if case.change == "new":
        yield case.status


def _fault(culprit: str | None, diagnosis: Sequence[Finding]) -> str:
    at = f"diverges at `{culprit}`" if culprit else "nothing can be said of it"
    causes = [cause(f) + ("" if f.explains else " (a hint)") for f in diagnosis]
    return f"{at}: {', '.join(causes)}" if causes else at


def drift(told: Drift) -> str:
    """How far an output drifted."""
    bound = f"at most {tolerances(float(told.ratio))} tolerances apart"
    if not told.measured or told.max_abs is None:
        return bound
    return f"{told.elements:,} of {told.of:,} elements differ, by up to {figure(told.max_abs)}: {bound}"


def counted(change: str, number: int) -> str:
    """`3 regressed`."""
    one, many = _COUNTED[change]
    return f"{number} {one if number == 1 else many}"


def counts(run: Gated) -> str:
    """How many cases became what."""
    return ", ".join(counted(change, n) for change, n in run.changes.items()) or "no case"


def outcome(run: Gated) -> str:
    """The gate in one sentence."""
    if run.failing:
        failing = [change for change in CHANGES if any(c.fails and c.change == change for c in run.cases)]
        told = [counted(change, sum(c.fails and c.change == change for c in run.cases)) for change in failing]
        cases = f"{run.failing} of {len(run.cases)} cases"
        return f"The gate stays closed: {cases} fail, {listed(told)}."
    if not run.cases:
        return "There is nothing to compare."
    changed = {change: n for change, n in run.changes.items() if change not in QUIET}
    if not changed:
        return "The gate is open: nothing changed."
    if set(changed) == {"drift"}:
        return "The gate is open: nothing changed but rounding."
    return "The gate is open."


def versions(run: Gated) -> list[str]:
    """`onnxruntime 1.22.1 -> 1.31.1`, for each package that differs."""
    return [f"{name} {before or 'not there'} -> {now or 'not there'}" for name, (before, now) in run.versions.items()]
