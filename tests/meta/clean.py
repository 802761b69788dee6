"""What is right, in another form than the oracle's, and must not raise an alarm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from problem import Observe, Problem, verdict
from watched import Build, in_torch

from conformance.judge import Verdict

B = TypeVar("B", bound=Build)


@dataclass(frozen=True)
class Clean:
    """A subject that is right. `layout` is the order of the scores that must be reported, if any."""

    name: str
    problem: Problem
    observe: Observe
    layout: str | None = None

    def verdict(self, dtype: str) -> Verdict:
        """What the judge says of it."""
        return verdict(self.problem, self.observe, dtype)


class CleanCorpus(list[Clean]):
    """Clean subjects, in the order in which they are listed."""

    def add(self, problem: Problem, *, layout: str | None = None, decomposed: bool = False) -> Callable[[B], B]:
        """List what is decorated, built from (weights, config) and called with the inputs, as right for `problem`."""

        def register(build: B) -> B:
            self.append(Clean(build.__name__, problem, in_torch(build, decomposed=decomposed), layout))
            return build

        return register


def assert_no_alarm(verdict: Verdict) -> None:
    """Nothing is blamed, nothing is named, and the case conforms."""
    assert verdict.culprit is None
    assert verdict.causes == ()
    assert verdict.status == "conforms"
