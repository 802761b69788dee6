"""Weights of layers in a safetensors file, which says in its header what they are.

The header's `conformance` is JSON: the layout, and of each layer its path, its name, its config, its dtype, the shapes
of its canonical weights and the names of its arrays. A file without it is a plain safetensors file, and anyone who
reads safetensors reads this one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from conformance.arrays import read_arrays
from conformance.errors import ConformanceError
from conformance.precision import precision

if TYPE_CHECKING:
    from numpy.typing import NDArray

CANONICAL = "canonical"
SCHEMA = 1
_META = "conformance"
_CODES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "bool": "BOOL",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8",
}  # fmt: skip


class Kept(msgspec.Struct, forbid_unknown_fields=True):
    """An array of a framework's own, byte for byte."""

    dtype: str
    shape: list[int]
    data: bytes

    @classmethod
    def of(cls, array: NDArray[Any]) -> Kept:
        """What keeps `array`."""
        plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        return cls(array.dtype.name, list(array.shape), plain.tobytes())

    def array(self) -> NDArray[Any]:
        """The array. Raises ConformanceError or ValueError where its bytes are not those of its shape."""
        dtype = precision(self.dtype).dtype if "float" in self.dtype else np.dtype(self.dtype)
        return np.frombuffer(self.data, dtype).reshape(self.shape)


class Origin(msgspec.Struct, forbid_unknown_fields=True):
    """Where weights come from, so that the way back gives the same bytes: the layout, and the file's names by the
    framework's own. `kept` are the parameters that canonical weights do not tell (two biases that are one sum)."""

    layout: str
    names: dict[str, str]
    kept: dict[str, Kept] = {}


class Described(msgspec.Struct, forbid_unknown_fields=True):
    """A layer in the file. `arrays` maps the names that the layout has to the file's. `subject` is the framework's own
    layer whose parameters they are. `assumed` is config that nobody said."""

    path: str
    layer: str
    config: dict[str, Any]
    dtype: str
    weights: dict[str, list[int]]
    arrays: dict[str, str]
    subject: str = ""
    assumed: list[str] = []
    origin: Origin | None = None


class _Header(msgspec.Struct):
    schema: int
    layout: str
    layers: list[Described]


@dataclass(frozen=True)
class WeightFile:
    """What is in a file: its arrays by name, and the layers that it says they are of (none: it says nothing)."""

    layout: str
    layers: Sequence[Described]
    arrays: Mapping[str, NDArray[Any]]

    def of(self, layer: Described) -> dict[str, NDArray[Any]]:
        """The arrays of a layer, by the layout's names, in its dtype."""
        dtype = precision(layer.dtype).dtype
        return {own: self.arrays[name].astype(dtype) for own, name in layer.arrays.items()}


def read_weight_file(path: Path) -> WeightFile:
    """The arrays in a `.safetensors` file, and what its header says of them.

    Raises ConformanceError where the file is broken, or its header does not fit what is in it.
    """
    arrays = read_arrays(path)
    with path.open("rb") as file:  # read_arrays has looked at its header already
        said = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    meta = said.get("__metadata__", {}).get(_META)
    if meta is None:
        return WeightFile("", (), arrays)
    try:
        header = msgspec.json.decode(meta, type=_Header)
        for layer in header.layers:
            precision(layer.dtype)
            for name in layer.arrays.values():
                if name not in arrays:
                    raise ConformanceError(f"there is no {name!r}")
            if any(size < 0 for shape in layer.weights.values() for size in shape):
                raise ConformanceError(f"a size in {layer.path!r} is below zero")
    except (msgspec.DecodeError, ConformanceError) as error:
        raise ConformanceError(f"{path}: its header does not fit what is in it ({error}); export it again") from error
    if header.schema != SCHEMA:
        raise ConformanceError(f"{path}: has schema {header.schema}, where {SCHEMA} is read; export it again")
    return WeightFile(header.layout, header.layers, arrays)


def write_weight_file(path: Path, layout: str, layers: Sequence[Described], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write the arrays, with a header that says what they are: the same arrays give the same bytes."""
    said = {"schema": SCHEMA, "layout": layout, "layers": [msgspec.to_builtins(layer) for layer in layers]}
    meta = {"format": {"torch": "pt"}.get(layout, "np"), _META: json.dumps(said, sort_keys=True)}
    header: dict[str, Any] = {"__metadata__": meta}
    ordered = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))  # wider ones first: all are aligned
    end = 0
    for name in ordered:
        start, end = end, end + arrays[name].nbytes
        header[name] = {
            "dtype": _CODES[arrays[name].dtype.name],
            "shape": list(arrays[name].shape),
            "data_offsets": [start, end],
        }
    packed = json.dumps(header, separators=(",", ":")).encode()
    packed += b" " * (-len(packed) % 8)
    with path.open("wb") as file:
        file.write(len(packed).to_bytes(8, "little") + packed)
        for name in ordered:
            array = arrays[name]
            file.write(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
