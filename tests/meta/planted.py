"""A planted fault: what is wrong, in which problem it shows, and what the judge must say of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from problem import Observe, Problem, verdict
from watched import Build, in_torch

from conformance.judge import Verdict

B = TypeVar("B", bound=Build)


@dataclass(frozen=True)
class Planted:
    """A faulty subject. `culprit` is the step that must be blamed; `named` are the conventions that must be
    diagnosed, id to value (empty: nothing may be said to explain it); `also` are the other steps at fault,
    where there are any, and None where it does not matter."""

    name: str
    problem: Problem
    observe: Observe
    culprit: str
    named: Mapping[str, str] = field(default_factory=dict)
    also: tuple[str, ...] | None = ()

    def verdict(self, dtype: str) -> Verdict:
        """What the judge says of it."""
        return verdict(self.problem, self.observe, dtype)


class Corpus(list[Planted]):
    """Faults, in the order in which they are planted."""

    def plant(
        self,
        problem: Problem,
        culprit: str,
        named: Mapping[str, str] | None = None,
        *,
        also: tuple[str, ...] | None = (),
        decomposed: bool = False,
    ) -> Callable[[B], B]:
        """Plant what is decorated: a PyTorch subject built from (weights, config), called with the inputs."""

        def register(build: B) -> B:
            observe = in_torch(build, decomposed=decomposed)
            self.append(Planted(build.__name__, problem, observe, culprit, named or {}, also))
            return build

        return register


def blamed(verdict: Verdict) -> list[str]:
    """The steps that are said to be at fault, in flow order."""
    return [step.name for step in verdict.steps if step.status == "diverges"]


def explanations(verdict: Verdict) -> dict[str, str]:
    """The conventions that are said to explain a fault, id to value."""
    return {cause.convention: cause.value for cause in verdict.causes if cause.explains}
