"""Recordings of what is written in NumPy: a tape that is written by hand, and cannot be had again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from problem import Arrays, Observe, Problem

from conformance.trace import Entry, Trace


class Notebook:
    """A tape that is written by hand."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def __call__(self, operation: str, array: np.ndarray) -> np.ndarray:
        """Write `array` down, as the result of `operation`, and give it back."""
        self.entries.append(Entry(operation, np.array(array)))
        return array


Build = Callable[[Notebook, Mapping[str, np.ndarray], Mapping[str, Any]], Callable[..., np.ndarray]]


def in_numpy(build: Build) -> Observe:
    """How `build(note, weights, config)` is run on the inputs by name: it notes down what it computes."""

    def observe(problem: Problem, inputs: Arrays, dtype: str) -> Trace:
        def arrays(given: Arrays) -> dict[str, np.ndarray]:
            return {n: a if a.dtype == bool else a.astype(dtype) for n, a in given.items()}

        note = Notebook()
        output = build(note, arrays(problem.weights), problem.config)(**arrays(inputs))
        assert output.dtype == dtype
        return Trace(output, note.entries, recorded=True)

    return observe
