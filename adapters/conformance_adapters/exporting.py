"""What `export` needs of each framework's adapter: its parameters as it has them itself, both ways.

Every parameter is read off the framework's own object, built from canonical weights, and is put into one to be read
back. No framework is imported here before its adapter is started.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conformance.errors import ConformanceError, Unsupported
from conformance_adapters.subject import FrameworkAdapter

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

    from conformance.conversion import Held, Settled
    from conformance.trace import Request
    from conformance_adapters.keras_layers import KerasAdapter
    from conformance_adapters.keras_subject import KerasSubject
    from conformance_adapters.onnx_subject import OnnxSubject

Arrays = Mapping[str, "NDArray[Any]"]
Shapes = Mapping[str, tuple[int | str, ...]]


class Exporting(FrameworkAdapter):
    """An adapter made of subjects, whose parameters have a layout of their own."""

    layout_name: str
    layout_runs = True

    def layout_subjects(self, request: Request) -> Sequence[str]:
        """Those that may hold the weights of `request`, the likeliest first."""
        return self.subjects(request)

    def stored(self, request: Request) -> dict[str, NDArray[Any]]:
        """The parameters of the subject that `request` names; none where it holds none."""
        return self.parameters_of(self.build(request))

    def restored(self, request: Request, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """The canonical weights of such a subject with the parameters `arrays`. Raises ConformanceError."""
        subject = self.build(request)
        own = {n: a.shape for n, a in self.parameters_of(subject).items()}
        given = {n: np.shape(a) for n, a in arrays.items()}
        if own != given:
            raise ConformanceError(f"{request.subject} has the parameters {_told(own)}, not {_told(given)}")
        return self.with_parameters(subject, arrays) if own else {}

    def parameters_of(self, subject: Any) -> dict[str, NDArray[Any]]:
        """The parameters of `subject`, by the framework's names."""
        raise NotImplementedError

    def with_parameters(self, subject: Any, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """The canonical weights of `subject`, once it has these parameters."""
        raise NotImplementedError


def _told(shapes: Mapping[str, Sequence[int]]) -> str:
    return ", ".join(f"{n} {'x'.join(map(str, s))}" for n, s in sorted(shapes.items())) or "none"


class TorchExporting(Exporting):
    """State dicts of PyTorch."""

    layout_name = "torch"

    def parameters_of(self, subject: Any) -> dict[str, NDArray[Any]]:
        """The state of its module."""
        from conformance_adapters.torch_tape import to_numpy

        return {n: to_numpy(t) for n, t in subject.module.state_dict().items()}

    def with_parameters(self, subject: Any, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """What its module holds then."""
        from conformance_adapters.torch_state import tensor_of

        subject.module.load_state_dict({n: tensor_of(a) for n, a in arrays.items()})
        weights: dict[str, NDArray[Any]] = subject.weights()
        return weights

    def holds_weights(self, path: Path) -> bool:
        """A state dict, or a safetensors file that does not say what it holds."""
        return path.suffix.lower() in (".pt", ".pth", ".safetensors")

    def weights_in(self, path: Path, settled: Settled) -> Iterable[Held]:
        """Its layers, told by names and shapes."""
        from conformance_adapters.torch_export import weights_in

        return weights_in(path, settled)

    def writes_weights(self, path: Path) -> bool:
        """A state dict."""
        return path.suffix.lower() in (".pt", ".pth")

    def write_weights(self, path: Path, arrays: Arrays, suffix: str) -> None:
        """As torch.save writes it."""
        from conformance_adapters.torch_state import write_state

        write_state(path, arrays)


class KerasExporting(Exporting):
    """Keras's variables, by their path below the layer."""

    layout_name = "keras"

    def parameters_of(self, subject: Any) -> dict[str, NDArray[Any]]:
        """The variables of its layer."""
        from conformance_adapters.keras_subject import below, to_numpy

        layer = subject.instance
        return {} if layer is None else {below(layer, v): to_numpy(v.value) for v in layer.weights}

    def with_parameters(self, subject: Any, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """What its layer holds then."""
        from conformance_adapters.keras_subject import below

        for variable in subject.instance.weights:
            variable.assign(arrays[below(subject.instance, variable)])
        weights: dict[str, NDArray[Any]] = subject.weights()
        return weights

    def holds_weights(self, path: Path) -> bool:
        """A file of HDF5 that model.save_weights wrote, or the older model.save."""
        return path.suffix.lower() in (".h5", ".hdf5")

    def weights_in(self, path: Path, settled: Settled) -> Iterable[Held]:
        """Its layers, told by the names of their classes."""
        from conformance_adapters.keras_weights import weights_in

        return weights_in(path, settled, cast("KerasAdapter", self))

    def writes_model(self, path: Path) -> bool:
        """A model in Keras's own file."""
        return path.suffix.lower() == ".keras"

    def write_model(self, path: Path, request: Request, shapes: Shapes) -> None:
        """A functional model of the layer."""
        import keras

        subject = cast("KerasSubject", self.build(request))
        if subject.instance is None:
            raise Unsupported(f"{request.subject} is no layer that a model could have")
        inputs = {n: _symbolic(n, array, shapes[n], request.dtype) for n, array in request.inputs.items()}
        subject.given = dict(inputs)
        keras.Model(list(inputs.values()), subject(), name=request.layer).save(path)


def _symbolic(name: str, array: NDArray[Any], shape: tuple[int | str, ...], dtype: str) -> Any:
    """An input of a model of Keras's."""
    import keras

    free = [None if isinstance(size, str) else size for size in shape]
    return keras.Input(
        batch_shape=(None, *free[1:]), dtype=dtype if array.dtype.kind == "f" else str(array.dtype), name=name
    )


class FlaxExporting(Exporting):
    """Flax's parameters, by their path."""

    layout_name = "flax"

    def parameters_of(self, subject: Any) -> dict[str, NDArray[Any]]:
        """Those of a module; a function of JAX has none."""
        from conformance_adapters.jax_subject import FlaxSubject
        from conformance_adapters.jax_tape import to_numpy

        return {n: to_numpy(p) for n, p in subject.parameters().items()} if isinstance(subject, FlaxSubject) else {}

    def with_parameters(self, subject: Any, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """What its module holds then."""
        subject.load({n: subject.array(np.asarray(a, np.float64)) for n, a in arrays.items()})
        weights: dict[str, NDArray[Any]] = subject.weights()
        return weights


class OnnxExporting(Exporting):
    """The initializers of an operator's graph."""

    layout_name = "onnx"

    def parameters_of(self, subject: Any) -> dict[str, NDArray[Any]]:
        """Those initializers that hold weights: the graph's own constants are none."""
        from onnx import numpy_helper

        names = {p.name for p in subject.layouts()}
        return {i.name: numpy_helper.to_array(i) for i in subject.plain.graph.initializer if i.name in names}

    def with_parameters(self, subject: Any, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """What its graph holds then."""
        from onnx import numpy_helper

        for initializer in subject.plain.graph.initializer:
            if initializer.name in arrays:
                array = np.ascontiguousarray(arrays[initializer.name])
                initializer.CopyFrom(numpy_helper.from_array(array, initializer.name))
        weights: dict[str, NDArray[Any]] = subject.weights()
        return weights

    def writes_model(self, path: Path) -> bool:
        """A model of ONNX's."""
        return path.suffix.lower() == ".onnx"

    def write_model(self, path: Path, request: Request, shapes: Shapes) -> None:
        """The operator's graph. An axis may have any size where the graph of other sizes has the same nodes."""
        from onnx import shape_inference

        subject = cast("OnnxSubject", self.build(request))
        model = subject.plain
        other = {n: _resized(array, shapes[n]) for n, array in request.inputs.items()}
        if _without_sizes(model) == _without_sizes(
            cast("OnnxSubject", self.build(replace(request, inputs=other))).plain
        ):
            for value in model.graph.input:
                for dimension, size in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
                    if isinstance(size, str):
                        dimension.dim_param = size
            del model.graph.value_info[:]
        model = shape_inference.infer_shapes(model)  # which gives the output its type
        path.write_bytes(model.SerializeToString(deterministic=True))


def _resized(array: NDArray[Any], shape: tuple[int | str, ...]) -> NDArray[Any]:
    """An input of the same dtype in which every axis that may have any size has two more."""
    return np.zeros(
        [s + 2 if isinstance(free, str) else s for s, free in zip(array.shape, shape, strict=True)], array.dtype
    )


def _without_sizes(model: ModelProto) -> bytes:
    """What is in a model's graph besides the shapes of its inputs, outputs and values."""
    held = type(model)()
    held.CopyFrom(model)
    for values in (held.graph.input, held.graph.output, held.graph.value_info):
        del values[:]
    return held.SerializeToString(deterministic=True)


class MatlabExporting:
    """Properties of MATLAB's layers. MATLAB itself is not run."""

    layout_name = "matlab"
    layout_runs = False

    def layout_subjects(self, request: Request) -> Sequence[str]:
        """MATLAB's own layer. Raises Unsupported where it has none."""
        from conformance_adapters.matlab_export import layout_subjects

        return layout_subjects(request)

    def stored(self, request: Request) -> dict[str, NDArray[Any]]:
        """The learnable parameters, and options, by MATLAB's property names."""
        from conformance_adapters.matlab_export import stored

        return stored(request)

    def restored(self, request: Request, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """The canonical weights of such properties. Raises ConformanceError."""
        from conformance_adapters.matlab_weights import canonical_weights

        return canonical_weights(request.layer, request.config, arrays, request.subject)

    def holds_weights(self, path: Path) -> bool:
        """A `.mat` file."""
        return path.suffix.lower() == ".mat"

    def weights_in(self, path: Path, settled: Settled) -> Iterable[Held]:
        """The layers in it."""
        from conformance_adapters.matlab_export import weights_in

        return weights_in(path, settled)

    def writes_weights(self, path: Path) -> bool:
        """A `.mat` file."""
        return path.suffix.lower() == ".mat"

    def write_weights(self, path: Path, arrays: Arrays, suffix: str) -> None:
        """A file of version 5, a struct for each layer."""
        from conformance_adapters.matlab_export import write_weights

        write_weights(path, arrays)
