"""The gate: a candidate's run beside its baseline, both judged against the oracle.

What rounds otherwise is told from what computes otherwise, and what was wrong and is now right from what broke.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from conformance.conventions import conventions
from conformance.errors import ConformanceError
from conformance.gated import Baseline, Drift, Gated, GatedCase, Moved, counted
from conformance.policy import Policy
from conformance.reading import read_run
from conformance.result import Case, Finding, Run, number, summarise
from conformance.saved import open_saved

if TYPE_CHECKING:
    from numpy.typing import NDArray

Key = tuple[str, ...]
Outputs = Callable[[Case], "NDArray[Any] | None"]
"""The output of a case, where it was saved."""

_JUDGED = ("conforms", "diverges", "known-divergence", "stale-divergence", "uninformative", "inconclusive")
_RIGHT = ("conforms", "stale-divergence")
_WRONG = ("diverges", "known-divergence")
_FAILED = ("crashed", "timeout", "error", "unavailable")


def key(case: Case) -> Key:
    """What makes a case the same one in two runs."""
    return (case.layer, case.fixture, case.adapter, case.subject, case.mode, case.dtype, case.device)


def gate(
    baseline: Run,
    candidate: Run,
    policy: Policy | None = None,
    outputs: tuple[Outputs, Outputs] | None = None,
) -> Gated:
    """`candidate` beside `baseline`. `outputs` give the saved outputs of either's cases: they measure drift."""
    rules = policy or Policy()
    before = {key(case): case for case in baseline.cases}
    now = {key(case): case for case in candidate.cases}
    cases = [_gated(before.get(k), case, outputs) for k, case in now.items()]
    cases += [_gated(case, None, outputs) for k, case in before.items() if k not in now]
    cases = [msgspec.structs.replace(case, fails=rules.fails(case)) for case in cases]
    fields = {f: getattr(candidate, f) for f in Run.__struct_fields__ if f not in ("cases", "summary")}
    return Gated(
        **fields,
        cases=cases,
        summary=summarise([case for case in cases if case.change != "gone"]),
        changes=counted(cases),
        failing=sum(case.fails for case in cases),
        versions=_versions(baseline.environment, candidate.environment),
    )


def recorded(path: Path) -> tuple[Run, Outputs]:
    """The run that `--save` or `--json` wrote to `path`, and the outputs that go with it, where they were saved.

    Raises ConformanceError where it is neither, and for a saved run that was interrupted.
    """

    if not path.is_dir():
        return read_run(path), lambda case: None
    saved = open_saved(path)
    if not saved.whole:  # what is missing would count as new, or as gone
        raise ConformanceError(f"{path} is a run that was interrupted: finish it by `conformance run --resume {path}`")

    def output(case: Case) -> NDArray[Any] | None:
        try:
            return saved.arrays(case).get("output")
        except ConformanceError:  # not saved, or damaged: the figures are in the run all the same
            return None

    return saved.run, output


def rerun(baseline: Run, progress: Callable[[Case, int, int], None] | None = None) -> Run:
    """The cases of `baseline` run again, with what is installed now.

    Raises ConformanceError where it has a fixture or an adapter that there is not. Other subjects are the caller's.
    """
    from conformance.fixture import select
    from conformance.run import run

    cases = [case for case in baseline.cases if case.fixture]

    def named(field: str) -> list[str]:
        return list(dict.fromkeys(getattr(case, field) for case in cases))

    return run(
        select(named("fixture")) if cases else [],
        named("adapter"),
        named("dtype"),
        modes=named("mode"),
        progress=progress,
    )


def _versions(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, tuple[str | None, str | None]]:
    names = sorted({*before, *now})
    return {name: (before.get(name), now.get(name)) for name in names if before.get(name) != now.get(name)}


