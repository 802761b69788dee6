"""What is right, in another form than the oracle's, and must not raise an alarm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from planted import DTYPES
from problem import Observe, Problem, verdict
from watched import in_torch

from conformance.judge import Verdict

B = TypeVar("B", bound=Callable[..., Any])


@dataclass(frozen=True)
class Clean:
    """A subject that is right. `layout` is the order of the scores that must be reported, if any."""

    name: str
    problem: Problem
    observe: Observe
    layout: str | None = None
    framework: str = "PyTorch"
    dtypes: tuple[str, ...] = DTYPES

    def verdict(self, dtype: str) -> Verdict:
        """What the judge says of it."""
        return verdict(self.problem, self.observe, dtype)


class CleanCorpus(list[Clean]):
    """Clean subjects in one framework, in the order in which they are listed. `watch` is as in `Corpus`."""

    def __init__(self, framework: str = "PyTorch", watch: Callable[..., Observe] = in_torch) -> None:
        super().__init__()
        self.framework, self.watch = framework, watch

    def add(
        self,
        problem: Problem | Mapping[str, Problem],
        *,
        layout: str | None = None,
        dtypes: tuple[str, ...] = DTYPES,
        **watching: Any,
    ) -> Callable[[B], B]:
        """List what is decorated as right for `problem`, or for each of several, by name."""

        def register(build: B) -> B:
            observe = self.watch(build, **watching)
            for name, posed in problem.items() if isinstance(problem, Mapping) else [("", problem)]:
                full = f"{build.__name__}, {name}" if name else build.__name__
                self.append(Clean(full, posed, observe, layout, self.framework, dtypes))
            return build

        return register


def quiet(verdict: Verdict) -> bool:
    """Whether nothing is blamed, nothing is named, and the case conforms."""
    return verdict.culprit is None and verdict.causes == () and verdict.status == "conforms"


def assert_no_alarm(verdict: Verdict) -> None:
    """Nothing is blamed, nothing is named, and the case conforms."""
    assert verdict.culprit is None
    assert verdict.causes == ()
    assert verdict.status == "conforms"


def assert_clean(clean: Clean, dtype: str) -> None:
    """There is no alarm, and the layout is reported if there is one, and nothing else."""
    given = clean.verdict(dtype)
    assert_no_alarm(given)
    reported = {layout.convention: layout.value for layout in given.layouts}
    assert reported == ({"attention.scores-layout": clean.layout} if clean.layout else {})
