"""The walk along a tape: which tensor is which step.

Steps are walked in flow order; each is computed from what was observed of the steps that it reads, and
looked for by value. A step that is not found while a later one that depends on it is, was factored away.
Where the output does not follow, there is a fault among the missing steps: `conformance.fault` finds it,
and the walk goes on from there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from conformance.fault import FaultSearch
from conformance.figures import Figures, compare, informative
from conformance.flow import Flow, carry
from conformance.tape import Found, Tape

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.layer import Step
    from conformance.model import RoundingModel
    from conformance.rounding import RoundedArray
    from conformance.trace import Trace


@dataclass
class Placed:
    """What became of one step: the tensor that holds it, its isolated figures, and, where it is at
    fault, the conventions under which it conforms (keyword to value; empty: unexplained) and those that
    no value tells apart from them."""

    found: Found | None = None
    isolated: Figures | None = None
    faulty: bool = False
    conventions: Mapping[str, Any] = field(default_factory=dict)
    equivalent: list[Mapping[str, Any]] = field(default_factory=list)
    until: str | None = None


class Walk:
    """One pass over a layer's steps: `values` are what later steps are computed from, `pending` the steps
    that were not found and of which nothing later was found yet, `active` the conventions that an earlier
    fault established."""

    def __init__(
        self, flow: Flow, trace: Trace, model: RoundingModel, only: Collection[tuple[str, Any]] | None = None
    ) -> None:
        self.flow, self.model, self.only = flow, model, only
        self.tape = Tape(trace.tape)
        self.result = trace.output if trace.observed_output is None else trace.observed_output
        self.placed = {step.name: Placed() for step in flow.steps}
        self.values = flow.start(model, carried=True)
        self.active: dict[str, Any] = {}
        self.pending: list[int] = []

    def run(self) -> None:
        """Walk from the first step to the output, settling faults on the way."""
        number = 0
        while number < len(self.flow.steps):
            step = self.flow.steps[number]
            if self.placed[step.name].faulty:  # settled before
                number += 1
                continue
            expected = step(self.values, **self.active)
            found = self.locate(number, expected)
            if found is None and self._deviates(step):  # the subject need not have the convention in every step
                found = self.locate(number, step(self.values))
            if found is None:
                self.values[step.name] = expected
                self.pending.append(number)
                if number == len(self.flow.steps) - 1:
                    number = self.settle()
                    continue
            else:
                self.place(number, found, step(self.values) if self._deviates(step) else expected)
                explained = self._ancestors(number)
                self.pending = [p for p in self.pending if p not in explained]
            self._let_go(number)
            number += 1

    def locate(self, number: int, expected: RoundedArray) -> Found | None:
        """The tensor that holds the step; the output is known without a search.

        A step whose tolerances say nothing is not looked for: any tensor of its shape would do.
        """
        found = None
        if informative(expected):
            found = self.tape.find(expected, after=self.parents_position(number))
        if number < len(self.flow.steps) - 1:
            return found
        if self.result.shape != expected.shape or not compare(expected, self.result).conforms:
            return None
        return self.as_output(found)

    def as_output(self, found: Found | None = None) -> Found:
        """The observed run's output, as what holds the last step."""
        if found is not None:
            return Found(found.position, found.operation, found.view, self.result)
        return Found.whole(self.result)

    def place(self, number: int, found: Found, canonical: RoundedArray) -> Placed:
        """Take `found` as the step, and give the step's isolated figures against the canonical value."""
        step = self.flow.steps[number]
        self.tape.claimed.add(found.position)
        placed = self.placed[step.name]
        placed.found = found
        placed.isolated = compare(canonical, found.array)
        if not placed.isolated.conforms:
            placed.faulty = True
            placed.conventions = {k: v for k, v in self.active.items() if k in step.conventions}
        self.values[step.name] = carry(found.array, self.model)
        return placed

    def _deviates(self, step: Step) -> bool:
        return any(k in step.conventions for k in self.active)

    def parents_position(self, number: int) -> int:
        """The last place on the tape at which something that the step reads was found."""
        names = self.flow.steps[number].reads.values()
        places = [self.placed[n].found for n in names if n in self.placed]
        return max((p.position for p in places if p is not None), default=-1)

    def _ancestors(self, number: int) -> set[int]:
        """The missing steps that the step at `number` depends on through missing steps alone."""
        index = {step.name: i for i, step in enumerate(self.flow.steps)}
        seen: set[int] = set()
        waiting = [number]
        while waiting:
            for name in self.flow.steps[waiting.pop()].reads.values():
                i = index.get(name)
                if i is not None and i in self.pending and i not in seen:
                    seen.add(i)
                    waiting.append(i)
        return seen

    def _let_go(self, number: int) -> None:
        """Free what neither a later step nor a search for a fault can need any more.

        A search goes back to the last step before the first missing one.
        """
        first = max(min([number + 1, *self.pending]) - 1, 0)
        needed = {name for step in self.flow.steps[first:] for name in step.reads.values()}
        for name in [n for n in self.values if n not in needed and n in self.placed]:
            del self.values[name]

    def settle(self) -> int:
        """Place the fault, and return the number of the step at which the walk goes on."""
        pending, search = self.pending, FaultSearch(self)
        fault = search.fault(pending)
        step = self.flow.steps[fault.number]
        canonical = step(self.values)
        self._forget_from(fault.number + 1)
        if fault.found is not None:
            placed = self.place(fault.number, fault.found, canonical)
        else:
            # Not materialised: what the replay gives stands for what the subject computed.
            placed = self.placed[step.name]
            placed.isolated = compare(canonical, fault.value.value)
            self.values[step.name] = fault.value
        placed.faulty = True
        placed.conventions = fault.conventions
        if fault.conventions:
            placed.equivalent = search.indistinguishable(fault)
            self.active |= fault.conventions
        elif fault.reached == fault.number < len(self.flow.steps) - 1:  # nothing that follows confirms it
            placed.until = self.flow.output
        explained = self._ancestors(fault.number)
        self.pending = [p for p in pending if p < fault.number and p not in explained]
        return fault.number + 1

    def _forget_from(self, number: int) -> None:
        for step in self.flow.steps[number:]:
            if self.placed[step.name].found is None and not self.placed[step.name].faulty:
                self.values.pop(step.name, None)


def observed_values(placed: Mapping[str, Placed]) -> dict[str, NDArray[Any]]:
    """The observed values by step, for the steps that were found."""
    return {name: p.found.array for name, p in placed.items() if p.found is not None}
