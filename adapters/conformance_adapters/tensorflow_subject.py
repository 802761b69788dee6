"""Operations of TensorFlow as a subject: weights in variables, through declared layouts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from conformance import layout
from conformance_adapters.declared_subject import DeclaredSubject
from conformance_adapters.tensorflow_tape import to_numpy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.trace import Request


class TensorFlowSubject(DeclaredSubject):
    """Operations of TensorFlow, whose weights are in variables."""

    def __init__(self, request: Request) -> None:
        import tensorflow as tf

        self.request, self.config = request, request.config
        self.given = {
            name: tf.constant(array, dtype=request.dtype if array.dtype.kind == "f" else None)
            for name, array in request.inputs.items()
        }
        self.variables = {
            name: tf.Variable(array, dtype=request.dtype, name=name)
            for name, array in layout.write(self.parameters, self.complete(request)).items()
        }
        self.present = tuple(request.weights)

    def complete(self, request: Request) -> Mapping[str, NDArray[Any]]:
        """The request's weights, and what stands for those that the operation cannot do without."""
        return request.weights

    def weights(self) -> dict[str, NDArray[Any]]:
        """The canonical weights, read back out of the variables (of those that the request gave)."""
        arrays = {name: to_numpy(variable.value()) for name, variable in self.variables.items()}
        return {n: a for n, a in layout.read(self.parameters, arrays).items() if n in self.present}

    def __call__(self) -> Any:
        """The output, in canonical axes."""
        raise NotImplementedError
