"""The verdict on one trace: isolated and accumulated figures per step, statuses, culprit, diagnosis."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from conformance.adapter import EAGER
from conformance.align import align
from conformance.conventions import by_keyword, conventions
from conformance.figures import Figures, compare, informative
from conformance.flow import Flow
from conformance.model import RoundingModel
from conformance.precision import PRECISIONS
from conformance.rounding import RoundedArray
from conformance.sample import with_samples
from conformance.storage import stored_narrower
from conformance.unnamed import another_shape, require_shape
from conformance.variants import MISMATCH, PRECISION, asked, layer_at, said
from conformance.walk import Placed, observed_values

if TYPE_CHECKING:
    from conformance.conventions import Convention
    from conformance.precision import Precision
    from conformance.result import Sample
    from conformance.tape import Found
    from conformance.trace import Trace

Rerun = Callable[[], tuple[Flow, "Trace"]]

ANOTHER_SHAPE = "another-shape"
"""The flag of a step whose tensor has not the step's shape."""


@dataclass(frozen=True)
class JudgedStep:
    """One step's verdict. Figures are None where the step was not observed."""

    name: str
    axes: str
    status: str
    flags: tuple[str, ...]
    found: Found | None
    found_axes: str | None
    isolated: Figures | None
    accumulated: Figures | None
    reads: tuple[str, ...] = ()
    sample: Sample | None = None


@dataclass(frozen=True)
class Cause:
    """A convention that explains a step: `equivalent` lists those that no value here tells apart from it.

    Where the errors are merely of the size that a coarser arithmetic makes, `explains` is False: a wide
    tolerance explains nothing, but it tells where to look.
    """

    convention: str
    value: str
    canonical: str
    step: str
    equivalent: tuple[str, ...]
    sentence: str
    explains: bool = True
    formula: str = ""
    canonical_formula: str = ""
    seen: str = ""


@dataclass(frozen=True)
class Layout:
    """A step that is held with other axes than the canonical ones: the same numbers, not a fault."""

    step: str
    convention: str
    value: str


@dataclass(frozen=True)
class Verdict:
    """The judged trace. `culprit` is the first step at fault; `until` the next that was found after it,
    where the fault may lie anywhere between."""

    status: str
    steps: tuple[JudgedStep, ...]
    culprit: str | None = None
    until: str | None = None
    causes: tuple[Cause, ...] = ()
    layouts: tuple[Layout, ...] = ()
    message: str | None = None


@np.errstate(all="ignore")  # numbers that overflow are judged as any others
def judge(
    flow: Flow,
    trace: Trace,
    precision: Precision,
    rerun: Rerun | None = None,
    *,
    sampling: bool = False,
    mode: str = EAGER,
) -> Verdict:
    """Judge `trace` against `flow`.

    Where it does not conform, and with `sampling` in any case, the steps have samples of their values.

    `mode` is the one in which the plain run was, which is named where that is at fault.

    `rerun` runs the subject again on fresh random inputs; it is called only where errors are beyond
    their tolerances and yet within the worst case, so that structured data may have lined them up.
    """
    model = RoundingModel(precision)
    placed, single = _aligned(flow, trace, model)
    steps = _judged(flow, trace, placed, model)
    off = ("diverges", "propagated")
    if any(s.status in off for s in steps) and _possible(flow, trace, placed, precision):
        if rerun is None or trace.recorded:
            steps = [replace(s, status="inconclusive") if s.status in off else s for s in steps]
        else:
            fresh_flow, fresh_trace = rerun()
            fresh = judge(fresh_flow, fresh_trace, precision, mode=mode)
            if fresh.status in ("conforms", "uninformative"):
                steps = [
                    replace(s, status="conforms", flags=(*s.flags, "biased-rounding")) if s.status in off else s
                    for s in steps
                ]
    verdict = _verdict(flow, trace, placed, single, steps, model, mode)
    if sampling or verdict.status != "conforms":
        verdict = replace(verdict, steps=tuple(with_samples(flow, trace, placed, verdict.steps, model)))
    return verdict


