"""Where a subject leaves the oracle: the search for the faulty step among those that were not found.

The conventions are replayed from the first missing step on, and the replay under which later steps come
out fixes the alignment. Where none helps, a tensor from which later steps follow is the faulty step;
failing that, the first missing step that the subject materialises, in the tensor most like it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.conventions import CONFIG, by_keyword
from conformance.errors import ConformanceError
from conformance.figures import compare
from conformance.flow import Flow, carry
from conformance.tape import Found

if TYPE_CHECKING:
    from conformance.align import Walk

_MUCH = 100.0
_MOST_FAULTS = 3  # faulty steps that one search follows before it gives up


@dataclass(frozen=True)
class Fault:
    """A hypothesis: `step` (by number) has `value`, seen in `found` if anywhere."""

    number: int
    value: Any
    found: Found | None
    conventions: Mapping[str, Any]
    reached: int
    complete: bool
    rest: tuple[Fault, ...] = ()

    @property
    def rank(self) -> tuple[Any, ...]:
        """Smaller is better: explains the output, gets further, is seen, changes less, comes first."""
        changes = len(self.conventions) + sum(len(f.conventions) for f in self.rest)
        return (not self.complete, -self.reached, self._unseen, changes, self.number)

    @property
    def _unseen(self) -> int:
        """How many of the faulty values the tape does not show: what is seen is the better evidence."""
        return sum(f.found is None for f in (self, *self.rest))


class FaultSearch:
    """The search, from where a walk stands: it looks, and changes nothing of the walk."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        self.flow, self.tape, self.model = walk.flow, walk.tape, walk.model

    def fault(self, pending: list[int]) -> Fault:
        """The likeliest fault among the missing steps `pending` (by number, the output last)."""
        replayed = self._best_replay(pending) if self.walk.replays else None
        fault = replayed or self._confirmed(pending)
        if fault is None or (not fault.complete and fault.found is None):
            fault = self._likeliest(pending)
        return fault

    def _best_replay(self, pending: list[int]) -> Fault | None:
        """The replay with the fewest faulty steps that explains the output; else the one that gets furthest."""
        best: Fault | None = None
        for depth in range(1, _MOST_FAULTS + 1):
            best = self._replayed(pending, depth)
            if best is not None and best.complete:
                break
        return best

    def _replayed(self, pending: list[int], depth: int) -> Fault | None:
        """The best replay of conventions at one of the missing steps, and at further ones after it."""
        best: Fault | None = None
        for number in pending:
            for variant in self.variants(number):
                fault = self._try(number, variant, depth)
                if fault is not None and (best is None or fault.rank < best.rank):
                    best = fault
            if best is not None and best.complete and best.number == number and not best.rest:
                break
        return best

    def variants(self, number: int) -> Iterator[dict[str, Any]]:
        """The conventions that can act at a step: one change, then two at the same step."""
        step = self.flow.steps[number]
        singles = [(k, v) for k in step.conventions if k not in self.walk.active for v in alternatives(self.flow, k)]
        for keyword, value in singles:
            yield {keyword: value}
        for (k1, v1), (k2, v2) in combinations(singles, 2):
            if k1 != k2:
                yield {k1: v1, k2: v2}

    def _try(self, number: int, variant: Mapping[str, Any], depth: int) -> Fault | None:
        """What follows if the step at `number` is computed under `variant`: None if nothing does."""
        step = self.flow.steps[number]
        try:
            value = step(self.walk.values, **self.walk.active, **variant)
            canonical = step(self.walk.values, **self.walk.active)
        except (ValueError, IndexError):  # the variant's shapes do not fit here
            return None
        if value.shape != canonical.shape or compare(canonical, value.value).conforms:
            return None  # no change at this point: it would explain nothing
        last = number == len(self.flow.steps) - 1
        found = (
            self.walk.locate(number, value) if last else self.tape.find(value, after=self.walk.parents_position(number))
        )
        if last:
            return None if found is None else Fault(number, value, found, variant, number, True)
        fresh = found is not None and found.position not in self.tape.claimed
        base = value if found is None else carry(found.array, self.model)
        return self._followed(
            Fault(number, base, found, variant, number, False), {**self.walk.active, **variant}, fresh, depth
        )

    def _followed(self, fault: Fault, active: Mapping[str, Any], fresh: bool, depth: int) -> Fault | None:
        """`fault` with how far the walk gets from it; None where no later step is found."""
        saved, values = self.walk.values, {**self.walk.values, self.flow.steps[fault.number].name: fault.value}
        self.walk.values = values
        reached = fault.number if fresh else -1
        missing: list[int] = []
        try:
            for number in range(fault.number + 1, len(self.flow.steps)):
                step = self.flow.steps[number]
                if self.walk.placed[step.name].found is not None or self.walk.placed[step.name].faulty:
                    continue
                expected = step(values, **active)
                found = self.walk.locate(number, expected)
                if found is None:
                    values[step.name] = expected
                    missing.append(number)
                else:
                    values[step.name] = carry(found.array, self.model)
                    missing = [m for m in missing if not self._leads_to(m, number)]
                    if self._leads_to(fault.number, number):
                        reached = max(reached, number)
            complete = reached == len(self.flow.steps) - 1
            # A second fault is looked for only behind a first one whose values the tape does hold:
            # otherwise every pair of conventions in the layer would have to be tried.
            if not complete and depth > 1 and missing and fault.found is not None:
                held, self.walk.active = self.walk.active, dict(active)
                deeper = self._replayed(missing, depth - 1)
                self.walk.active = held
                if deeper is not None and (deeper.complete or reached >= 0):
                    furthest = max(reached, deeper.reached)
                    return replace(fault, reached=furthest, complete=deeper.complete, rest=(deeper, *deeper.rest))
        finally:
            self.walk.values = saved
        if reached < 0:
            return None
        return replace(fault, reached=reached, complete=complete)

    def _leads_to(self, earlier: int, later: int) -> bool:
        names = {self.flow.steps[earlier].name}
        for step in self.flow.steps[earlier + 1 : later + 1]:
            if names & set(step.reads.values()):
                names.add(step.name)
        return self.flow.steps[later].name in names

    def _confirmed(self, pending: list[int]) -> Fault | None:
        """An unclaimed tensor that, taken for a missing step, makes later steps come out."""
        best: Fault | None = None
        for number in pending[:-1]:
            expected = self.flow.steps[number](self.walk.values, **self.walk.active)
            for found in self.tape.candidates(expected, after=self.walk.parents_position(number)):
                fault = Fault(number, carry(found.array, self.model), found, {}, number, False)
                followed = self._followed(fault, self.walk.active, fresh=False, depth=1)
                if followed is not None and (best is None or followed.rank < best.rank):
                    best = followed
            if best is not None and best.complete:
                break
        return best

    def _likeliest(self, pending: list[int]) -> Fault:
        """The first missing step that the subject materialises, in the tensor most like it."""
        last = len(self.flow.steps) - 1
        values = dict(self.walk.values)
        for number in range(pending[0], last + 1):
            step = self.flow.steps[number]
            if number in pending:
                values[step.name] = step(values, **self.walk.active)
        output = values[self.flow.output]
        at_output = compare(output, self.walk.result).ratio if output.shape == self.walk.result.shape else np.inf
        for number in pending:
            step = self.flow.steps[number]
            expected = step(self.walk.values, **self.walk.active)
            if number == len(self.flow.steps) - 1:
                break
            hinted = list(self.tape.hinted(step.name, expected.shape))
            similar = self.tape.candidates(expected, after=self.walk.parents_position(number), most=1)
            for found in hinted[:1] or similar:
                # A tensor that is much further off than the output that comes of it is not the step.
                if hinted or compare(expected, found.array).ratio <= _MUCH * at_output:
                    return Fault(number, carry(found.array, self.model), found, {}, number, False)
        require_shape(self.flow, self.walk.result.shape, output.shape)
        found = Found.whole(self.walk.result)
        return Fault(last, carry(self.walk.result, self.model), found, {}, last, pending == [last])

    def indistinguishable(self, fault: Fault) -> list[Mapping[str, Any]]:
        """Other variants with as many changes that explain as much."""
        others: list[Mapping[str, Any]] = []
        for variant in self.variants(fault.number):
            if variant != fault.conventions and len(variant) == len(fault.conventions):
                other = self._try(fault.number, variant, _MOST_FAULTS)
                if other is not None and other.rank[:4] == fault.rank[:4]:
                    others.append(variant)
        return others


def alternatives(flow: Flow, keyword: str) -> list[Any]:
    """The values other than the one in force that a convention may take."""
    convention = by_keyword(keyword)
    if convention is None:
        return []
    values = [v.value for v in convention.variants if v.kind in ("replay", "weights") and not v.value.startswith("<")]
    in_force = flow.config.get(convention.id.rpartition(".")[2].replace("-", "_"))
    if not convention.canonical.startswith("<") and CONFIG in _defaults(flow, keyword):
        values = [v for v in (convention.canonical, *values) if v != in_force]
    return values


def _defaults(flow: Flow, keyword: str) -> set[Any]:
    return {step.conventions[keyword] for step in flow.steps if keyword in step.conventions}


def require_shape(flow: Flow, seen: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Raise ConformanceError where an output has not the layer's shape."""
    if seen != expected:
        raise ConformanceError(
            f"the output is {_by(seen)}, but {flow.layer.name} gives {_by(expected)} ({flow.axes(flow.steps[-1])})"
        )


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"
