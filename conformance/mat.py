"""MATLAB's `.mat` files: v5 and v7 here, v7.3 (HDF5) in `conformance.mat73`.

What MATLAB does to an array on the way, and who undoes it: doubles that happen to be whole numbers are
stored in one byte (undone here); vectors are (n, 1) or (1, n) and trailing axes of length 1 are dropped
(undone where the expected axes are known, that is, by whoever asked for the array). Structs are flattened
to `name.field` (`name(2).field` in a struct array), cells to `name{1}` in MATLAB's own order, column-major.

Format: MathWorks, MAT-File Format (MAT-File Level 5), sections 1-1 to 1-16.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.errors import ConformanceError
from conformance.layer import nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEPTH = 32  # of cells and structs inside one another; more is a file made to exhaust the reader
_COMPRESSED, _MATRIX = 15, 14
_CELL, _STRUCT, _OBJECT, _SPARSE, _FUNCTION, _OPAQUE = 1, 2, 3, 5, 16, 17
_REFUSED = {
    _OBJECT: "an object",
    _SPARSE: "a sparse matrix: save full(...) of it",
    _FUNCTION: "a function handle",
    _OPAQUE: "an object (a string, table or dlarray, say): save extractdata(...) or double(...) of it",
}


@dataclass(frozen=True)
class MatFile:
    """The numeric and logical arrays of a file, and what else it holds: name to what it is."""

    path: Path
    arrays: Mapping[str, NDArray[Any]]
    left_out: Mapping[str, str]

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The array `name`. Raises ConformanceError where it is no array of numbers, or is not there."""
        if name in self.arrays:
            return self.arrays[name]
        if name in self.left_out:
            raise ConformanceError(
                f"{self.path}: {name!r} is {self.left_out[name]}, where an array of numbers is needed"
            )
        raise ConformanceError(
            f"{self.path}: there is no {name!r}{nearest(name, self.arrays)}; "
            f"the file has {', '.join(self.arrays) or 'no arrays'}"
        )


def read_mat(path: str | Path) -> dict[str, NDArray[Any]]:
    """The numeric and logical arrays of a `.mat` file, by name, in MATLAB's axes and classes.

    Raises ConformanceError for a file that is truncated, corrupt or in another format.
    """
    return dict(open_mat(path).arrays)


def open_mat(path: str | Path) -> MatFile:
    """As `read_mat`, and what had to be left out."""
    path = Path(path)
    try:
        with path.open("rb") as stream:
            head = stream.read(1024)
    except OSError as error:
        raise ConformanceError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    resave = f"save it in MATLAB or Octave with: save -v7 {path.name}"
    if head[:8] == b"\x89HDF\r\n\x1a\n" or head[512:520] == b"\x89HDF\r\n\x1a\n":
        from conformance.mat73 import read_mat73

        arrays, left_out = read_mat73(path, resave)
    elif head.startswith(b"# Created by Octave"):
        raise ConformanceError(f"{path}: is in Octave's text format, its default; {resave}")
    elif head.startswith((b"Octave-1-L", b"Octave-1-B")):
        raise ConformanceError(f"{path}: is in Octave's binary format; {resave}")
    elif head.startswith(b"\x1f\x8b"):
        raise ConformanceError(f"{path}: is compressed with gzip as a whole (Octave's -zip); {resave}")
    elif head[124:128] not in (b"\x00\x01IM", b"\x01\x00MI"):  # version and byte order, in the latter
        raise ConformanceError(f"{path}: is not a MAT-file of version 5, 7 or 7.3; {resave}")
    else:
        arrays, left_out = _read_v5(path, resave)
    return MatFile(path, arrays, left_out)


def _read_v5(path: Path, resave: str) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    data = path.read_bytes()
    order = "<" if data[126:128] == b"IM" else ">"
    try:
        kinds = dict(_variables(data, order))
    except (ValueError, struct.error, zlib.error) as error:
        raise ConformanceError(f"{path}: is truncated or corrupt ({error}); {resave}") from error
    left_out = {name: kind for name, kind in kinds.items() if kind is not None}
    loaded = _load(path, [name for name in kinds if name not in left_out], resave)
    arrays: dict[str, NDArray[Any]] = {}
    for name in kinds:
        if name in loaded:
            _flatten(name, loaded[name], arrays, left_out)
    return arrays, left_out


def _load(path: Path, names: list[str], resave: str) -> dict[str, Any]:
    from scipy.io import loadmat

    if not names:  # to SciPy, no names means all of them
        return {}
    try:
        loaded: dict[str, Any] = loadmat(path, mat_dtype=True, variable_names=names)
    except Exception as error:  # SciPy promises no particular exception for a corrupt file
        raise ConformanceError(f"{path}: is corrupt ({error}); {resave}") from error
    return loaded


