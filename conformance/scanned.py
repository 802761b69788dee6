"""Alignment of a scanned layer: its steps are held whole, or in one tensor per time step.

The time steps hang together through the states, so a scanned layer is aligned as a whole with the
oracle's own run, and a convention is replayed over all of time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.fault import FaultSearch
from conformance.figures import compare, informative
from conformance.flow import Flow
from conformance.hypothesis import ROUNDS, Round
from conformance.layer import Chain
from conformance.number import near
from conformance.tape import Found
from conformance.unnamed import require_shape
from conformance.walk import Walk, observed_values

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.rounding import RoundedArray


class ScannedWalk(Walk):
    """The walk over a scanned layer's steps."""

    def run(self) -> None:
        """Observe the steps, explain the output where it does not follow, and judge each time step."""
        expected = self._oracle({})
        self._observe(expected)
        if self.placed[self.flow.output].found is not None:
            self._judge()
            return
        fault = self._explained()
        if fault is not None:
            number, variant, equivalent = fault
            self._observe(self._oracle(variant))
            self._judge()
            for keyword, value in variant.items():  # each at the first step that it changes
                at = self.placed[self.flow.steps[self._first_changed({keyword: value}, number)].name]
                at.faulty, at.conventions = True, {**at.conventions, **_unscoped({keyword: value})}
                at.equivalent = [_unscoped(e) for e in equivalent]
            return
        if self.only is not None and self.result.shape != expected[self.flow.output].shape:
            self.placed[self.flow.output].faulty = True  # a cause of it is looked for among all conventions next
            return
        require_shape(self.flow, self.result.shape, expected[self.flow.output].shape)
        last = self.flow.steps[-1]
        self.placed[last.name].found = Found.whole(self.result)
        self._judge()
        culprit = self.placed[self._first_wrong(expected)]
        culprit.faulty = True
        culprit.until = None if culprit is self.placed[last.name] else last.name
        if culprit.isolated is None:
            culprit.isolated = self.placed[last.name].isolated

    def _first_wrong(self, expected: Mapping[str, RoundedArray]) -> str:
        """The first missing step of the first time step at which the output is off; in a stack, of the first layer
        whose output is not there.

        Up to there the states are right. A step from which another follows that is there was factored away.
        """
        output = self.flow.output
        for chain, right in self._walks(expected):
            steps = [step for step in self.flow.steps if step.name in chain.names]
            times = range(self.result.shape[1])
            for t in reversed(times) if chain.backward else times:
                if right(t):
                    continue
                apart = [s.name for s in steps if s.name != output]
                missing = {name for name in apart if self.tape.find(expected[name][:, t]) is None} | {output}
                for step in reversed(steps):
                    if step.name not in missing:
                        missing -= set(step.reads.values())
                return next((step.name for step in steps if step.name in missing), output)
        return output

    def _walks(self, expected: Mapping[str, RoundedArray]) -> Iterator[tuple[Chain, Callable[[int], bool]]]:
        """The walks along time that may be wrong, with what tells whether one is right at a time step."""
        scan = self.flow.layer.scan
        assert scan is not None
        *before, last = scan.stack or ("",)
        wrong = [prefix for number, prefix in enumerate(before) if not self._given(before[number:], last)]
        for chain in self.flow.chains:
            if any(chain.names[0].startswith(prefix) for prefix in wrong):
                end = expected[chain.names[-1]]
                yield chain, partial(self._there, end)
        ends = [chain for chain in self.flow.chains if chain.names[0].startswith(last)]
        for chain, part in self._parts(ends, expected[self.flow.output].shape[-1]):
            yield chain, partial(self._shown, expected[self.flow.output], part)

    def _there(self, value: RoundedArray, t: int) -> bool:
        return self.tape.find(value[:, t]) is not None

    def _shown(self, output: RoundedArray, part: slice, t: int) -> bool:
        return compare(output[:, t, part], self.result[:, t, part]).conforms

    def _given(self, before: Sequence[str], last: str) -> bool:
        """Whether what the first of the layers `before` gives is there, or anything that a later one makes of it."""
        first, *later = before
        there = [n for n, placed in self.placed.items() if placed.found is not None and n != self.flow.output]
        return f"{first}{self._end}" in there or any(n.startswith((*later, last)) for n in there)

    @property
    def _end(self) -> str:
        return self.flow.output.rpartition(".")[2]

    def _parts(self, chains: list[Chain], width: int) -> list[tuple[Chain, slice]]:
        """The walks of a layer, with what of its output shows each: its half, where two directions stand side by
        side."""
        if len(chains) == 1 or self.flow.values.get("merge") != "concat":
            return [(chain, slice(None)) for chain in chains]
        return [(chains[0], slice(None, width // 2)), (chains[1], slice(width // 2, None))]

    def _oracle(self, conventions: Mapping[str, Any]) -> dict[str, RoundedArray]:
        return {step.name: value for step, value in self.flow.run(self.model, conventions)}

    def _observe(self, expected: Mapping[str, RoundedArray]) -> None:
        for number, step in enumerate(self.flow.steps):
            found = self.locate(number, expected[step.name])
            if found is None and step is not self.flow.steps[-1] and informative(expected[step.name]):
                found = self.tape.find_in_pieces(expected[step.name], axis=1)
            self.placed[step.name].found = found

    def _judge(self) -> None:
        observed = observed_values(self.placed)
        for step, canonical in self.flow.isolated(self.model, observed):
            if step.name in observed:
                placed = self.placed[step.name]
                placed.isolated = compare(canonical, observed[step.name])
                placed.faulty = not placed.isolated.conforms

    def _explained(self) -> tuple[int, dict[str, Any], list[Mapping[str, Any]]] | None:
        """A step in which a convention acts under which the output comes out; the fewest changes first."""
        search = ScannedSearch(self, self._beginning())
        for tried in ROUNDS:
            if tried.depth > 1:
                continue  # the steps hang together: what is wrong in several is one convention, or not found
            able: list[dict[str, Any]] = []
            for number in range(len(self.flow.steps)):
                for variant in search.of_layers(number, tried):
                    if variant not in able and search.begins(variant) and self._comes_out(variant):
                        able.append(variant)
                if able:
                    fewest = [v for v in able if len(v) == len(able[0])]
                    return number, fewest[0], list(fewest[1:])
        return None

    def _comes_out(self, variant: Mapping[str, Any]) -> bool:
        try:
            value = self._oracle(variant)[self.flow.output]
        except (ValueError, IndexError):  # the variant's shapes do not fit here
            return False
        return self.locate(len(self.flow.steps) - 1, value) is not None

    def _first_changed(self, variant: Mapping[str, Any], otherwise: int) -> int:
        """The first step that a variant changes at the first time step, where nothing has been handed on yet."""
        first, _ = self._beginning(1)
        backward = {name for chain in self.flow.chains if chain.backward for name in chain.names}
        pairs = zip(first.run(self.model), first.run(self.model, variant), strict=True)
        for number, ((step, canonical), (_, changed)) in enumerate(pairs):
            at = -1 if step.name in backward else 0
            if canonical.shape != changed.shape or not compare(canonical[:, at], changed.value[:, at]).conforms:
                return number
        return otherwise

    def _beginning(self, length: int = 2) -> tuple[Flow, NDArray[Any]]:
        """The flow over the first time steps that are walked, and what the subject gave there; all of them, where they
        are not walked from one and the same end."""
        scan = self.flow.layer.scan
        assert scan is not None
        if scan.reverse or self.flow.values.get(scan.lengths) is not None:
            return self.flow, self.result
        backward = self.flow.values.get(scan.reversed_by) == "reverse"
        part = slice(-length, None) if backward else slice(0, length)
        cut = {name: self.flow.values[name][:, part] for name in scan.over}
        return replace(self.flow, values={**self.flow.values, **cut}), self.result[:, part]


class ScannedSearch(FaultSearch):
    """The search over a scanned layer, for which the first time steps, `beginning`, are a first and cheap look."""

    def __init__(self, walk: ScannedWalk, beginning: tuple[Flow, NDArray[Any]]) -> None:
        super().__init__(walk)
        self.beginning = beginning

    def of_layers(self, number: int, tried: Round) -> Iterator[dict[str, Any]]:
        """The conventions that can act at a step: in a stack those of all its layers, and those of the step's alone."""
        assert self.flow.layer.scan is not None
        stack, name = self.flow.layer.scan.stack, self.flow.steps[number].name
        layer = next((prefix for prefix in stack if name.startswith(prefix)), "")
        for variant in self.variants(number, tried):
            if not stack or layer == stack[0]:
                yield variant
            if stack:
                yield {f"{layer}{keyword}": value for keyword, value in variant.items()}

    def begins(self, variant: Mapping[str, Any]) -> bool:
        """Whether the output comes out under a variant as far as the first time steps go."""
        output, seen = self._begun(variant), self.beginning[1]
        return output is not None and output.shape == seen.shape and compare(output, seen).conforms

    def _solved(self, number: int, keyword: str, others: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        flow, seen = self.beginning
        expected = self._begun(others)
        if expected is None or expected.shape != seen.shape:
            return

        def values(value: float) -> NDArray[Any]:
            *_, (_, output) = flow.run(None, {**others, keyword: repr(value)})
            return np.asarray(output)

        for value in near(values, seen, expected.tolerance, (1, 2, 3, 5)):
            yield {**others, keyword: repr(value)}

    def _begun(self, variant: Mapping[str, Any]) -> RoundedArray | None:
        try:
            *_, (_, output) = self.beginning[0].run(self.model, variant)
        except (ValueError, IndexError):  # the variant's shapes do not fit here
            return None
        made: RoundedArray = output
        return made


def _unscoped(variant: Mapping[str, Any]) -> dict[str, Any]:
    """Conventions without the layer of a stack in which alone they hold."""
    return {keyword.rpartition(".")[2]: value for keyword, value in variant.items()}
