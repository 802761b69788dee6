"""Alignment of a scanned layer: its steps are held whole, or in one tensor per time step.

The time steps hang together through the states, so a scanned layer is aligned as a whole with the
oracle's own run, and a convention is replayed over all of time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from conformance.fault import FaultSearch, require_shape
from conformance.figures import compare
from conformance.tape import Found
from conformance.walk import Walk, observed_values

if TYPE_CHECKING:
    from conformance.rounding import RoundedArray


class ScannedWalk(Walk):
    """The walk over a scanned layer's steps."""

    def run(self) -> None:
        """Observe the steps, explain the output where it does not follow, and judge each time step."""
        expected = self._oracle({})
        require_shape(self.flow, self.result.shape, expected[self.flow.output].shape)
        self._observe(expected)
        if self.placed[self.flow.output].found is not None:
            self._judge()
            return
        fault = self._explained()
        if fault is not None:
            number, variant, equivalent = fault
            self._observe(self._oracle(variant))
            self._judge()
            placed = self.placed[self.flow.steps[number].name]
            placed.faulty, placed.conventions, placed.equivalent = True, variant, equivalent
            return
        last = self.flow.steps[-1]
        self.placed[last.name].found = Found.whole(self.result)
        self._judge()
        culprit = self.placed[self._first_wrong(expected)]
        culprit.faulty = True
        culprit.until = None if culprit is self.placed[last.name] else last.name
        if culprit.isolated is None:
            culprit.isolated = self.placed[last.name].isolated

    def _first_wrong(self, expected: Mapping[str, RoundedArray]) -> str:
        """The first missing step of the first time step at which the output is off.

        Up to there the states are right. A step from which another follows that is there was factored away.
        """
        steps, output = self.flow.steps, self.flow.output
        times = range(self.result.shape[1])
        for t in reversed(times) if self.flow.values.get("direction") == "reverse" else times:
            if compare(expected[output][:, t], self.result[:, t]).conforms:
                continue
            missing = {s.name for s in steps[:-1] if self.tape.find(expected[s.name][:, t]) is None} | {output}
            for step in reversed(steps):
                if step.name not in missing:
                    missing -= set(step.reads.values())
            return next(step.name for step in steps if step.name in missing)
        return output

    def _oracle(self, conventions: Mapping[str, Any]) -> dict[str, RoundedArray]:
        return {step.name: value for step, value in self.flow.run(self.model, conventions)}

    def _observe(self, expected: Mapping[str, RoundedArray]) -> None:
        for number, step in enumerate(self.flow.steps):
            found = self.locate(number, expected[step.name])
            if found is None and step is not self.flow.steps[-1]:
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
        """The first step at which a convention makes the output come out."""
        last = len(self.flow.steps) - 1
        search = FaultSearch(self)
        for number in range(len(self.flow.steps)):
            able = []
            for variant in search.variants(number):
                value = self._oracle(variant)[self.flow.output]
                if self.locate(last, value) is not None:
                    able.append(variant)
            if able:
                fewest = [v for v in able if len(v) == len(able[0])]
                return number, fewest[0], list(fewest[1:])
        return None
