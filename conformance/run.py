"""The main job: every fixture on every adapter in every dtype, each judged against the oracle."""

from __future__ import annotations

import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.adapter import EAGER, Adapter, adapter_names, load, missing, modes_of, reads_back
from conformance.divergences import Divergence, known, resolved
from conformance.errors import ConformanceError, Unsupported
from conformance.fixture import Fixture
from conformance.flow import Flow
from conformance.judge import judge
from conformance.layer import nearest
from conformance.layers import get_layer, layer_names
from conformance.plan import plan_of
from conformance.precision import Precision, precision
from conformance.result import Case, Run, asked_for, parts_of, summarise
from conformance.sample import thinned
from conformance.saved import Planned
from conformance.saving import arrays_of
from conformance.trace import Request, Trace
from conformance.worker import BAD_INPUT, WorkerFailed, Workers, failure, work

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.saving import Saving

Progress = Callable[[Case, int, int], None]

_FRESH_SEED = 20260101
ALL_MODES = "all"  # no mode's name: every mode that an adapter has


@dataclass(frozen=True)
class _Unit:
    """One case to be run; `back` where every weight must come back from it."""

    fixture: Fixture
    adapter: str
    request: Request
    flow: Flow
    precision: Precision
    back: bool = False

    def case(self, status: str, message: str | None, seconds: float = 0.0, **verdict: Any) -> Case:
        return Case(
            layer=self.fixture.layer,
            fixture=self.fixture.id,
            adapter=self.adapter,
            subject=self.request.subject,
            mode=self.request.mode,
            dtype=self.precision.name,
            device=self.request.device,
            status=status,
            message=message,
            seconds=round(seconds, 3),
            left=list(self.request.left),
            **verdict,
        )

    @property
    def unjudged(self) -> Case:
        """The case before it is run: what makes it this one."""
        return self.case("", None)


def chosen_adapters(names: Iterable[str]) -> list[str]:
    """The adapters called `names`; a family name such as `keras` stands for all its back ends.

    Raises ConformanceError for an unknown name, with the nearest.
    """
    installed = adapter_names()
    chosen: list[str] = []
    for name in names:
        family = [n for n in installed if n == name or n.startswith(f"{name}-")]
        if not family:
            raise ConformanceError(
                f"unknown adapter {name!r}{nearest(name, installed)}; installed are {', '.join(installed)}"
            )
        chosen += [n for n in family if n not in chosen]
    return chosen or installed


