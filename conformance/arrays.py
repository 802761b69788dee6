"""Named arrays in a file: `.safetensors`, `.npz` and `.mat`, none of which may hold code."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.archive import content, members
from conformance.errors import ConformanceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The element types of the safetensors format. BF16 is widened: its bits are the upper half of a float32.
_SAFETENSORS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "?",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1",
}  # fmt: skip


def read_arrays(path: str | Path) -> dict[str, NDArray[Any]]:
    """The arrays in the file at `path`, by name, in the file's own dtypes (bfloat16 as float32, exactly).

    Raises ConformanceError where the file is missing, of an unknown kind, truncated or corrupt, or holds
    anything that is not an array of numbers or truth values. (Of a `.mat` file, what is not numeric is
    left out: see `conformance.mat`.)
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        named = f"{path.suffix!r} is" if path.suffix else "a name without a suffix is"
        raise ConformanceError(f"{path}: {named} no known kind of array file; use one of {', '.join(READERS)}")
    try:
        if not path.is_file():
            what = "is a folder, not a file" if path.is_dir() else "there is no such file"
            raise ConformanceError(f"{path}: {what}; give the path of a {path.suffix} file")
        return reader(path)
    except OSError as error:
        raise ConformanceError(f"{path}: cannot be read ({error.strerror or error}); check the file") from error


def _read_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    return safetensors_of(path, path.read_bytes())


def safetensors_of(path: Path, content: bytes) -> dict[str, NDArray[Any]]:
    """The arrays in the content of a safetensors file; `path` is named where it is not right (ConformanceError)."""
    from safetensors import SafetensorError, deserialize

    try:
        entries = deserialize(content)  # type: ignore[no-untyped-call]  # written in Rust
    except SafetensorError as error:
        raise ConformanceError(
            f"{path}: is not a whole safetensors file ({error}); write or download it again"
        ) from error
    arrays: dict[str, NDArray[Any]] = {}
    for name, entry in entries:
        kind = str(entry["dtype"])
        if kind not in _SAFETENSORS:
            raise ConformanceError(f"{path}: {name!r} has element type {kind}; store it as F32 or F64")
        array = np.frombuffer(entry["data"], _SAFETENSORS[kind])
        if kind == "BF16":
            array = (array.astype(np.uint32) << 16).view(np.float32)
        try:
            arrays[name] = array.reshape(entry["shape"])
        except ValueError as error:  # of empty ones, and of many axes of length 1
            raise ConformanceError(f"{path}: {name!r} has a shape that NumPy does not have ({error})") from error
    return dict(sorted(arrays.items()))


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    import struct
    import zlib
    from tokenize import TokenError

    arrays: dict[str, NDArray[Any]] = {}
    broken = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, NotImplementedError)
    # What NumPy raises for a header that is none: it reads it as Python's own literals.
    none = (TokenError, SyntaxError, TypeError, RecursionError, MemoryError)
    try:
        with zipfile.ZipFile(path) as archive:
            for member in members(path, archive).values():
                arrays[member.filename.removesuffix(".npy")] = _read_member(path, archive, member)
    except (*broken, *none) as error:
        raise ConformanceError(
            f"{path}: is not a whole .npz file ({error}); write it again with numpy.savez"
        ) from error
    return arrays


def _read_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    """One `.npy` inside an archive. Sizes are checked before an array is made."""
    formats = np.lib.format
    if not member.filename.endswith(".npy"):
        raise ConformanceError(f"{path}: {member.filename!r} is not a .npy array; write it with numpy.savez")
    held = content(archive, member)
    stream = io.BytesIO(held)
    version = formats.read_magic(stream)
    header = formats.read_array_header_1_0 if version == (1, 0) else formats.read_array_header_2_0
    shape, column_major, dtype = header(stream)
    name = member.filename.removesuffix(".npy")
    if dtype.hasobject:
        raise ConformanceError(
            f"{path}: {name!r} holds pickled Python objects, which are never loaded; store numbers instead"
        )
    if dtype.kind not in "biuf":
        raise ConformanceError(f"{path}: {name!r} has dtype {dtype}; store it as an array of real numbers")
    count = int(np.prod([int(size) for size in shape], dtype=object))  # in Python integers: no overflow
    if stream.tell() + count * dtype.itemsize != len(held):
        raise ConformanceError(
            f"{path}: {name!r} is declared as {shape} of {dtype}, which its {len(held)} bytes do not hold; "
            "write it again with numpy.savez"
        )
    flat = np.frombuffer(held, dtype, count, stream.tell())
    return flat.reshape(shape, order="F" if column_major else "C")


def _read_mat(path: Path) -> dict[str, NDArray[Any]]:
    from conformance.mat import read_mat  # imported late: SciPy and h5py would double the start-up

    return read_mat(path)


READERS: dict[str, Callable[[Path], dict[str, NDArray[Any]]]] = {
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
    ".mat": _read_mat,
}
