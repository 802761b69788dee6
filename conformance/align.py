"""Which tensor of a tape is which step, and where the subject leaves the oracle.

Steps are walked in flow order; each is computed from what was observed of the steps that it reads, and
looked for by value. A step that is not found while a later one that depends on it is, was factored away.
Where nothing later is found, there is a fault: the conventions are replayed from the first missing step
on, and the replay under which the later steps are found fixes the alignment. Where no replay helps, the
tensor from which the later steps follow is the faulty step; failing that, the likeliest one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.conventions import CONFIG, by_keyword
from conformance.figures import Figures, compare
from conformance.flow import Flow, carry
from conformance.tape import Found, Tape
from conformance.view import View, views

if TYPE_CHECKING:
    from conformance.layer import Step
    from conformance.model import RoundingModel
    from conformance.rounding import RoundedArray
    from conformance.trace import Trace

_MUCH = 100.0
_MOST_FAULTS = 3  # faulty steps that one search follows before it gives up


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


@dataclass(frozen=True)
class _Fault:
    """A hypothesis: `step` (by number) has `value`, seen in `found` if anywhere."""

    number: int
    value: Any
    found: Found | None
    conventions: Mapping[str, Any]
    reached: int
    complete: bool
    rest: tuple[_Fault, ...] = ()

    @property
    def rank(self) -> tuple[Any, ...]:
        changes = len(self.conventions) + sum(len(f.conventions) for f in self.rest)
        return (not self.complete, -self.reached, self._unseen, changes, self.number)

    @property
    def _unseen(self) -> int:
        """How many of the faulty values the tape does not show: what is seen is the better evidence."""
        return sum(f.found is None for f in (self, *self.rest))


def align(flow: Flow, trace: Trace, model: RoundingModel) -> dict[str, Placed]:
    """Where every step of `flow` is in `trace`, with its isolated figures.

    The output is that of the observed run, so that it belongs to the steps; a trace without one has a
    single output for both.
    """
    aligner = _Recurrent(flow, trace, model) if flow.layer.scan is not None else _Aligner(flow, trace, model)
    aligner.walk()
    return aligner.placed


class _Aligner:
    def __init__(self, flow: Flow, trace: Trace, model: RoundingModel) -> None:
        self.flow, self.model = flow, model
        self.tape = Tape(trace.tape)
        self.result = trace.output if trace.observed_output is None else trace.observed_output
        self.placed = {step.name: Placed() for step in flow.steps}
        self.values = flow.start(model, carried=True)
        self.active: dict[str, Any] = {}  # conventions that an earlier fault established
        self.pending: list[int] = []

    # -- the walk -----------------------------------------------------------------------------------

    def walk(self) -> None:
        number = 0
        while number < len(self.flow.steps):
            step = self.flow.steps[number]
            if self.placed[step.name].faulty:  # settled before
                number += 1
                continue
            expected = step(self.values, **self.active)
            found = self.locate(number, expected)
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
        """The tensor that holds the step; the output is known without a search."""
        found = self.tape.find(expected, after=self._parents_position(number))
        if number < len(self.flow.steps) - 1:
            return found
        if self.result.shape != expected.shape or not compare(expected, self.result).conforms:
            return None
        return self._as_output(expected, found)

    def _as_output(self, expected: RoundedArray, found: Found | None) -> Found:
        if found is not None:
            return Found(found.position, found.operation, found.view, self.result)
        return Found(-1, "output", _whole(expected.shape), self.result)

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

    def _parents_position(self, number: int) -> int:
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
        """Free what neither a later step nor a search for a fault can need any more."""
        first = min([number + 1, *self.pending])
        needed = {name for step in self.flow.steps[first:] for name in step.reads.values()}
        for name in [n for n in self.values if n not in needed and n in self.placed]:
            del self.values[name]

    # -- where the output does not follow: a fault among the missing steps -----------------------------

    def settle(self) -> int:
        """Place the fault, and return the number of the step at which the walk goes on."""
        pending = self.pending
        fault = self._best_replay(pending) or self._confirmed(pending)
        if fault is None or (not fault.complete and fault.found is None):
            fault = self._likeliest(pending)
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
            placed.equivalent = self._indistinguishable(fault)
            self.active |= fault.conventions
        elif not fault.complete:
            placed.until = self.flow.output
        explained = self._ancestors(fault.number)
        self.pending = [p for p in pending if p < fault.number and p not in explained]
        return fault.number + 1

    def _forget_from(self, number: int) -> None:
        for step in self.flow.steps[number:]:
            if self.placed[step.name].found is None and not self.placed[step.name].faulty:
                self.values.pop(step.name, None)

    def _best_replay(self, pending: list[int]) -> _Fault | None:
        """The replay with the fewest faulty steps that explains the output; else the one that gets furthest."""
        best: _Fault | None = None
        for depth in range(1, _MOST_FAULTS + 1):
            best = self._replayed(pending, depth)
            if best is not None and best.complete:
                break
        return best

    def _replayed(self, pending: list[int], depth: int) -> _Fault | None:
        """The best replay of conventions at one of the missing steps, and at further ones after it."""
        best: _Fault | None = None
        for number in pending:
            for variant in self._variants(number):
                fault = self._try(number, variant, depth)
                if fault is not None and (best is None or fault.rank < best.rank):
                    best = fault
            if best is not None and best.complete and best.number == number and not best.rest:
                break
        return best

    def _variants(self, number: int) -> Iterator[dict[str, Any]]:
        """The conventions that can act at a step: one change, then two at the same step."""
        step = self.flow.steps[number]
        singles = [(k, v) for k in step.conventions if k not in self.active for v in alternatives(self.flow, k)]
        for keyword, value in singles:
            yield {keyword: value}
        for (k1, v1), (k2, v2) in combinations(singles, 2):
            if k1 != k2:
                yield {k1: v1, k2: v2}

    def _try(self, number: int, variant: Mapping[str, Any], depth: int) -> _Fault | None:
        """What follows if the step at `number` is computed under `variant`: None if nothing does."""
        step = self.flow.steps[number]
        try:
            value = step(self.values, **self.active, **variant)
            canonical = step(self.values, **self.active)
        except (ValueError, IndexError):  # the variant's shapes do not fit here
            return None
        if value.shape != canonical.shape or compare(canonical, value.value).conforms:
            return None  # no change at this point: it would explain nothing
        last = number == len(self.flow.steps) - 1
        found = self.locate(number, value) if last else self.tape.find(value, after=self._parents_position(number))
        if last:
            return None if found is None else _Fault(number, value, found, variant, number, True)
        fresh = found is not None and found.position not in self.tape.claimed
        base = value if found is None else carry(found.array, self.model)
        return self._followed(
            _Fault(number, base, found, variant, number, False), {**self.active, **variant}, fresh, depth
        )

    def _followed(self, fault: _Fault, active: Mapping[str, Any], fresh: bool, depth: int) -> _Fault | None:
        """`fault` with how far the walk gets from it; None where no later step is found."""
        saved, values = self.values, {**self.values, self.flow.steps[fault.number].name: fault.value}
        self.values = values
        reached = fault.number if fresh else -1
        missing: list[int] = []
        try:
            for number in range(fault.number + 1, len(self.flow.steps)):
                step = self.flow.steps[number]
                if self.placed[step.name].found is not None or self.placed[step.name].faulty:
                    continue
                expected = step(values, **active)
                found = self.locate(number, expected)
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
                held, self.active = self.active, dict(active)
                deeper = self._replayed(missing, depth - 1)
                self.active = held
                if deeper is not None and (deeper.complete or reached >= 0):
                    return _Fault(
                        fault.number, fault.value, fault.found, fault.conventions, max(reached, deeper.reached),
                        deeper.complete, (deeper, *deeper.rest),
                    )  # fmt: skip
        finally:
            self.values = saved
        if reached < 0:
            return None
        return _Fault(fault.number, fault.value, fault.found, fault.conventions, reached, complete)

    def _leads_to(self, earlier: int, later: int) -> bool:
        names = {self.flow.steps[earlier].name}
        for step in self.flow.steps[earlier + 1 : later + 1]:
            if names & set(step.reads.values()):
                names.add(step.name)
        return self.flow.steps[later].name in names

    def _confirmed(self, pending: list[int]) -> _Fault | None:
        """An unclaimed tensor that, taken for a missing step, makes later steps come out."""
        best: _Fault | None = None
        for number in pending[:-1]:
            expected = self.flow.steps[number](self.values, **self.active)
            for found in self.tape.candidates(expected, after=self._parents_position(number)):
                fault = _Fault(number, carry(found.array, self.model), found, {}, number, False)
                followed = self._followed(fault, self.active, fresh=False, depth=1)
                if followed is not None and (best is None or followed.rank < best.rank):
                    best = followed
            if best is not None and best.complete:
                break
        return best

    def _likeliest(self, pending: list[int]) -> _Fault:
        """The first missing step that the subject materialises, in the tensor most like it."""
        last = len(self.flow.steps) - 1
        values = dict(self.values)
        for number in range(pending[0], last + 1):
            step = self.flow.steps[number]
            if number in pending:
                values[step.name] = step(values, **self.active)
        output = values[self.flow.output]
        at_output = compare(output, self.result).ratio if output.shape == self.result.shape else np.inf
        for number in pending:
            step = self.flow.steps[number]
            expected = step(self.values, **self.active)
            if number == len(self.flow.steps) - 1:
                break
            hinted = list(self.tape.hinted(step.name, expected.shape))
            similar = self.tape.candidates(expected, after=self._parents_position(number), most=1)
            for found in hinted[:1] or similar:
                # A tensor that is much further off than the output that comes of it is not the step.
                if hinted or compare(expected, found.array).ratio <= _MUCH * at_output:
                    return _Fault(number, carry(found.array, self.model), found, {}, number, False)
        if self.result.shape != output.shape:
            from conformance.errors import ConformanceError

            raise ConformanceError(
                f"the output is {_by(self.result.shape)}, but {self.flow.layer.name} gives "
                f"{_by(output.shape)} ({self.flow.axes(self.flow.steps[last])})"
            )
        found = Found(-1, "output", _whole(output.shape), self.result)
        return _Fault(last, carry(self.result, self.model), found, {}, last, pending == [last])

    def _indistinguishable(self, fault: _Fault) -> list[Mapping[str, Any]]:
        """Other variants with as many changes that explain as much."""
        others: list[Mapping[str, Any]] = []
        for variant in self._variants(fault.number):
            if variant != fault.conventions and len(variant) == len(fault.conventions):
                other = self._try(fault.number, variant, _MOST_FAULTS)
                if other is not None and other.rank[:4] == fault.rank[:4]:
                    others.append(variant)
        return others


class _Recurrent(_Aligner):
    """A scanned layer is aligned as a whole: its steps are held at once or in one tensor per time step."""

    def walk(self) -> None:
        expected = dict(self._run({}))
        self._observe(expected)
        if self.placed[self.flow.output].found is not None:
            self._judge()
            return
        fault = self._explained()
        if fault is not None:
            number, variant, equivalent = fault
            self._observe(dict(self._run(variant)))
            self._judge()
            placed = self.placed[self.flow.steps[number].name]
            placed.faulty, placed.conventions, placed.equivalent = True, variant, equivalent
            return
        last = self.flow.steps[-1]
        if self.result.shape != expected[last.name].shape:
            self._likeliest([len(self.flow.steps) - 1])  # says what is wrong with the shape
        self.placed[last.name].found = Found(-1, "output", _whole(self.result.shape), self.result)
        self._judge()
        culprit = next((p for p in self.placed.values() if p.found is None), self.placed[last.name])
        culprit.faulty, culprit.until = True, last.name
        if culprit.isolated is None:
            culprit.isolated = self.placed[last.name].isolated

    def _run(self, conventions: Mapping[str, Any]) -> Iterator[tuple[str, RoundedArray]]:
        for step, value in self.flow.run(self.model, conventions):
            yield step.name, value

    def _observe(self, expected: Mapping[str, RoundedArray]) -> None:
        for number, step in enumerate(self.flow.steps):
            found = self.locate(number, expected[step.name])
            if found is None and step is not self.flow.steps[-1]:
                found = self.tape.find_in_pieces(expected[step.name], axis=1)
            self.placed[step.name].found = found

    def _judge(self) -> None:
        observed = {name: p.found.array for name, p in self.placed.items() if p.found is not None}
        for step, canonical in self.flow.isolated(self.model, observed):
            if step.name in observed:
                placed = self.placed[step.name]
                placed.isolated = compare(canonical, observed[step.name])
                placed.faulty = not placed.isolated.conforms

    def _explained(self) -> tuple[int, dict[str, Any], list[Mapping[str, Any]]] | None:
        """The first step at which a convention makes the output come out."""
        last = len(self.flow.steps) - 1
        for number in range(len(self.flow.steps)):
            able = []
            for variant in self._variants(number):
                value = dict(self._run(variant))[self.flow.output]
                if self.locate(last, value) is not None:
                    able.append(variant)
            if able:
                fewest = [v for v in able if len(v) == len(able[0])]
                return number, fewest[0], list(fewest[1:])
        return None


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


def _whole(shape: tuple[int, ...]) -> View:
    return next(views(shape, shape), View(shape, tuple(range(len(shape))), shape))


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"


def isolated_values(placed: Mapping[str, Placed]) -> dict[str, np.ndarray[Any, Any]]:
    """The observed values by step, for the steps that were found."""
    return {name: p.found.array for name, p in placed.items() if p.found is not None}