def _aligned(flow: Flow, trace: Trace, model: RoundingModel) -> tuple[dict[str, Placed], dict[str, Placed] | None]:
    """The alignment; and that as float32, where a float64 subject leaves the oracle.

    Errors of float32's size are the commonest fault of a float64 subject, and no convention explains
    them: where they are all that is wrong, none needs to be tried.
    """
    if model.precision.name != "float64":
        placed = align(flow, trace, model)
        if any(p.faulty and not p.conventions for p in placed.values()):
            placed = stored_narrower(flow, trace, model) or placed
        return placed, None
    placed = align(flow, trace, model, only=())
    if not any(p.faulty for p in placed.values()):
        return placed, None
    single = align(flow, trace, RoundingModel(PRECISIONS["float32"]))
    faults = [p for p in single.values() if p.faulty]
    if not faults:
        return placed, single
    named = list(dict.fromkeys(item for p in faults for item in p.conventions.items()))
    if all(p.conventions for p in faults):  # what explains it in float32 is the first thing to try
        placed = align(flow, trace, model, only=named)
        for name, p in placed.items():
            p.equivalent = single[name].equivalent if p.conventions == single[name].conventions else []
    if not all(p.conventions for p in faults) or any(p.faulty and not p.conventions for p in placed.values()):
        placed = align(flow, trace, model)
    return placed, single


def _judged(flow: Flow, trace: Trace, placed: Mapping[str, Placed], model: RoundingModel) -> list[JudgedStep]:
    steps = []
    for step, value in flow.run(model):
        at = placed[step.name]
        axes = axis_names(flow.layer.axes(step), value.ndim)
        reads = tuple(dict.fromkeys(name for name in step.reads.values() if name in placed))
        if at.found is None:
            status = "diverges" if at.faulty else "not-observed"
            flags = _shape_flags(at, value)
            steps.append(JudgedStep(step.name, axes, status, flags, None, None, at.isolated, None, reads))
            continue
        plain = step.name == flow.output
        if plain and not any(p.conventions for p in placed.values()):  # another shape has a cause, or is no such layer
            require_shape(flow, trace.output.shape, value.shape)
        accumulated = compare(value, trace.output if plain else at.found.array)
        assert at.isolated is not None
        if at.faulty or not at.isolated.conforms:
            status = "diverges"
        elif not accumulated.conforms:
            status = "propagated"
        else:
            status = "conforms" if informative(value) else "uninformative"
        described = at.found.view.describe(axes.split())
        flags, told = (*at.found.flags, *_shape_flags(at, value)), (at.isolated, accumulated)
        steps.append(JudgedStep(step.name, axes, status, flags, at.found, described, *told, reads))
    return steps


def _shape_flags(at: Placed, expected: RoundedArray) -> tuple[str, ...]:
    seen = at.stand_in if at.stand_in is not None or at.found is None else at.found.array
    return (ANOTHER_SHAPE,) if seen is not None and seen.shape != expected.shape else ()


def _possible(flow: Flow, trace: Trace, placed: Mapping[str, Placed], precision: Precision) -> bool:
    """Whether every error is within the worst case that rounding allows."""
    worst = RoundingModel(precision, worst_case=True)
    observed = observed_values(placed)
    if any(p.faulty and p.found is None for p in placed.values()):
        return False
    for run, final in ((flow.isolated(worst, observed), {}), (flow.run(worst), {flow.output: trace.output})):
        for step, value in run:
            seen = final.get(step.name, observed.get(step.name))
            if seen is not None and (seen.shape != value.shape or not compare(value, seen).conforms):
                return False
    return True


