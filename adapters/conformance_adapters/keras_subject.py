"""A Keras layer as a subject: weights loaded and read back by declared layouts, inputs in the request's dtype.

The subjects of all three back ends are the same classes; `on` ties one to a back end, so that it can refuse,
without an import, what that back end is known not to have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformance import layout
from conformance.layout import Parameter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.trace import Request


class KerasSubject:
    """One of Keras's own layers or functions.

    `inputs` and `weight_names` are the canonical names that it can take, `options` the config entries that it looks
    at together with the values that it can express (None: `reason` decides). `parameters` are the layouts of its
    Keras variables, by path below the layer (`query/kernel`).
    """

    name: ClassVar[str]
    layer: ClassVar[str]
    backend: ClassVar[str] = ""
    inputs: ClassVar[tuple[str, ...]] = ("x",)
    weight_names: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[Mapping[str, Sequence[Any] | None]] = {}
    parameters: ClassVar[Sequence[Parameter]] = ()

    @classmethod
    def on(cls, backend: str) -> type[KerasSubject]:
        """This subject on `backend`: "tensorflow", "jax" or "torch"."""
        return type(cls.__name__, (cls,), {"backend": backend, "__doc__": cls.__doc__})

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """Why Keras cannot express `request`, or None where it can."""
        for kind, given, known in (
            ("input", request.inputs, cls.inputs),
            ("weight", request.weights, cls.weight_names),
        ):
            for name in given:
                if name not in known:
                    return f"has no {kind} {name}"
        for key, value in request.config.items():
            allowed = cls.options.get(key, (None, False))
            if allowed is not None and not any(value is a or value == a for a in allowed):
                return f"cannot express {key}={value!r}"
        return cls.reason(request)

    @classmethod
    def reason(cls, request: Request) -> str | None:
        """What speaks against a request whose names and options are all known."""
        return None

    def __init__(self, request: Request) -> None:
        self.request = request
        self.given = {name: self.tensor(array) for name, array in request.inputs.items()}

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

    def observed(self) -> Callable[[], Any]:
        """What is called under observation: the subject itself, unless another form of it shows more."""
        return self

    def __call__(self) -> Any:
        """The output for the request's inputs, in canonical axes."""
        raise NotImplementedError


def below(layer: Any, variable: Any) -> str:
    """The path of `variable` without the name of `layer`: `query/kernel`."""
    return str(variable.path).removeprefix(f"{layer.name}/")


def to_numpy(tensor: Any) -> NDArray[Any]:
    """A copy of a Keras tensor as a NumPy array of its own dtype; bfloat16 as float32, which holds it exactly."""
    from keras import ops

    array = np.array(ops.convert_to_numpy(tensor))
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array
