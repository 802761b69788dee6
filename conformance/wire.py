"""Requests and traces as files: plain data, so that a worker can be any process on any machine.

One file holds one request or one trace: tensors in the safetensors layout, everything else as JSON in
its header. Tensors are mapped, not read: a tape of a gigabyte costs memory only where it is looked at.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.errors import ConformanceError
from conformance.trace import Entry, Request, Trace

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
_INTEGERS = {"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1"}
_DTYPES = {**_FLOATS, **_INTEGERS, "BOOL": "?"}
_CODES = {np.dtype(dtype).str[1:]: code for code, dtype in _DTYPES.items()}
_META = "conformance"


def save(path: Path, tensors: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
    """Write one file. A bfloat16 tensor, for which NumPy has no format of its own, is widened to float32.

    One tensor after the other goes to the file: the format's own library first makes bytes of all of them, so
    that a tape would be held twice. Raises ConformanceError for a dtype that the format does not have.
    """
    header: dict[str, Any] = {"__metadata__": {_META: json.dumps(meta)}}
    # Wider elements first, as the format's own library has it: then all of them are aligned.
    ordered = sorted(tensors, key=lambda name: -_stored(name, tensors[name]).itemsize)
    end = 0
    for name in ordered:
        dtype, start = _stored(name, tensors[name]), end
        end += tensors[name].size * dtype.itemsize
        header[name] = {
            "dtype": _CODES[dtype.str[1:]],
            "shape": list(tensors[name].shape),
            "data_offsets": [start, end],
        }
    said = json.dumps(header).encode()
    said += b" " * (-len(said) % 8)
    with path.open("wb") as file:
        file.write(len(said).to_bytes(8, "little") + said)
        for name in ordered:
            array = np.asarray(tensors[name], dtype=_stored(name, tensors[name]), order="C")
            file.write(array.reshape(-1).view(np.uint8).data)


def _stored(name: str, array: NDArray[Any]) -> np.dtype[Any]:
    """The dtype, low byte first, in which an array is written."""
    dtype = np.dtype("<f4") if array.dtype.name == "bfloat16" else array.dtype.newbyteorder("<")
    if dtype.str[1:] not in _CODES:
        codes = ", ".join(sorted(np.dtype(d).name for d in _DTYPES.values()))
        raise ConformanceError(f"{name!r} has the dtype {array.dtype}, which cannot be sent; give it one of {codes}")
    return dtype


def load(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Map one file: its tensors (read-only) and what came with them."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    meta = json.loads(header.pop("__metadata__")[_META])
    size = path.stat().st_size - 8 - length
    data = np.memmap(path, np.uint8, "r", 8 + length, (size,)) if size else np.zeros(0, np.uint8)
    tensors = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        shape, dtype = entry["shape"], np.dtype(_DTYPES[entry["dtype"]])
        raw = np.asarray(data[start:end]) if math.prod(shape) else np.zeros(0, np.uint8)
        tensors[name] = raw.view(dtype).reshape(shape)
    return tensors, meta


def save_request(path: Path, request: Request) -> None:
    """Write a request."""
    tensors = {f"inputs.{n}": a for n, a in request.inputs.items()}
    tensors |= {f"weights.{n}": a for n, a in request.weights.items()}
    said = ("layer", "subject", "dtype", "mode", "device", "decomposed", "source", "left")
    meta = {f: getattr(request, f) for f in said}
    save(path, tensors, {**meta, "config": dict(request.config)})


def load_request(path: Path) -> Request:
    """Read a request."""
    tensors, meta = load(path)
    groups = _grouped(tensors)
    left = tuple(meta.pop("left", ()))
    return Request(inputs=groups.get("inputs", {}), weights=groups.get("weights", {}), left=left, **meta)


def save_trace(path: Path, trace: Trace) -> None:
    """Write a trace."""
    tensors = {"output": trace.output, **{f"weights.{n}": a for n, a in trace.weights.items()}}
    if trace.observed_output is not None:
        tensors["observed_output"] = trace.observed_output
    tensors |= {f"tape.{i}": e.array for i, e in enumerate(trace.tape)}
    tape = [[e.operation, e.hint, e.reads, e.fixed, e.scope] for e in trace.tape]
    save(
        path,
        tensors,
        {"tape": tape, "environment": dict(trace.environment), "recorded": trace.recorded, "seconds": trace.seconds},
    )


def load_trace(path: Path) -> Trace:
    """Read a trace; its tensors stay in the file."""
    tensors, meta = load(path)
    tape = [
        Entry(operation, tensors[f"tape.{i}"], hint, tuple(reads), fixed, scope)
        for i, (operation, hint, reads, fixed, scope) in enumerate(meta["tape"])
    ]
    return Trace(
        output=tensors["output"],
        tape=tape,
        observed_output=tensors.get("observed_output"),
        weights=_grouped(tensors).get("weights", {}),
        environment=meta["environment"],
        recorded=meta["recorded"],
        seconds=meta["seconds"],
    )


def _grouped(tensors: Mapping[str, NDArray[Any]]) -> dict[str, dict[str, NDArray[Any]]]:
    groups: dict[str, dict[str, NDArray[Any]]] = {}
    for key, array in tensors.items():
        group, dot, name = key.partition(".")
        if dot:
            groups.setdefault(group, {})[name] = array
    return groups
