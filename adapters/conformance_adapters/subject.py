"""What the framework adapters have in common: subjects, and how one is run plain and observed.

A subject class wraps one of the framework's own layers. It builds the layer from canonical weights
through declared layouts, reads them back through the same layouts, and calls it. Everything else is here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from conformance.adapter import EAGER
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


SEQUENTIAL = "sequential"


class FrameworkAdapter:
    """An adapter made of subjects. A framework's adapter says how to record and how to leave the framework.

    `modes` are the ways in which the plain run can execute (`plain`). With `weights_back`, every weight of a request
    must be read back out of its subject.
    """

    name: str
    requires: tuple[str, ...]
    install: str
    dtypes: tuple[str, ...] = ("float64", "float32", "bfloat16", "float16")
    modes: tuple[str, ...] = (EAGER,)
    weights_back: bool = True
    table: Sequence[type[Subject]] = ()

    def start(self) -> Mapping[str, str]:
        """Import the framework and return its versions."""
        raise NotImplementedError

    def to_numpy(self, tensor: Any) -> NDArray[Any]:
        """The framework's tensor as a NumPy array of its own dtype (a copy)."""
        raise NotImplementedError

    def plain(self, subject: Subject, request: Request) -> Any:
        """What `subject` gives, run in the request's mode: as it is, where the adapter has but one.

        Raises Unsupported where the framework does not run it in that mode, rather than to run it in another.
        """
        return subject()

    def record(self, subject: Callable[[], Any], request: Request) -> tuple[Any, Sequence[Entry]]:
        """Call `subject` while watching it: its output, and every tensor that it computed, in order."""
        raise NotImplementedError

    def subjects(self, request: Request) -> list[str]:
        """The framework's own layers that can express `request`."""
        if request.layer == SEQUENTIAL and request.dtype in self.dtypes:
            missing = [p["layer"] for p in request.config["parts"] if all(s.layer != p["layer"] for s in self.table)]
            if missing:
                raise Unsupported(f"{self.name} has no {missing[0]} of its own")
            return [SEQUENTIAL]
        candidates = [s for s in self.table if s.layer == request.layer]
        if not candidates and request.layer != SEQUENTIAL:
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
        """Build the subject, read its weights back, run it plain in the request's mode, run it observed."""
        if request.mode not in self.modes:
            raise Unsupported(f"{self.name} has no mode {request.mode!r}; it has {', '.join(self.modes)}")
        if request.layer == SEQUENTIAL:
            return self.run_in_a_row(request)
        subject = self.build(request)
        weights = subject.weights()
        output = self.to_numpy(self.plain(subject, request))
        observed, tape = self.record(subject, request)
        return Trace(output=output, tape=tape, observed_output=self.to_numpy(observed), weights=weights)

    def run_in_a_row(self, request: Request) -> Trace:
        """A `sequential` request: the framework's own layers one after another, in one tape.

        Each part is the first of the framework's layers that can express it, and reads what the part
        before gave, in the framework's own precision.
        """
        weights: dict[str, NDArray[Any]] = {}
        tape: list[Entry] = []
        plain = watched = request.inputs["x"]
        for part in request.config["parts"]:
            prefix = f"{part['name']}."
            own = {
                field: {k.removeprefix(prefix): v for k, v in getattr(request, field).items() if k.startswith(prefix)}
                for field in ("config", "weights")
            }
            traces = []
            for x, mode in ((plain, request.mode), (watched, EAGER)):
                inputs = {_FIRST_INPUT.get(part["layer"], "x"): x}
                step = replace(request, layer=part["layer"], inputs=inputs, mode=mode, **own)
                traces.append(self.run(replace(step, subject=self.subjects(step)[0])))
            weights |= {prefix + name: array for name, array in traces[0].weights.items()}
            tape += traces[1].tape
            plain = traces[0].output.astype("float64")
            seen = traces[1].observed_output
            watched = (traces[1].output if seen is None else seen).astype("float64")
        return Trace(output=plain, tape=tape, observed_output=watched, weights=weights)


_FIRST_INPUT = {"multi_head_attention": "query_input"}  # what a part of a row reads; the others read x
