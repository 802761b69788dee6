"""Values to look at: the part of a step around its worst element, and how the errors of all of it are spread.

A whole tensor is too much to read, and of many cases too much to send. What is kept of each step is a window of at
most `MOST` elements, with the worst one in it, and the histogram of every element's error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from conformance.figures import differences
from conformance.result import HISTOGRAM, Case, Sample, StepResult, number
from conformance.walk import observed_values

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.flow import Flow
    from conformance.judge import JudgedStep
    from conformance.model import RoundingModel
    from conformance.rounding import RoundedArray
    from conformance.trace import Trace
    from conformance.walk import Placed

MOST = 512
"""The elements of a window."""
_SIDE = 16  # of the last two axes
_OTHERS = 8  # of the axes before them

MOST_OF_A_RUN = 2**19
"""The elements of all the windows of a run."""


def with_samples(
    flow: Flow, trace: Trace, placed: Mapping[str, Placed], steps: Sequence[JudgedStep], model: RoundingModel
) -> Iterator[JudgedStep]:
    """The steps with samples: against what the step gives by itself where that is off, and else from the inputs on."""
    digits = 17 if model.precision.name == "float64" else 9  # as many as tell any two numbers of the format apart
    by_itself = {s.name for s in steps if s.isolated is not None and not s.isolated.conforms}
    isolated: Mapping[str, RoundedArray] = {}
    if by_itself:
        run = flow.isolated(model, observed_values(placed))
        isolated = {step.name: value for step, value in run if step.name in by_itself}
    for judged, (step, value) in zip(steps, flow.run(model), strict=True):
        at = placed[step.name]
        observed = at.stand_in if at.found is None else at.found.array
        if step.name in by_itself:
            figure, value = "isolated", isolated[step.name]
        else:
            figure, observed = "accumulated", trace.output if step.name == flow.output else observed
        yield judged if observed is None else replace(judged, sample=sampled(figure, value, observed, digits))


def sampled(figure: str, expected: RoundedArray, observed: NDArray[Any], digits: int) -> Sample | None:
    """The sample of a step, its values with so many significant `digits`; None where there is nothing to compare
    element by element."""
    if np.shape(observed) != expected.shape or expected.size == 0:
        return None
    off = differences(expected, observed)
    sizes = np.abs(off)
    start, size = window(off.shape, np.unravel_index(int(np.argmax(sizes)), off.shape))
    classes = np.searchsorted(HISTOGRAM, sizes.ravel(), side="right")
    part = tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))
    return Sample(
        figure,
        list(off.shape),
        start,
        size,
        _numbers(expected.value[part], digits),
        _numbers(np.asarray(observed)[part], digits),
        _numbers(off[part], 3),
        np.bincount(classes, minlength=len(HISTOGRAM) + 1).tolist(),
    )


def window(shape: Sequence[int], around: Sequence[Any]) -> tuple[list[int], list[int]]:
    """Where a window begins that has the element `around` near its middle, and how large it is, for each axis.

    The last two axes are what a person looks at: they come first, and then the others, the last of them first. (Axes of
    one are passed over.)
    """
    size = [1] * len(shape)
    long = [axis for axis, whole in enumerate(shape) if whole > 1]
    room = MOST
    for back, axis in enumerate(reversed(long)):
        most = room if len(long) == 1 else min(room, _SIDE if back < 2 else _OTHERS)
        size[axis] = min(shape[axis], most)
        room //= size[axis]
    start = [min(max(0, int(i) - n // 2), whole - n) for i, n, whole in zip(around, size, shape, strict=True)]
    return start, size


def _numbers(array: NDArray[Any], digits: int) -> list[float | str]:
    return [number(float(f"{value:.{digits}g}")) for value in np.asarray(array, dtype=np.float64).ravel().tolist()]


def thinned(cases: Iterable[Case], most: int = MOST_OF_A_RUN) -> list[Case]:
    """The cases with as many samples as `most` elements allow: those of the steps at fault first, then the others in
    the order of the cases. Of a known divergence, the step at fault is kept alone."""
    cases = list(cases)
    kept: set[tuple[int, int]] = set()
    for at_fault in (True, False):
        for i, case in enumerate(cases):
            for j, step in enumerate(case.steps):
                if step.sample is None or (step.name == case.culprit) is not at_fault:
                    continue
                room = most - len(step.sample.oracle)
                if room >= 0 and (at_fault or case.status != "known-divergence"):
                    kept.add((i, j))
                    most = room
    return [
        msgspec.structs.replace(case, steps=[_kept(s, (i, j) in kept) for j, s in enumerate(case.steps)])
        for i, case in enumerate(cases)
    ]


def _kept(step: StepResult, whether: bool) -> StepResult:
    return step if whether or step.sample is None else msgspec.structs.replace(step, sample=None)