def _flatten(name: str, value: Any, arrays: dict[str, NDArray[Any]], left_out: dict[str, str]) -> None:
    """Put what SciPy made of one variable under its flattened names."""
    kind = type(value).__name__
    if kind in ("MatlabFunction", "MatlabOpaque", "MatlabObject"):
        left_out[name] = "a function handle" if kind == "MatlabFunction" else "an object"
    elif not isinstance(value, np.ndarray):
        left_out[name] = "a sparse matrix: save full(...) of it"
    elif value.dtype.names is not None:
        for index, element in enumerate(value.ravel(order="F"), 1):
            own = name if value.size == 1 else f"{name}({index})"
            for field in value.dtype.names:
                _flatten(f"{own}.{field}", element[field], arrays, left_out)
    elif value.dtype == object:
        for index, element in enumerate(value.ravel(order="F"), 1):
            _flatten(f"{name}{{{index}}}", element, arrays, left_out)
    elif value.dtype.kind in "biuf":
        arrays[name] = value
    else:
        left_out[name] = "text"


def _variables(data: bytes, order: str) -> Iterator[tuple[str, str | None]]:
    """The variables of a v5 file and, for each that is not to be loaded, what it is.

    Every declared size is checked against the bytes that are there, so that a file that lies about its
    sizes is refused before memory is set aside for it. Raises ValueError where one does not fit.
    """
    at = 128
    while at < len(data):
        kind, start, stop, at = _element(data, at, len(data), order, padded=False)
        if kind == _COMPRESSED:
            inner = zlib.decompressobj()
            body = inner.decompress(data[start:stop])
            if not inner.eof:
                raise ValueError("a compressed variable ends early")
            kind, start, stop, _ = _element(body, 0, len(body), order)
        else:
            body = data
        if kind != _MATRIX:
            raise ValueError(f"element type {kind} where a variable was expected")
        name, what = _matrix(body, start, stop, order, 0)
        if name:  # a nameless one is the workspace of the file's objects
            yield name, what


def _element(data: bytes, at: int, end: int, order: str, padded: bool = True) -> tuple[int, int, int, int]:
    """The data element at `at`: its type, where its bytes start and stop, and where the next one is."""
    if at + 8 > end:
        raise ValueError("an element's tag is cut off")
    kind, size = struct.unpack_from(f"{order}II", data, at)
    if kind >> 16:  # the small format: type, size and data in eight bytes
        return kind & 0xFFFF, at + 4, at + 4 + min(kind >> 16, 4), at + 8
    start, stop = at + 8, at + 8 + size
    if stop > end:
        raise ValueError(f"an element declares {size} bytes where {end - start} are left")
    return kind, start, stop, min(end, start + -(-size // 8) * 8) if padded else stop


def _matrix(data: bytes, at: int, end: int, order: str, depth: int) -> tuple[str, str | None]:
    """Check the array between `at` and `end`: its name and, where it is not to be loaded, what it is."""
    if depth > DEPTH:
        raise ValueError(f"cells or structs are nested more than {DEPTH} deep")
    if at == end:  # an empty cell
        return "", None
    _, flags, _, at = _element(data, at, end, order)
    word = int(struct.unpack_from(f"{order}I", data, flags)[0])
    kind, what = word & 0xFF, _REFUSED.get(word & 0xFF)
    if kind == _OPAQUE:  # has no dimensions
        _, start, stop, _ = _element(data, at, end, order)
        return data[start:stop].decode("latin-1"), what
    _, start, stop, at = _element(data, at, end, order)
    dims = struct.unpack_from(f"{order}{(stop - start) // 4}i", data, start)
    _, start, stop, at = _element(data, at, end, order)
    name = data[start:stop].decode("latin-1")
    if min(dims, default=0) < 0:
        raise ValueError(f"{name!r} declares a negative size")
    if kind in (_CELL, _STRUCT, _OBJECT):
        found = _members(data, at, end, order, kind, prod(dims), depth)
        return name, what or found
    if kind not in _REFUSED:
        _, start, stop, _ = _element(data, at, end, order)
        if prod(dims) > stop - start:  # each value takes a byte at least
            raise ValueError(f"{name!r} declares {'x'.join(map(str, dims))} values in {stop - start} bytes")
        if word & 0x800:
            what = "complex: save real(...) and imag(...) of it"
    return name, what


def _members(data: bytes, at: int, end: int, order: str, kind: int, count: int, depth: int) -> str | None:
    """Check the arrays inside a cell, struct or object: what makes it unfit to load, or None."""
    if kind == _OBJECT:
        at = _element(data, at, end, order)[3]
    if kind in (_STRUCT, _OBJECT):
        _, start, _, at = _element(data, at, end, order)
        length = struct.unpack_from(f"{order}i", data, start)[0]
        _, start, stop, at = _element(data, at, end, order)
        if length < 1 and stop > start:
            raise ValueError("a struct declares field names of no length")
        count *= (stop - start) // length if length > 0 else 0
    if count * 8 > end - at:
        raise ValueError(f"{count} members are declared where {end - at} bytes are left")
    what = None
    for _ in range(count):
        tag, start, stop, at = _element(data, at, end, order)
        if tag != _MATRIX:
            raise ValueError(f"element type {tag} where a cell or field was expected")
        found = _matrix(data, start, stop, order, depth + 1)[1]
        if found is not None and found.startswith("complex"):
            what = "a container of complex values: save real(...) and imag(...) of them"
    return what