def _verdict(
    flow: Flow,
    trace: Trace,
    placed: Mapping[str, Placed],
    single: Mapping[str, Placed] | None,
    steps: list[JudgedStep],
    model: RoundingModel,
    mode: str,
) -> Verdict:
    at_fault = [s for s in steps if s.status == "diverges"]
    output = steps[-1]
    culprit = at_fault[0].name if at_fault else None
    if culprit is None and output.status == "propagated":
        # Every step is right by itself. Either errors add up beyond what independence explains, or the
        # plain run, whose output this is, does not compute what the watched run does.
        culprit = next(s.name for s in steps if s.status == "propagated")
    message = None
    if ANOTHER_SHAPE in output.flags:
        *_, (_, expected) = flow.run(model)
        message = another_shape(flow, trace.output.shape, expected.shape)
    elif culprit is not None:
        message = _two_runs(flow, trace, model, mode)
    if culprit is not None:
        status = "diverges"
    elif output.status in ("uninformative", "inconclusive"):
        status = output.status
    else:
        status = "inconclusive" if any(s.status == "inconclusive" for s in steps) else "conforms"
    causes = tuple(c for s in at_fault for c in _causes(flow, s.name, placed[s.name], model))
    if culprit is not None and all(c.step != culprit for c in causes):
        # dict: what explains a later step may be found on both ways
        causes = tuple(dict.fromkeys([*_precisions(flow, placed, single, culprit, model), *causes]))
    until = placed[culprit].until if culprit is not None else None
    return Verdict(status, tuple(steps), culprit, until, causes, tuple(_layouts(flow, steps)), message)


def _two_runs(flow: Flow, trace: Trace, model: RoundingModel, mode: str) -> str | None:
    """What to say where one of the plain and the watched run is off and the other is not, or both are, differently.

    The plain run is in `mode`, the watched one operation by operation: they differ by the mode, or in eager mode by
    fused kernels.
    """
    if trace.observed_output is None or np.array_equal(trace.output, trace.observed_output, equal_nan=True):
        return None
    *_, (_, expected) = flow.run(model)
    plain, watched = compare(expected, trace.output), compare(expected, trace.observed_output)
    run, path = ("plain", "the fused path") if mode == EAGER else (f"{mode!r}", f"the mode {mode!r}")
    seen = "the watched run, which takes the framework's unfused path," if mode == EAGER else "the watched eager run"
    if watched.conforms and not plain.conforms:
        return (
            f"the {run} run's output is off by {plain.ratio:.3g} tolerances, while {seen} "
            f"conforms ({watched.ratio:.2g}): {path} is at fault"
        )
    if plain.conforms and not watched.conforms:
        return (
            f"the watched run's output is off by {watched.ratio:.3g} tolerances, while the {run} run, which is what "
            f"a user gets, conforms ({plain.ratio:.2g}): the framework's {'unfused' if mode == EAGER else 'eager'} "
            "path is at fault"
        )
    if mode != EAGER and trace.output.shape == trace.observed_output.shape == expected.shape:
        eager = RoundedArray(trace.observed_output.astype(np.float64), expected.deviation, model)
        apart = compare(eager, trace.output)
        if not apart.conforms and not plain.conforms:
            return (
                f"the {run} run and the watched eager run are both off, by {plain.ratio:.3g} and {watched.ratio:.3g} "
                f"tolerances, and by {apart.ratio:.3g} from one another: {path} does not compute what eager does"
            )
    return None


def _causes(flow: Flow, step: str, placed: Placed, model: RoundingModel) -> list[Cause]:
    causes = []
    own = _in_words(placed.conventions)
    others = tuple(w for w in dict.fromkeys(_in_words(variant) for variant in placed.equivalent) if w != own)
    for keyword, given in placed.conventions.items():
        convention, value = by_keyword(keyword), said(given)
        assert convention is not None
        canonical = model.precision.name if convention.canonical == "<dtype>" else asked(flow, step, convention)
        here, there = convention.compared(layer_at(flow, step), value, canonical)
        seen = _seen(convention, value)
        sentence = f"{step} comes out with {convention.id} = {value}{f': {here}' if here else ''}; "
        sentence += f"the layer that was asked for has {canonical}{f': {there}' if there else ''}"
        if {keyword: given} == MISMATCH:
            sentence = f"{step} is what this layer gives with other weights, which were found by least squares"
        sentence += f" (seen: {seen})" if seen else ""
        causes.append(Cause(convention.id, value, canonical, step, others, sentence, True, here, there, seen))
    return causes


