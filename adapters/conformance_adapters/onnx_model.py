"""An ONNX model that somebody made: read without running anything, and made into a session of the runtime.

A file is parsed here, and what it refers to is looked at, before the runtime gets to see it. What is wrong with
it is one sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance.errors import ConformanceError, Unsupported

if TYPE_CHECKING:
    from onnx import ModelProto
    from onnxruntime import InferenceSession

REFUSAL = re.compile(r"Could not find an implementation|Type Error: Type|does not support \w+ yet")
_PACKED = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}  # bits of values that share a byte
_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (.*Status Message: )?")
_PLACE = re.compile(r"/\S+\.(?:h|cc):\d+ .*?\) ")


def read_model(path: Path) -> ModelProto:
    """The model in the file `path`, with what it keeps in other files left there.

    Raises ConformanceError for a file that cannot be read, is cut off or is no model, for one that refers to
    a file outside its own folder, and for one with a tensor or attribute that does not hold what it declares.
    """
    from google.protobuf.message import DecodeError
    from onnx import ModelProto

    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConformanceError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    model = ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise ConformanceError(f"{path}: is no ONNX model, or is cut off; export it again") from error
    require_graph(model, str(path))
    for tensor in every(model, "TensorProto"):
        if tensor.data_location == tensor.EXTERNAL and not tensor.HasField("segment"):
            _require_inside(path, tensor)
        else:
            _require_whole(path, tensor)
    for attribute in every(model, "AttributeProto"):
        _require_value(path, attribute)
    return model


def require_graph(model: ModelProto, name: str) -> None:
    """Raise ConformanceError where `model` computes nothing."""
    if not model.graph.output or not model.ir_version:
        raise ConformanceError(f"{name}: holds no graph with an output, so it is no ONNX model; export it again")


def every(message: Any, kind: str) -> Iterator[Any]:
    """Every message of the type `kind` inside a protobuf message, however deep (subgraphs, functions), itself too."""
    if message.DESCRIPTOR.name == kind:
        yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in [value] if hasattr(value, "DESCRIPTOR") else value:
                yield from every(inner, kind)


def held_elsewhere(model: ModelProto) -> bool:
    """Whether a tensor of the model is kept in another file."""
    return any(t.data_location == t.EXTERNAL for t in every(model, "TensorProto"))


def _require_inside(path: Path, tensor: Any) -> None:
    """Raise ConformanceError where an external tensor is not wholly in a file of the model's own folder."""
    said = {entry.key: entry.value for entry in tensor.external_data}
    location, folder = said.get("location", ""), path.parent.resolve()
    what = f"{path}: the tensor {tensor.name!r} is kept in {location!r}"
    try:
        file = (folder / location).resolve()  # where a link leads counts, not where it lies
        there, inside = file.is_file(), file.is_relative_to(folder) and file != folder
    except (OSError, ValueError, TypeError):  # no name of a file
        there = inside = False
    if not location or not inside:
        raise ConformanceError(f"{what}, which is not inside the model's own folder; such a file is not opened")
    if not there:
        raise ConformanceError(f"{what}, which is not there; put it beside the model")
    try:
        offset, length = int(said.get("offset", 0)), int(said.get("length", 0))
    except ValueError as error:
        raise ConformanceError(f"{what}, at an offset or length that is no number; export the model again") from error
    size = file.stat().st_size
    if offset < 0 or length < 0 or offset + length > size:
        raise ConformanceError(
            f"{what} up to byte {offset + length}, but that file has {size}: it is cut off or of another model"
        )
    held = length or size - offset
    if _bytes(path, tensor) != held:
        raise ConformanceError(f"{what}, which has {held} bytes for it, and that is not its shape; export it again")


def _bytes(path: Path, tensor: Any) -> int:
    """How many bytes the values of a tensor take in a file. Raises ConformanceError where none can be."""
    from onnx import TensorProto, helper

    try:
        bits = 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        kind = TensorProto.DataType.Name(tensor.data_type)
    except (KeyError, ValueError, TypeError) as error:
        raise ConformanceError(
            f"{path}: the tensor {tensor.name!r} has the unknown element type {tensor.data_type}; export it again"
        ) from error
    packed = _PACKED.get(kind, bits)
    return -(-prod(tensor.dims) * packed // 8) if min(tensor.dims, default=0) >= 0 else -1


def _require_whole(path: Path, tensor: Any) -> None:
    """Raise ConformanceError where a tensor does not hold what its type and shape say."""
    from onnx import numpy_helper

    try:
        numpy_helper.to_array(tensor)
    except Exception as error:  # its classes are many: it takes a tensor to be a right one
        raise ConformanceError(
            f"{path}: the tensor {tensor.name!r} does not hold what its type and shape say ({error}); export it again"
        ) from error


def _require_value(path: Path, attribute: Any) -> None:
    """Raise ConformanceError where an attribute has no type, or text that is none."""
    from onnx import helper

    if not attribute.ref_attr_name:
        try:
            helper.get_attribute_value(attribute)
        except ValueError as error:
            raise ConformanceError(
                f"{path}: the attribute {attribute.name!r} has no value of a known type; export the model again"
            ) from error


def loaded(model: ModelProto, folder: Path | None) -> ModelProto:
    """`model` with everything that it keeps in files of `folder` in itself: a copy, where there is any."""
    if folder is None or not held_elsewhere(model):
        return model
    from onnx import ModelProto, external_data_helper

    whole = ModelProto()
    whole.CopyFrom(model)
    external_data_helper.load_external_data_for_model(whole, str(folder))
    return whole


def session(
    source: ModelProto | Path, name: str, *, folder: Path | None = None, optimised: bool = True
) -> InferenceSession:
    """A session of the runtime on the CPU, for a model or the file of one; `folder` is where its other files are.

    Raises Unsupported where the runtime has no kernel for a dtype or option, and ConformanceError where it refuses
    the model (an operator that it does not know, a graph that does not hold together).
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised; the same on stderr helps nobody
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    if isinstance(source, Path):
        given: Any = str(source)
    else:
        try:
            given = source.SerializeToString()
        except Exception as error:  # of protobuf, over 2 GiB; its class differs between versions
            raise ConformanceError(
                f"{name}: is too large for one message of 2 GiB; save it with external data, and give its path"
            ) from error
    try:
        # Without its second try, of which it would print a report.
        return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except runtime_errors() as error:
        raise told(error, name) from error


def runtime_errors() -> tuple[type[Exception], ...]:
    """The exceptions that the runtime raises."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ["EPFail", "EngineError", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "ModelLoaded"]
    names += ["NoModel", "NoSuchFile", "NotImplemented", "RuntimeException"]
    return (*(getattr(state, n) for n in names if hasattr(state, n)), RuntimeError, ValueError)


def reason(error: Exception) -> str:
    """What the runtime said, in one line, without its own prefix and place in its sources."""
    said = str(error).strip().splitlines() or [type(error).__name__]
    return _PLACE.sub("", _PREFIX.sub("", said[0])).rstrip(". ")


def told(error: Exception, name: str, advice: str = "") -> Exception:
    """What to raise for an error of the runtime: Unsupported, or ConformanceError with `advice` at its end."""
    if REFUSAL.search(str(error)):
        return Unsupported(f"{name}: {reason(error)}")
    return ConformanceError(f"{name}: ONNX Runtime refuses it: {reason(error)}{advice}")
