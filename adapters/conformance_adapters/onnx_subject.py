"""An ONNX operator as a subject: a small graph around it, with canonical weights as its initializers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from conformance import layout
from conformance.layout import Parameter
from conformance.precision import precision
from conformance_adapters.onnx_graph import Graph

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.trace import Entry, Request


class OnnxSubject:
    """A graph that holds canonical weights.

    A subclass says how its initializers are laid out (`layouts`) and adds the nodes (`build`). An
    initializer that the operator needs, and that the request has no weight for, is given its neutral
    value through `neutral`; it is not reported as a weight.
    """

    name: ClassVar[str]
    layer: ClassVar[str]
    inlined: ClassVar[tuple[str, ...]] = ()

    def __init__(self, request: Request) -> None:
        self.request = request
        self.config = request.config
        self.given = {n: v for n, v in request.inputs.items() if v is not None}
        self.graph = Graph(precision(request.dtype).dtype)
        for name, array in layout.write(self.layouts(), {**self.neutral(), **request.weights}).items():
            self.graph.initializer(name, array)
        self.output = self.build()
        self.plain = self.graph.model(self.output)

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """Why the operator cannot express `request`, or None where it can."""
        return None

    @classmethod
    def layouts_of(cls, config: Mapping[str, Any]) -> Sequence[Parameter]:
        """The layouts under `config`, for a graph that somebody else made."""
        subject = cls.__new__(cls)
        subject.config = config
        return subject.layouts()

    def layouts(self) -> Sequence[Parameter]:
        """How each initializer holds canonical weights."""
        return ()

    def neutral(self) -> Mapping[str, NDArray[Any]]:
        """Canonical weights that the operator needs and the request may lack, at the value that changes nothing."""
        return {}

    def build(self) -> str:
        """Add the nodes to `graph`: the name of the value that is the output, in canonical axes."""
        raise NotImplementedError

    def input(self, name: str) -> str:
        """The request's input as an input of the graph."""
        return self.graph.input(name, self.given[name])

    def held(self, name: str) -> str:
        """The initializer's name, or none where the graph has no such initializer."""
        return name if name in self.graph.initializers else ""

    def weights(self) -> dict[str, NDArray[Any]]:
        """The canonical weights that the model's initializers hold."""
        from onnx import numpy_helper

        arrays = {i.name: numpy_helper.to_array(i) for i in self.plain.graph.initializer}
        read = layout.read(self.layouts(), arrays)
        return {n: a for n, a in read.items() if n in self.request.weights}

    def __call__(self) -> NDArray[Any]:
        """The output of the model as a user has it, at the optimisation level of the request's mode."""
        return self.graph.run(self.plain, self.request.mode)[self.output]

    def observe(self, decomposed: bool) -> tuple[NDArray[Any], list[Entry]]:
        """The output of the observed model, and its tape."""
        return self.graph.observe(self.output, decomposed, self.inlined)