def _seen(convention: Convention, value: str) -> str:
    return next((v.seen for v in convention.variants if v.value == value), "")


def _in_words(variant: Mapping[str, object]) -> str:
    return " and ".join(f"{c.id} = {said(v)}" for k, v in variant.items() if (c := by_keyword(k)) is not None)


def _precisions(
    flow: Flow,
    placed: Mapping[str, Placed],
    single: Mapping[str, Placed] | None,
    culprit: str,
    model: RoundingModel,
) -> list[Cause]:
    """Coarser arithmetic whose errors are of the size that is seen."""
    step = next(s for s in flow.steps if s.name == culprit)
    found = placed[culprit].found
    causes = []
    for keyword in step.conventions:
        convention = by_keyword(keyword) if keyword != PRECISION else None  # casts are emulated, or not said
        for variant in convention.variants if convention is not None else ():
            if convention is None or variant.kind != "precision" or found is None or flow.layer.scan is not None:
                continue
            replay = flow.isolated(model, observed_values(placed), {keyword: variant.value})
            wide = next(value for s, value in replay if s.name == culprit)
            if compare(wide, found.array).conforms:
                value, canonical = variant.value, convention.canonical
                here, there = convention.compared(layer_at(flow, culprit), value, canonical)
                said = f"the errors of {culprit} are those of {convention.id} = {value}"
                said += f"{f': {here}' if here else ''} (seen: {variant.seen})"
                causes.append(
                    Cause(convention.id, value, canonical, culprit, (), said, False, here, there, variant.seen)
                )
    if not causes and single is not None:
        left = {name: _causes(flow, name, p, model) for name, p in single.items() if p.faulty}
        if all(left.values()):
            beyond = [c for found in left.values() for c in found]
            said = "the errors are of float32's size: judged as float32, " + (
                "what is left is explained by the conventions named here" if beyond else "every step conforms"
            )
            convention = conventions()["arithmetic.precision"]
            here, there = convention.compared(layer_at(flow, culprit), "float32", "float64")
            seen = _seen(convention, "float32")
            causes.append(Cause(convention.id, "float32", "float64", culprit, (), said, False, here, there, seen))
            causes += beyond
    return causes


def _layouts(flow: Flow, steps: list[JudgedStep]) -> list[Layout]:
    """Steps whose axes stand in the order of a layout convention's variant, and not in the canonical one."""
    found = []
    for convention in conventions().values():
        for variant in convention.variants:
            if variant.kind != "layout":
                continue
            for step in steps:
                bare = step.name.rpartition(".")[2]
                if bare != convention.step(flow.layer.name) or step.found is None or step.found.view.canonical:
                    continue
                axes = [step.axes.split()[a] for a in step.found.view.order if step.found.view.shape[a] != 1]
                wanted = variant.value.split("-")
                if set(wanted) <= set(axes) and [a for a in axes if a in wanted] == wanted:
                    found.append(Layout(step.name, convention.id, variant.value))
    return found


def axis_names(axes: str, ndim: int) -> str:
    """One name per axis: `*batch out` of a matrix stack is `batch0 batch1 out`."""
    words = axes.split()
    many = [w for w in words if w.startswith("*") or w == "..."]
    if not many:
        return axes
    count = ndim - (len(words) - 1)
    word = re.sub(r"\W", "", many[0]) or "axis"
    names = [word] if count == 1 else [f"{word}{i}" for i in range(count)]
    position = words.index(many[0])
    return " ".join([*words[:position], *names, *words[position + 1 :]])
