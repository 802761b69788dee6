"""Where a subject leaves the oracle: the search for the faulty step among those that were not found.

The conventions are replayed from the first missing step on, and the replay under which later steps come
out fixes the alignment. Where none helps, the first step for which there is a tensor from which later
steps follow is the faulty one; failing that, the first missing step that the subject materialises, in the
tensor most like it.
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
    from conformance.walk import Walk

_MUCH = 100.0
_MOST_FAULTS = 3  # faulty steps that one search follows before it gives up
_FEW = 12  # conventions of a layer of which every pair can be tried
_TRIED = 16  # tensors that are tried as one step
_PAIRED = 6  # tensors that are tried for each of two steps at once


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
        self.small = sum(len(alternatives(self.flow, k)) for s in self.flow.steps for k in s.conventions) <= _FEW
        self.cut_short = False  # whether a second fault would have been looked for, had there been depth left

    def fault(self, pending: list[int]) -> Fault:
        """The likeliest fault among the missing steps `pending` (by number, the output last)."""
        replayed = self._best_replay(pending)
        if replayed is None or not replayed.complete:
            replayed = self._reconsidered(pending[0]) or replayed
        if replayed is not None and replayed.complete:
            return replayed
        # A replay that leaves something unexplained yields to evidence for a fault before it.
        for number in pending[:-1]:
            if replayed is not None and number >= replayed.number:
                break
            seen = self._confirmed(number) or self._together(number, pending)
            if seen is not None:
                return seen
        return replayed or self._likeliest(pending)

    def _best_replay(self, pending: list[int]) -> Fault | None:
        """The replay with the fewest faulty steps that explains the output; else the one that gets furthest."""
        best: Fault | None = None
        for depth in range(1, _MOST_FAULTS + 1):
            self.cut_short = False
            best = self._replayed(pending, depth)
            if (best is not None and best.complete) or not self.cut_short:
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

    def _reconsidered(self, missing: int) -> Fault | None:
        """The replay that explains the output from the step before the first missing one.

        What that step should be is there, but the subject may have gone on from something else: a query that
        is scaled, and then its scores again.
        """
        before = missing - 1
        if before < 0 or self.walk.placed[self.flow.steps[before].name].faulty:
            return None
        if self.flow.steps[before].name not in self.flow.steps[missing].reads.values():
            return None
        tried = (self._try(before, variant, 1) for variant in self.variants(before))
        return min((f for f in tried if f is not None and f.complete), key=lambda f: f.rank, default=None)

    def variants(self, number: int) -> Iterator[dict[str, Any]]:
        """The conventions that can act at a step: one change, then two at the same step."""
        step = self.flow.steps[number]
        singles = [(k, v) for k in step.conventions if k not in self.walk.active for v in alternatives(self.flow, k)]
        if self.walk.only is not None:
            singles = [s for s in singles if s in self.walk.only]
        for keyword, value in singles:
            yield {keyword: value}
        for (k1, v1), (k2, v2) in combinations(singles, 2):
            if k1 != k2:
                yield {k1: v1, k2: v2}

    def _try(self, number: int, variant: Mapping[str, Any], depth: int) -> Fault | None:
        """What follows if the step at `number` is computed under `variant`: None if nothing does."""
        try:
            return self._replay(number, variant, depth)
        except (ValueError, IndexError):  # the variant's shapes do not fit here
            return None

    def _replay(self, number: int, variant: Mapping[str, Any], depth: int) -> Fault | None:
        step = self.flow.steps[number]
        value = step(self.walk.values, **self.walk.active, **variant)
        canonical = step(self.walk.values, **self.walk.active)
        if compare(canonical, value.value).conforms:
            return None  # no change at this point: it would explain nothing
        last = number == len(self.flow.steps) - 1
        found = (
            self.walk.locate(number, value) if last else self.tape.find(value, after=self.walk.parents_position(number))
        )
        if last:
            return None if found is None else Fault(number, value, found, variant, number, True)
        fresh = found is not None and self._fresh(found)
        base = value if found is None else carry(found.array, self.model)
        return self._followed(
            Fault(number, base, found, variant, number, False), {**self.walk.active, **variant}, fresh, depth
        )

    def _fresh(self, found: Found) -> bool:
        """Whether a tensor is neither one that is known to be another step, nor a copy of it."""
        known = (p.found.array for p in self.walk.placed.values() if p.found is not None)
        return found.position not in self.tape.claimed and not any(np.array_equal(found.array, k) for k in known)

    def _followed(self, fault: Fault, active: Mapping[str, Any], fresh: bool, depth: int) -> Fault | None:
        """`fault` with how far the walk gets from it; None where no later step is found."""
        saved, values = self.walk.values, {**self.walk.values, self.flow.steps[fault.number].name: fault.value}
        self.walk.values = values
        reached, last = fault.number if fresh else -1, len(self.flow.steps) - 1
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
                    if self._leads_to(fault.number, number) and (number == last or self._tells(found, fault)):
                        reached = max(reached, number)
            complete = reached == last
            # A second fault is looked for only behind a first one whose values the tape does hold:
            # otherwise every pair of conventions in the layer would have to be tried.
            deeper_still = not complete and bool(missing) and (fault.found is not None or self.small)
            self.cut_short |= deeper_still and depth == 1
            if deeper_still and depth > 1:
                held, self.walk.active = self.walk.active, dict(active)
                deeper = self._replayed(missing, depth - 1)
                self.walk.active = held
                if deeper is not None:  # it rests on a tensor that comes out only after both
                    furthest = max(reached, deeper.reached)
                    return replace(fault, reached=furthest, complete=deeper.complete, rest=(deeper, *deeper.rest))
        finally:
            self.walk.values = saved
        if reached < 0:
            return None
        return replace(fault, reached=reached, complete=complete)

    def _tells(self, found: Found, fault: Fault) -> bool:
        """Whether a later step's tensor is evidence for a fault: not where it is the same values moved about."""
        ours = fault.value.value
        same = found.array.size == ours.size and np.array_equal(np.sort(found.array, None), np.sort(ours, None))
        return not same and self._fresh(found)

    def _leads_to(self, earlier: int, later: int) -> bool:
        names = {self.flow.steps[earlier].name}
        for step in self.flow.steps[earlier + 1 : later + 1]:
            if names & set(step.reads.values()):
                names.add(step.name)
        return self.flow.steps[later].name in names

    def _confirmed(self, number: int) -> Fault | None:
        """The missing step, in an unclaimed tensor that makes later steps come out."""
        best: Fault | None = None
        for found in self._tried(number, _TRIED):
            fault = Fault(number, carry(found.array, self.model), found, {}, number, False)
            followed = self._followed(fault, self.walk.active, fresh=False, depth=1)
            if followed is not None and (best is None or followed.rank < best.rank):
                best = followed
        return best

    def _together(self, number: int, pending: list[int]) -> Fault | None:
        """The missing step, where a tensor for it and one for another missing step make a third one come out."""
        first = self.flow.steps[number].name
        for second, reader in combinations([n for n in pending if n > number], 2):
            other = self.flow.steps[second].name
            if not {first, other} <= set(self.flow.steps[reader].reads.values()):
                continue
            others = [carry(found.array, self.model) for found in self._tried(second, _PAIRED)]
            for found in self._tried(number, _PAIRED):
                value = carry(found.array, self.model)
                for held in others:
                    values = {**self.walk.values, first: value, other: held}
                    seen = self.walk.locate(reader, self.flow.steps[reader](values, **self.walk.active))
                    if seen is not None and self._fresh(seen):
                        return Fault(number, value, found, {}, reader, False)
        return None

    def _tried(self, number: int, most: int) -> list[Found]:
        """What may be a wrong version of a step: first those that have its axes in order, then by likeness."""
        expected = self.flow.steps[number](self.walk.values, **self.walk.active)
        candidates = self.tape.candidates(expected, after=self.walk.parents_position(number))
        return sorted(candidates, key=lambda found: not found.view.canonical)[:most]

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
            similar = self.tape.candidates(expected, after=self.walk.parents_position(number))
            for found in hinted[:1] or [f for f in similar if not self._is_result(f)][:1]:
                # A tensor that is much further off than the output that comes of it is not the step.
                if hinted or compare(expected, found.array).ratio <= _MUCH * at_output:
                    return Fault(number, carry(found.array, self.model), found, {}, number, False)
        require_shape(self.flow, self.walk.result.shape, output.shape)
        found = Found.whole(self.walk.result)
        return Fault(last, carry(self.walk.result, self.model), found, {}, last, pending == [last])

    def _is_result(self, found: Found) -> bool:
        """Whether a tensor is what the subject gave as its output."""
        held, result = self.tape.entries[found.position].array, self.walk.result.ravel()
        return any(np.array_equal(array.ravel(), result) for array in (held, found.array))

    def indistinguishable(self, fault: Fault) -> list[Mapping[str, Any]]:
        """Other variants with as many changes that explain as much."""
        others: list[Mapping[str, Any]] = []
        for variant in self.variants(fault.number):
            if variant != fault.conventions and len(variant) == len(fault.conventions):
                other = self._try(fault.number, variant, 1 + len(fault.rest))
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
        axes = flow.layer.axes(flow.steps[-1])
        raise ConformanceError(f"the output is {_by(seen)}, but {flow.layer.name} gives {_by(expected)} ({axes})")


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"
