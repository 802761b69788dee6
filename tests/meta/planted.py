"""A planted fault: what is wrong, in which problem it shows, and what the judge must say of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from problem import Observe, Problem, verdict
from shortfalls import SHORTFALLS, WITHOUT
from watched import in_torch

from conformance.judge import Verdict

B = TypeVar("B", bound=Callable[..., Any])
DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class Planted:
    """A faulty subject. `culprit` is the step that must be blamed; `named` are the conventions that must be
    diagnosed, id to value, in flow order (empty: nothing may be said to explain it); `also` are the other steps
    at fault, where there are any, and None where it does not matter. `faults` is how many are planted at once."""

    name: str
    problem: Problem
    observe: Observe
    culprit: str
    named: Mapping[str, str] = field(default_factory=dict)
    also: tuple[str, ...] | None = ()
    framework: str = "PyTorch"
    faults: int = 1
    dtypes: tuple[str, ...] = DTYPES

    def verdict(self, dtype: str) -> Verdict:
        """What the judge says of it."""
        return verdict(self.problem, self.observe, dtype)

    def placed(self, verdict: Verdict) -> bool:
        """Whether the right steps are blamed."""
        return verdict.culprit == self.culprit and (self.also is None or blamed(verdict) == [self.culprit, *self.also])

    def explained(self, verdict: Verdict) -> bool:
        """Whether it is given its names, in flow order, and no other; and none where it has none."""
        return list(explanations(verdict).items()) == list(self.named.items())


class Corpus(list[Planted]):
    """Faults in one framework, in the order in which they are planted. `watch` makes of a subject how it is run."""

    def __init__(self, framework: str = "PyTorch", watch: Callable[..., Observe] = in_torch) -> None:
        super().__init__()
        self.framework, self.watch = framework, watch

    def plant(
        self,
        problem: Problem,
        culprit: str,
        named: Mapping[str, str] | None = None,
        *,
        also: tuple[str, ...] | None = (),
        faults: int = 1,
        dtypes: tuple[str, ...] = DTYPES,
        **watching: Any,
    ) -> Callable[[B], B]:
        """Plant what is decorated: a subject in the form that the corpus's `watch` takes, with its options."""

        def register(build: B) -> B:
            observe = self.watch(build, **watching)
            name = build.__name__
            self.append(Planted(name, problem, observe, culprit, named or {}, also, self.framework, faults, dtypes))
            return build

        return register


def assert_placed_and_named(fault: Planted, dtype: str) -> None:
    """It is detected, the right steps are blamed, and it has its names, or none."""
    verdict, known = fault.verdict(dtype), SHORTFALLS.get(fault.name, WITHOUT)
    assert verdict.status == "diverges"
    if known.placed:
        assert verdict.culprit == fault.culprit
        if fault.also is not None:
            assert blamed(verdict) == [fault.culprit, *fault.also]
    if known.named:
        assert list(explanations(verdict).items()) == list(fault.named.items())
    assert (fault.placed(verdict), fault.explained(verdict)) == (known.placed, known.named), "no shortfall any more"


def blamed(verdict: Verdict) -> list[str]:
    """The steps that are said to be at fault, in flow order."""
    return [step.name for step in verdict.steps if step.status == "diverges"]


def explanations(verdict: Verdict) -> dict[str, str]:
    """The conventions that are said to explain a fault, id to value, in flow order."""
    return {cause.convention: cause.value for cause in verdict.causes if cause.explains}