def _gated(before: Case | None, now: Case | None, outputs: tuple[Outputs, Outputs] | None) -> GatedCase:
    shown = now if now is not None else before
    assert shown is not None
    fields = {f: getattr(shown, f) for f in Case.__struct_fields__}
    baseline = None if before is None else _baseline(before)
    if before is None or now is None:
        return GatedCase(**fields, baseline=baseline, change="gone" if now is None else "new")
    moved = _moved(before, now)
    change = _change(before, now, moved)
    drift = _drift(before, now, outputs) if change == "drift" else None
    if drift is not None and drift.elements == 0:
        change, drift = "identical", None
    return GatedCase(**fields, baseline=baseline, change=change, moved=moved, drift=drift)


def _baseline(case: Case) -> Baseline:
    ratio = None if case.ratio is None else number(case.ratio)
    return Baseline(case.status, case.culprit, ratio, case.message, case.diagnosis)


def _change(before: Case, now: Case, moved: list[Moved]) -> str:
    if now.status in _FAILED:
        return "unjudged" if before.status not in _JUDGED else "crashed"
    if before.status not in _JUDGED:
        failed = before.status in _FAILED and before.status != "unavailable"
        return "unjudged" if now.status not in _JUDGED else "improved" if failed and now.status in _RIGHT else "new"
    if now.status not in _JUDGED:  # unsupported now: the layer, dtype or option is no longer there
        return "gone"
    if moved and (now.status in _WRONG or now.left):  # a default that is now the canonical one has changed too
        return "changed-default"
    if now.status in _WRONG:
        if before.status not in _WRONG:
            return "regressed"
        return "same-divergence" if _sameness(before) == _sameness(now) else "changed-divergence"
    if before.status in _WRONG:
        return "improved" if now.status in _RIGHT else "changed-divergence"
    if before.status in _RIGHT and now.status not in _RIGHT:
        return "regressed"  # nothing can be said of it any more
    return "identical" if before.output and before.output == now.output else "drift"


def _sameness(case: Case) -> tuple[Any, ...]:
    return case.culprit, [(f.convention, f.value, f.step) for f in case.diagnosis if f.explains]


def _moved(before: Case, now: Case) -> list[Moved]:
    """Conventions of another value than before, of those that explain a divergence."""
    was, has = _explaining(before), _explaining(now)
    moved = []
    for convention, step in dict.fromkeys([*was, *has]):
        old, new = was.get((convention, step)), has.get((convention, step))
        if (old and old.value) != (new and new.value):
            either = old or new
            assert either is not None
            # arithmetic is nothing that a framework has a default of
            if convention in conventions() and not convention.startswith(("arithmetic.", "weights.")):
                values = [found.value if found is not None else either.canonical for found in (old, new)]
                moved.append(Moved(convention, step, *values))
    return moved if before.status in _JUDGED and now.status in _JUDGED else []


def _explaining(case: Case) -> dict[tuple[str, str], Finding]:
    return {(f.convention, f.step): f for f in case.diagnosis if f.explains}


def _drift(before: Case, now: Case, outputs: tuple[Outputs, Outputs] | None) -> Drift | None:
    arrays = None if outputs is None else (outputs[0](before), outputs[1](now))
    worst = [_of_the_output(case) for case in (before, now)]
    bound = sum(worst)
    if arrays is None or arrays[0] is None or arrays[1] is None or arrays[0].shape != arrays[1].shape:
        return Drift(number(bound), measured=False)
    old, new = (np.asarray(a, dtype=np.float64) for a in arrays)
    differs = ~((old == new) | (np.isnan(old) & np.isnan(new)))
    with np.errstate(invalid="ignore"):
        size = float(np.max(np.abs(new - old), where=differs, initial=0.0))
    return Drift(number(bound), measured=True, max_abs=number(size), elements=int(differs.sum()), of=int(differs.size))


def _of_the_output(case: Case) -> float:
    """The error of a case's output in tolerances."""
    told = case.steps[-1].accumulated if case.steps else None
    return math.nan if told is None else told.tolerances
