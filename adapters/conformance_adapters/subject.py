"""What the framework adapters have in common: subjects, and how one is run plain and observed.

A subject class wraps one of the framework's own layers. It builds the layer from canonical weights
through declared layouts, reads them back through the same layouts, and calls it. Everything else is here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from conformance.errors import Unsupported
from conformance.trace import Entry, Request, Trace

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Subject(Protocol):
    """One of a framework's own layers, able to express some of a canonical layer's requests."""

    name: ClassVar[str]
    layer: ClassVar[str]

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """Why this layer cannot express `request`, or None where it can. Must not import the framework."""
        ...

    def __init__(self, request: Request) -> None: ...

    def weights(self) -> dict[str, NDArray[Any]]:
        """The canonical weights, read back out of the framework's object."""
        ...

    def __call__(self) -> Any:
        """The output for the request's inputs: a tensor of the framework, in canonical axes."""
        ...


class FrameworkAdapter:
    """An adapter made of subjects. A framework's adapter says how to record and how to leave the framework."""

    name: str
    requires: tuple[str, ...]
    install: str
    dtypes: tuple[str, ...] = ("float64", "float32", "bfloat16", "float16")
    table: Sequence[type[Subject]] = ()

    def start(self) -> Mapping[str, str]:
        """Import the framework and return its versions."""
        raise NotImplementedError

    def to_numpy(self, tensor: Any) -> NDArray[Any]:
        """The framework's tensor as a NumPy array of its own dtype (a copy)."""
        raise NotImplementedError

    def record(self, subject: Callable[[], Any], request: Request) -> tuple[Any, Sequence[Entry]]:
        """Call `subject` while watching it: its output, and every tensor that it computed, in order."""
        raise NotImplementedError

    def subjects(self, request: Request) -> list[str]:
        """The framework's own layers that can express `request`."""
        candidates = [s for s in self.table if s.layer == request.layer]
        if not candidates:
            raise Unsupported(f"{self.name} has no {request.layer} of its own")
        if request.dtype not in self.dtypes:
            raise Unsupported(f"{self.name} does not compute in {request.dtype}")
        reasons = {s.name: s.refuses(request) for s in candidates}
        able = [name for name, reason in reasons.items() if reason is None]
        if not able:
            raise Unsupported("; ".join(f"{name}: {reason}" for name, reason in reasons.items()))
        return able

    def build(self, request: Request) -> Subject:
        """The subject that `request` names, with its weights loaded."""
        for subject in self.table:
            if subject.name == request.subject and subject.layer == request.layer:
                return subject(request)
        raise Unsupported(f"{self.name} has no {request.subject} for {request.layer}")

    def run(self, request: Request) -> Trace:
        """Build the subject, read its weights back, run it plain, run it observed."""
        subject = self.build(request)
        weights = subject.weights()
        output = self.to_numpy(subject())
        observed, tape = self.record(subject, request)
        return Trace(output=output, tape=tape, observed_output=self.to_numpy(observed), weights=weights)
