"""A fault that no convention explains: which tensor of the tape is the faulty step.

It is the first step for which there is a tensor from which later steps follow; failing that, the first missing step
that the subject materialises, in the tensor most like it.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from conformance.errors import ConformanceError
from conformance.figures import compare
from conformance.flow import Flow, carry
from conformance.hypothesis import NAMED, Fault
from conformance.tape import Found

if TYPE_CHECKING:
    from conformance.fault import FaultSearch

_MUCH = 100.0
_TRIED = 16  # tensors that are tried as one step
_PAIRED = 6  # tensors that are tried for each of two steps at once


class UnnamedFault:
    """The part of a fault search that looks at tensors and at no convention."""

    def __init__(self, search: FaultSearch) -> None:
        self.search, self.walk = search, search.walk
        self.flow, self.tape, self.model = search.flow, search.tape, search.model

    def confirmed(self, number: int) -> Fault | None:
        """The missing step, in an unclaimed tensor that makes later steps come out."""
        best: Fault | None = None
        for found in self._tried(number, _TRIED):
            fault = Fault(number, carry(found.array, self.model), found, {}, number, False)
            followed = self.search.followed(fault, self.walk.active, fresh=False, depth=1, tried=NAMED)
            if followed is not None and (best is None or followed.rank < best.rank):
                best = followed
        return best

    def together(self, number: int, pending: list[int]) -> Fault | None:
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
                    if seen is not None and self.search.fresh(seen):
                        return Fault(number, value, found, {}, reader, False)
        return None

    def _tried(self, number: int, most: int) -> list[Found]:
        """What may be a wrong version of a step: first those that have its axes in order, then by likeness."""
        expected = self.flow.steps[number](self.walk.values, **self.walk.active)
        candidates = self.tape.candidates(expected, after=self.walk.parents_position(number))
        if np.isfinite(expected.value).any():  # of NaN everything that follows comes out, NaN
            candidates = [found for found in candidates if np.isfinite(found.array).any()]
        return sorted(candidates, key=lambda found: not found.view.canonical)[:most]

    def likeliest(self, pending: list[int]) -> Fault:
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
            for found in hinted[:1] or [f for f in similar if not self._is_known(f)][:1]:
                # A tensor that is much further off than the output that comes of it is not the step.
                if hinted or compare(expected, found.array).ratio <= _MUCH * at_output:
                    return Fault(number, carry(found.array, self.model), found, {}, number, False)
        found = Found.whole(self.walk.result)
        return Fault(last, carry(self.walk.result, self.model), found, {}, last, pending == [last])

    def _is_known(self, found: Found) -> bool:
        """Whether a tensor is what the subject gave as its output, or was given, its axes in whatever order."""
        held = np.sort(self.tape.entries[found.position].array, None)
        given = (v for v in self.flow.values.values() if isinstance(v, np.ndarray))
        return any(
            held.size == array.size and np.array_equal(held, np.sort(array, None))
            for array in (self.walk.result, *given)
        )


def require_shape(flow: Flow, seen: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Raise ConformanceError where an output has not the layer's shape."""
    if seen != expected:
        raise ConformanceError(another_shape(flow, seen, expected))


def another_shape(flow: Flow, seen: tuple[int, ...], expected: tuple[int, ...]) -> str:
    """What to say where they differ."""
    axes = flow.layer.axes(flow.steps[-1])
    return f"the output is {_by(seen)}, but {flow.layer.name} gives {_by(expected)} ({axes})"


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"