def run(
    fixtures: Iterable[Fixture],
    adapters: Iterable[str] = (),
    dtypes: Iterable[str] = ("float32", "float64"),
    layers: Iterable[str] = (),
    *,
    modes: Iterable[str] = (EAGER,),
    jobs: int | None = None,
    timeout: float | None = None,
    memory: float | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    saving: Saving | None = None,
) -> Run:
    """Run `fixtures` (those of `layers`, if any are named) on `adapters` (all, if none are named).

    Each adapter runs in those of `modes` that it has; "all" stands for every one. `timeout` (seconds) and `memory`
    (GiB) are what one case may take in its framework. With `saving`, each case is saved as it is done, and those that
    were done before are not run again.

    Raises ConformanceError for an unknown name or a fixture whose arrays do not fit its layer; what goes
    wrong in a framework is a case's status, never an exception. `progress` is called with each case.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    wanted = list(layers)
    for name in wanted:
        if name not in layer_names():
            get_layer(name)  # raises, with the nearest name
    chosen = [f for f in fixtures if not wanted or f.layer in wanted]
    formats = [precision(d) for d in dtypes]
    named = list(adapters)
    loaded = {name: load(name) for name in chosen_adapters(named)}
    units, cases, entries = _planned(chosen, loaded, formats, chosen_modes(modes, loaded, named))
    environment = {"python": platform.python_version(), "numpy": np.__version__, "platform": platform.machine()}
    total = len(units) + len(cases)
    if saving is not None:
        every = sorted([*cases, *(u.unjudged for u in units)], key=_order)
        done = saving.plan(plan_of(chosen, loaded, entries, every))
        environment |= saving.environment
        for case in cases:
            if Planned.of(case) not in done:
                saving.keep(case, {}, environment)
        here = {Planned.of(u.unjudged): u for u in units}
        cases += [case for planned, case in done.items() if planned in here]
        units = [u for planned, u in here.items() if planned not in done]
    for number, case in enumerate(cases, 1):
        if progress is not None:
            progress(case, number, total)
    workers = executor or Workers(jobs or os.cpu_count() or 1, timeout, memory)
    try:
        for unit, future in _completed(workers, units, dismissing=executor is None):
            case, arrays = _judged(unit, future, workers, environment)
            cases.append(resolved(case, entries[unit.adapter], environment))
            if saving is not None:
                saving.keep(cases[-1], arrays, environment)
            if progress is not None:
                progress(cases[-1], len(cases), total)
    finally:
        if executor is None:
            workers.shutdown(cancel_futures=True)
    cases.sort(key=_order)
    return Run(
        environment=dict(sorted(environment.items())),
        started=started.isoformat(timespec="seconds") if saving is None else saving.started,
        seconds=round(time.perf_counter() - clock, 3),
        summary=summarise(cases),
        cases=thinned(cases),
    )


def _order(case: Case) -> tuple[Any, ...]:
    """By layer, fixture and subject; eager before the other modes."""
    asked = (case.fixture, case.adapter, case.subject, case.dtype)
    return layer_names().index(case.layer), *asked, case.mode != EAGER, case.mode


def chosen_modes(
    modes: Iterable[str], adapters: Mapping[str, Adapter], named: Iterable[str] = ()
) -> dict[str, tuple[str, ...]]:
    """Those of `modes` that each of `adapters` has, in its own order; "all" stands for every one.

    An adapter without any of them has nothing to run. Raises ConformanceError for a mode that none of them has, and
    where one that was `named` (or every one of a family's) has none.
    """
    wanted = list(dict.fromkeys(modes))
    there = {name: modes_of(adapter) for name, adapter in adapters.items()}
    every = sorted({m for of in there.values() for m in of}, key=lambda m: (m != EAGER, m))
    for mode in wanted:
        if mode not in (ALL_MODES, *every):
            raise ConformanceError(
                f"unknown mode {mode!r}{nearest(mode, every)}; the adapters that were chosen have {', '.join(every)}, "
                f"and {ALL_MODES!r} stands for every one"
            )
    chosen = {name: tuple(m for m in of if m in wanted or ALL_MODES in wanted) for name, of in there.items()}
    for name in named:
        family = [n for n in chosen if n == name or n.startswith(f"{name}-")]
        if not any(chosen[n] for n in family):
            has = dict.fromkeys(m for n in family for m in there[n])
            raise ConformanceError(f"{name} has no mode {' or '.join(map(repr, wanted))}; it has {', '.join(has)}")
    return chosen


def _planned(
    fixtures: list[Fixture],
    adapters: Mapping[str, Adapter],
    formats: list[Precision],
    modes: Mapping[str, Sequence[str]],
) -> tuple[list[_Unit], list[Case], dict[str, list[Divergence]]]:
    """The units to run, and the cases that are settled without running."""
    units: list[_Unit] = []
    settled: list[Case] = []
    entries = {name: known(adapter) for name, adapter in adapters.items()}
    bound = [(f, p, *_bound(f, p)) for f in fixtures for p in formats]
    for name, adapter in adapters.items():
        absent = missing(adapter)
        for (fixture, number_format, flow, inputs, weights), mode in product(bound, modes[name]):
            config = {k: flow.config[k] for k in flow.config}
            left = tuple(k for k in config if k not in fixture.config) if fixture.defaults else ()
            source = str(fixture.folder)
            request = Request(
                fixture.layer, "", config, inputs, weights, number_format.name, mode, source=source, left=left
            )
            unit = _Unit(fixture, name, request, flow, number_format, reads_back(adapter))
            if absent is not None:
                settled.append(unit.case("unavailable", f"{absent} is not installed: {adapter.install}"))
                continue
            try:
                subjects = _subjects(adapter, fixture, request)
            except Exception as error:  # of a third party's code too
                failed = failure(error)
                settled.append(unit.case(failed.status, str(failed)))
                continue
            shipped = {s.subject for s in fixture.shipped}  # whose weights are their own matter
            units += [
                replace(unit, request=replace(request, subject=s), back=unit.back and s not in shipped)
                for s in subjects
            ]
    return units, settled, entries


def _bound(fixture: Fixture, number_format: Precision) -> tuple[Flow, dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    inputs, weights = fixture.load()
    inputs = {n: number_format.round(a) for n, a in inputs.items()}
    weights = {n: number_format.round(a) for n, a in weights.items()}
    layer = get_layer(fixture.layer, fixture.config)
    config = {} if fixture.layer == "sequential" else fixture.config
    flow = Flow.bind(layer, config, inputs, weights, where=f"fixture {fixture.id}")
    done = "at its first step"
    try:
        for step, _ in flow.run(None):
            done = f"after step {step.name!r}"
    except Exception as error:  # config and shapes that no check foresaw: the fixture's fault, told before any work
        raise ConformanceError(
            f"fixture {fixture.id}: {fixture.layer} cannot be computed {done} ({error}); check its config and shapes"
        ) from error
    return flow, inputs, weights


def _subjects(adapter: Adapter, fixture: Fixture, request: Request) -> list[str]:
    """The framework's own layers, and what the fixture ships for this adapter."""
    shipped = [s.subject for s in fixture.shipped if s.adapter == adapter.name and request.dtype in s.dtypes]
    try:
        return [*adapter.subjects(request), *shipped]
    except Unsupported:
        if not shipped:
            raise
        return shipped


def _completed(workers: Executor, units: list[_Unit], dismissing: bool) -> Iterable[tuple[_Unit, Future[Trace]]]:
    """Hand the units out, adapter by adapter, and give them back as they are done.

    `dismissing` ends the process of an adapter whose work is done; a caller's own workers are the caller's to end.
    """
    futures = {workers.submit(work, u.adapter, u.request): u for u in units}
    left = Counter(u.adapter for u in units)
    for future in as_completed(list(futures)):
        unit = futures.pop(future)
        yield unit, future
        left[unit.adapter] -= 1
        if dismissing and not left[unit.adapter] and isinstance(workers, Workers):
            workers.dismiss(unit.adapter)


def _judged(
    unit: _Unit, future: Future[Trace], workers: Executor, environment: dict[str, str]
) -> tuple[Case, dict[str, NDArray[Any]]]:
    """The case, and the arrays that it was judged by: none where it was not."""
    clock = time.perf_counter()
    try:
        trace = future.result()
    except Exception as error:  # any executor's, whatever it raises
        failed = failure(error)
        if failed.status == BAD_INPUT:
            raise ConformanceError(f"fixture {unit.fixture.id}: {failed}") from error
        return unit.case(failed.status, str(failed)), {}
    environment.update(trace.environment)
    kept = _unfaithful(unit, trace)
    if kept is not None:
        return unit.case("error", kept), {}

    def rerun() -> tuple[Flow, Trace]:
        inputs = fresh(unit.request.inputs, unit.precision)
        try:
            again: Trace = workers.submit(work, unit.adapter, replace(unit.request, inputs=inputs)).result()
        except Exception as error:
            raise failure(error) from error
        return unit.flow.on(inputs), again

    try:
        verdict = judge(unit.flow, trace, unit.precision, rerun, mode=unit.request.mode)
    except ConformanceError as error:
        return unit.case("error", str(error)), {}
    except WorkerFailed as failed:
        return unit.case(failed.status, str(failed)), {}
    except Exception as error:  # a fault of ours: what the other cases say is not lost for it
        said = f"conformance cannot judge it, which is a fault of its own to report: {type(error).__name__}: {error}"
        return unit.case("error", said), {}
    seconds = trace.seconds + time.perf_counter() - clock
    case = unit.case(
        verdict.status, verdict.message, seconds, **asked_for(unit.flow, trace.output), **parts_of(verdict)
    )
    return case, arrays_of(trace.output, ((s.name, s.found.array) for s in verdict.steps if s.found is not None))


def _unfaithful(unit: _Unit, trace: Trace) -> str | None:
    """What to say where weights came back from the framework other than they went in, or did not come back."""
    for name, array in trace.weights.items():
        sent = unit.request.weights.get(name)
        if (
            sent is None
            or sent.shape != array.shape
            or not np.array_equal(sent, array.astype(np.float64), equal_nan=True)
        ):
            return f"the weight {name!r} does not come back from {unit.request.subject} as it went in: check its layout"
    for name in unit.request.weights if unit.back else ():
        if name not in trace.weights:
            return f"the weight {name!r} does not come back from {unit.request.subject}: its adapter must read it"
    return None


def fresh(inputs: Mapping[str, NDArray[Any]], number_format: Precision) -> dict[str, NDArray[Any]]:
    """Random inputs of the same kind: normal, with the mean and deviation of each row (the last axis).

    A row that is all but constant is spread by a thousandth of its mean, too little to make it another kind
    of row; a row of one number is spread by half of it, or the errors of long sums would stay lined up.
    Masks and indices stay as they are.
    """
    rng = np.random.default_rng(_FRESH_SEED)
    made = {}
    for name, array in inputs.items():
        if array.dtype.kind != "f" or name == "mask" or not np.isfinite(array).all() or not array.size:
            made[name] = array
        else:
            over = -1 if array.ndim and array.shape[-1] > 1 else None
            mean = array.mean(axis=over, keepdims=True)
            least = np.where(np.ptp(array, axis=over, keepdims=True) == 0, 0.5, 2.0**-10)
            spread = np.maximum(array.std(axis=over, keepdims=True), np.abs(mean) * least)
            made[name] = number_format.round(mean + spread * rng.normal(size=array.shape))
    return made
