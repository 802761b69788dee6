"""The walk along a tape: which tensor is which step.

Steps are walked in flow order; each is computed from what was observed of the steps that it reads, and
looked for by value. A step that is not found while a later one that depends on it is, was factored away.
Where the output does not follow, there is a fault among the missing steps: `conformance.fault` finds it,
and the walk goes on from there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from conformance.fault import FaultSearch
from conformance.figures import Figures, compare, informative
from conformance.flow import Flow, carry
from conformance.hypothesis import NAMED, Fault
from conformance.refit import refitted
from conformance.tape import Found, Tape
from conformance.variants import MISMATCH, alternatives, of_each_step, rearranges

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
    no value tells apart from them. `stand_in` is what it was compared by where no tensor holds it."""

    found: Found | None = None
    stand_in: NDArray[Any] | None = None
    isolated: Figures | None = None
    faulty: bool = False
    conventions: Mapping[str, Any] = field(default_factory=dict)
    equivalent: list[Mapping[str, Any]] = field(default_factory=list)
    until: str | None = None


class Walk:
    """One pass over a layer's steps: `values` are what later steps are computed from, `pending` the steps
    that were not found and of which nothing later was found yet, `aside` those of them that no step reads (`ends`),
    `active` the conventions that an earlier fault established."""

    def __init__(
        self, flow: Flow, trace: Trace, model: RoundingModel, only: Collection[tuple[str, Any]] | None = None
    ) -> None:
        self.flow, self.model, self.only = flow, model, only
        read = {name for step in flow.steps for name in step.reads.values()}
        self.ends = {i for i, step in enumerate(flow.steps[:-1]) if step.name not in read}
        self.tape = Tape(trace.tape)
        self.result = trace.output if trace.observed_output is None else trace.observed_output
        self.restart({})

    def restart(self, active: Mapping[str, Any]) -> None:
        """Stand before the first step, with nothing placed, and the conventions `active` in force."""
        self.tape.claimed.clear()
        self.placed = {step.name: Placed() for step in self.flow.steps}
        self.values = self.flow.start(self.model, carried=True)
        self.active: dict[str, Any] = dict(active)
        self.pending: list[int] = []
        self.aside: list[int] = []

    def run(self) -> None:
        """Walk from the first step to the output, settling faults on the way."""
        number = 0
        while number < len(self.flow.steps):
            step = self.flow.steps[number]
            if self.placed[step.name].faulty:  # settled before
                number += 1
                continue
            used, expected, found = self.looked_for(number, self.active)
            if found is None and number in self.ends:
                self.aside.append(number)
            elif found is None:
                self.values[step.name] = expected
                self.pending.append(number)
                if number == len(self.flow.steps) - 1:
                    number = self.settle()
                    continue
            else:
                self.place(number, found, step(self.values) if used else expected, used)
                explained = self._ancestors(number)
                self.pending = [p for p in self.pending if p not in explained]
            self._let_go(number)
            number += 1
        self._look_aside()
        self._reconcile()

    def _look_aside(self) -> None:
        """Place the steps that nothing reads (what a call leaves behind), of which the tape holds another version.

        No later step tells whether one is wrong, so a convention must give a tensor of the tape; or a tensor that is
        said to be the step is it.
        """
        search, self.only = FaultSearch(self), None  # nothing else says that there is something to search for
        for number in self.aside:
            step = self.flow.steps[number]
            used, expected, found = self.looked_for(number, self.active)
            for variant in [] if found else search.variants(number, NAMED):
                value = step(self.values, **{**self.active, **variant})
                found = self.locate(number, value) if not compare(expected, value.value).conforms else None
                if found is not None and self._is_placed(found):
                    found = None  # in a narrow format, another step may be within the variant's tolerance
                if found is not None:
                    used = variant
                    self.active |= variant
                    break
            hinted = [] if found else list(self.tape.hinted(step.name, expected.shape))
            if found or hinted:
                self.place(number, found or hinted[0], step(self.values), used)

    def _reconcile(self) -> None:
        """Weights that were found rearranged at several steps are rearranged in one way, where one gives them all."""
        values = {**self.flow.start(self.model, carried=True)}
        values |= {name: carry(array, self.model) for name, array in observed_values(self.placed).items()}
        for keyword in {k for p in self.placed.values() for k in p.conventions if rearranges(k)}:
            acting = [s for s in self.flow.steps if keyword in s.conventions and self.placed[s.name].found is not None]
            able = [
                v for v in alternatives(self.flow, keyword) if all(self._is(s, values, {keyword: v}) for s in acting)
            ]
            for placed in self.placed.values() if able else ():
                if keyword in placed.conventions and len(placed.conventions) == 1:
                    given = placed.conventions[keyword]
                    chosen = given if given in able else able[0]
                    placed.conventions = {keyword: chosen}
                    placed.equivalent = [v for v in placed.equivalent if keyword not in v or v[keyword] in able]
                    placed.equivalent = [v for v in placed.equivalent if v != placed.conventions]

    def _is_placed(self, found: Found) -> bool:
        """Whether a tensor is one that is known to be another step, to within a rounding."""
        known = (carry(p.found.array, self.model) for p in self.placed.values() if p.found is not None)
        return any(k.size == found.array.size and compare(k, found.array.reshape(k.shape)).conforms for k in known)

    def _is(self, step: Step, values: Mapping[str, Any], conventions: Mapping[str, Any]) -> bool:
        """Whether the tensor that was found for a step is what it gives under `conventions`."""
        found = self.placed[step.name].found
        try:
            return found is not None and compare(step(values, **conventions), found.array).conforms
        except (ValueError, IndexError, KeyError):  # it does not fit there
            return False

    def looked_for(
        self, number: int, active: Mapping[str, Any], everywhere: bool = False
    ) -> tuple[Mapping[str, Any], RoundedArray, Found | None]:
        """The tensor that holds the step under the conventions that are `active`, those among them that it has,
        and its value; without a tensor, the value under all of them that fit.

        The subject need not have a convention in every step: each is also tried alone, and none of them; with
        `everywhere`, only of those about weights and arithmetic, which are each step's own.
        """
        step = self.flow.steps[number]
        acting = {k: v for k, v in active.items() if k in step.conventions}
        alone: list[Mapping[str, Any]] = [{k: v} for k, v in acting.items()] if len(acting) > 1 else []
        expected: RoundedArray | None = None
        for used in [acting, *alone, {}] if acting else [acting]:
            if everywhere and not all(k in used or of_each_step(k) for k in acting):
                continue
            try:
                value = step(self.values, **used)
            except (ValueError, IndexError):
                if not used or everywhere:
                    raise
                continue  # what it rearranges is not there in this step
            found = self.locate(number, value)
            if found is not None:
                return used, value, found
            expected = value if expected is None else expected
        assert expected is not None
        return acting, expected, None

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

    def place(self, number: int, found: Found, canonical: RoundedArray, used: Mapping[str, Any]) -> Placed:
        """Take `found` as the step, which it is under the conventions `used`; its isolated figures are against
        the canonical value."""
        step = self.flow.steps[number]
        self.tape.claimed.add(found.position)
        placed = self.placed[step.name]
        placed.found = found
        placed.isolated = compare(canonical, found.array)
        if not placed.isolated.conforms:
            placed.faulty = True
            placed.conventions = used
        self.values[step.name] = carry(found.array, self.model)
        return placed

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
        first = max(min([number + 1, *self.pending, *self.aside]) - 1, 0)
        needed = {name for step in self.flow.steps[first:] for name in step.reads.values()}
        for name in [n for n in self.values if n not in needed and n in self.placed]:
            del self.values[name]

    def settle(self) -> int:
        """Place the fault, and return the number of the step at which the walk goes on."""
        pending, search = self.pending, FaultSearch(self)
        fault = search.fault(pending)
        exchanged = None if fault.complete or self.active else self._exchanged()
        if exchanged is not None:
            self.restart(exchanged)
            return 0
        fault = self._refitted(fault)
        step = self.flow.steps[fault.number]
        canonical = step(self.values)
        self._forget_from(fault.number + 1)
        if fault.found is not None:
            placed = self.place(fault.number, fault.found, canonical, fault.conventions)
        else:
            # Not materialised: what the replay gives stands for what the subject computed.
            placed = self.placed[step.name]
            placed.stand_in = fault.value.value
            placed.isolated = compare(canonical, fault.value.value)
            self.values[step.name] = fault.value
        placed.faulty = True
        placed.conventions = fault.conventions
        if fault.conventions == MISMATCH:
            pass  # it says nothing of other steps, and nothing else explains as much
        elif fault.conventions:
            placed.equivalent = search.indistinguishable(fault)
            self.active |= {} if fault.here_only else fault.conventions
        elif fault.reached == fault.number < len(self.flow.steps) - 1:  # nothing that follows confirms it
            placed.until = self.flow.output
        explained = self._ancestors(fault.number)
        self.pending = [p for p in pending if p < fault.number and p not in explained]
        self.aside = [a for a in self.aside if a <= fault.number]
        return fault.number + 1

    def _exchanged(self) -> Mapping[str, Any] | None:
        """The one convention about weights that makes the output come out, from the inputs on.

        Where query and key are exchanged, the tape holds both, each in the other's place: neither is missed.
        """
        for keyword in dict.fromkeys(k for step in self.flow.steps for k in step.conventions if rearranges(k)):
            for value in alternatives(self.flow, keyword):
                if self.only is not None and (keyword, value) not in self.only:
                    continue
                try:
                    *_, (_, output) = self.flow.run(self.model, {keyword: value})
                except (ValueError, IndexError):  # it does not fit here
                    continue
                if informative(output) and compare(output, self.result).conforms:
                    return {keyword: value}
        return None

    def _refitted(self, fault: Fault) -> Fault:
        """A fault without a name, which has one where other weights give the tensor that is seen."""
        may = self.only is None or next(iter(MISMATCH.items())) in self.only
        if fault.conventions or fault.found is None or not may:
            return fault
        step = self.flow.steps[fault.number]
        if any(self.placed[n].until is not None for n in step.reads.values() if n in self.placed):
            return fault  # what it reads is a tensor most like a step: that the two are a factor apart says nothing
        before = next((s for s in self.flow.steps if s.name in step.reads.values() and self._missing(s)), None)
        expected = step(self.values)
        fits = refitted(step, self.values, before, expected, fault.found.array)
        return replace(fault, conventions=MISMATCH) if fits else fault

    def _missing(self, step: Step) -> bool:
        return any(self.flow.steps[p] is step for p in self.pending)

    def _forget_from(self, number: int) -> None:
        for step in self.flow.steps[number:]:
            if self.placed[step.name].found is None and not self.placed[step.name].faulty:
                self.values.pop(step.name, None)


def observed_values(placed: Mapping[str, Placed]) -> dict[str, NDArray[Any]]:
    """The observed values by step, for the steps that were found."""
    return {name: p.found.array for name, p in placed.items() if p.found is not None}
