"""A Keras layer as a subject: weights loaded and read back by declared layouts, inputs in the request's dtype.

The subjects of all three back ends are the same classes; `on` ties one to a back end, so that it can refuse,
without an import, what that back end is known not to have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Self
from unittest.mock import patch

import numpy as np

from conformance import layout
from conformance_adapters.declared_subject import DeclaredSubject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.trace import Request


class KerasSubject(DeclaredSubject):
    """One of Keras's own layers or functions. `parameters` are named by path below the layer (`query/kernel`).

    `instance` is the Keras layer, where there is one.
    """

    backend: ClassVar[str] = ""
    instance: Any = None

    @classmethod
    def on(cls, backend: str) -> type[KerasSubject]:
        """This subject on `backend`: "tensorflow", "jax" or "torch"."""
        return type(cls.__name__, (cls,), {"backend": backend, "__doc__": cls.__doc__})

    def __init__(self, request: Request) -> None:
        self.request = request
        self.given = {name: self.tensor(array) for name, array in request.inputs.items()}

    @classmethod
    def around(cls, layer: Any, request: Request) -> Self:
        """The subject that has the user's own `layer`; the request's inputs and config say how it is called."""
        made = cls.__new__(cls)
        KerasSubject.__init__(made, request)
        made.instance = layer
        return made

    def tensor(self, array: NDArray[Any]) -> Any:
        """A Keras tensor: floating point in the request's dtype, bool and int as they are."""
        from keras import ops

        return ops.convert_to_tensor(array, dtype=self.request.dtype if array.dtype.kind == "f" else None)

    def load(self, layer: Any, weights: Mapping[str, NDArray[Any]], **sizes: int) -> None:
        """Assign every variable of the built `layer` from canonical `weights`; what they lack is zero."""
        arrays = layout.write(self.parameters, weights, **sizes)
        for variable in layer.weights:
            name = below(layer, variable)
            variable.assign(arrays.pop(name) if name in arrays else np.zeros(variable.shape))
        if arrays:
            raise AssertionError(f"{self.name} has no variable {', '.join(arrays)}")

    def read(self, layer: Any, **sizes: int) -> dict[str, NDArray[Any]]:
        """The canonical weights of `layer`, of those that the request gave (the others stand for an absence)."""
        arrays = {below(layer, variable): to_numpy(variable.value) for variable in layer.weights}
        return {n: a for n, a in layout.read(self.parameters, arrays, **sizes).items() if n in self.request.weights}

    def weights(self) -> dict[str, NDArray[Any]]:
        """The canonical weights, read back out of Keras's variables."""
        return {}

    def prepare(self) -> None:
        """Put into `given` what a call is given beside the inputs (masks, first states), if it is not there yet.

        A call that is compiled is then a program of tensors, as a user's is: NumPy is no part of it.
        """

    def observed(self) -> Callable[[], Any]:
        """What is called under observation: the subject itself, unless another form of it shows more."""
        return self

    def __call__(self) -> Any:
        """The output for the request's inputs, in canonical axes."""
        raise NotImplementedError


@contextmanager
def seen_as(kind: type, only: Any = None, **attributes: Any) -> Iterator[None]:
    """While this holds, the `attributes` of instances of `kind` (or of `only` one of them) read as given.

    No instance is changed: a property of the class stands in front of what the instance holds, and what is set while
    it does is not kept.
    """

    def property_of(name: str, value: Any) -> property:
        def get(self: Any) -> Any:
            return value if only is None or self is only else self.__dict__[name]

        def put(self: Any, new: Any) -> None:
            if only is not None and self is not only:
                self.__dict__[name] = new

        return property(get, put)

    with ExitStack() as stack:
        for name, value in attributes.items():
            stack.enter_context(patch.object(kind, name, property_of(name, value), create=True))
        yield


def below(layer: Any, variable: Any) -> str:
    """The path of `variable` without the name of `layer`: `query/kernel`."""
    return str(variable.path).removeprefix(f"{layer.name}/")


def to_numpy(tensor: Any) -> NDArray[Any]:
    """A copy of a Keras tensor as a NumPy array of its own dtype; bfloat16 as float32, which holds it exactly."""
    from keras import ops

    array = np.array(ops.convert_to_numpy(tensor))
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array
