"""MATLAB's `.mat` files of versions 5 and 7 (the latter with each variable compressed).

Not `scipy.io.loadmat`: version 1.17 ends the process with a segmentation fault on damaged files, sets
memory aside for whatever size a file declares, and drops imaginary parts where it is asked for MATLAB's
own classes. Here every declared size is checked against the bytes that are there.

Format: MathWorks, MAT-File Format, chapter 1, "MAT-File Level 5".
"""

from __future__ import annotations

import struct
import zlib
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.archive import MEMBERS, most_unpacked
from conformance.errors import ConformanceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEPTH = 32  # of cells and structs inside one another; more is a file made to exhaust the reader
LONGEST = 1000  # characters of a name with those of the structs around it; MATLAB's own limit is 63 for each
_INFLATION = 1032  # the most that deflate can compress: RFC 1951's 258 bytes in 2 bits

# Types of data elements: how numbers are stored.
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_ENCODED = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}
_MATRIX, _COMPRESSED = 14, 15
# Classes of arrays: what the numbers are.
_NUMERIC = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_CELL, _STRUCT, _CHAR, _OPAQUE = 1, 2, 4, 17
_WORDS = {
    3: "an object",
    _CHAR: "text",
    5: "a sparse matrix: save full(...) of it",
    16: "a function handle",
    _OPAQUE: "an object (a string, table or dlarray, say): save double(...) or extractdata(...) of it",
}
_LOGICAL, _COMPLEX = 0x200, 0x800


def read_mat5(path: Path, resave: str) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The numeric and logical arrays of the file, and what it holds besides: name to what that is.

    Raises ConformanceError for a truncated or corrupt file; `resave` says what to do then.
    """
    data = path.read_bytes()
    reader = _Reader("<" if data[126:128] == b"IM" else ">", most_unpacked(path))
    try:
        reader.variables(data)
    except (ValueError, struct.error, zlib.error) as error:
        raise ConformanceError(f"{path}: is truncated or corrupt ({error}); {resave}") from error
    return reader.arrays, reader.left_out


class _Elements:
    """The data elements between two positions, one after the other."""

    def __init__(self, data: bytes, order: str, at: int, end: int) -> None:
        self.data, self.order, self.at, self.end = data, order, at, end

    def next(self) -> tuple[int, int, int]:
        """The type of the next element, and where its bytes start and stop."""
        if self.at + 8 > self.end:
            raise ValueError("the tag of an element is cut off")
        kind, size = struct.unpack_from(f"{self.order}II", self.data, self.at)
        if kind >> 16:  # the small format: size, type and data in eight bytes
            start, stop, kind = self.at + 4, self.at + 4 + (kind >> 16), kind & 0xFFFF
            self.at += 8
        else:
            start, stop = self.at + 8, self.at + 8 + size
            self.at = stop if kind == _COMPRESSED else start + -(-size // 8) * 8
        if stop > self.end or (self.at - start == 4 and stop - start > 4):
            raise ValueError(f"an element declares {stop - start} bytes where fewer are left")
        return kind, start, stop

    def numbers(self) -> NDArray[Any]:
        """The next element, as the numbers that it stores."""
        kind, start, stop = self.next()
        if kind not in _STORED:
            raise ValueError(f"an element of type {kind} where numbers were expected")
        dtype = np.dtype(self.order + _STORED[kind])
        return np.frombuffer(self.data, dtype, (stop - start) // dtype.itemsize, start)

    def text(self) -> str:
        """The next element, as a name."""
        _, start, stop = self.next()
        return self.data[start:stop].decode("latin-1")

    def characters(self) -> str:
        """The next element, as the text that it stores. Raises ValueError where its bytes are none."""
        kind, start, stop = self.next()
        if kind not in _ENCODED:
            raise ValueError(f"an element of type {kind} where text was expected")
        wide = "-le" if self.order == "<" else "-be"
        encoding = _ENCODED[kind] + (wide if _ENCODED[kind] == "utf-16" else "")
        return self.data[start:stop].decode(encoding)


class _Reader:
    """Walks through a file and collects its arrays under flattened names."""

    def __init__(self, order: str, most: int) -> None:
        self.order = order
        self.most = most  # bytes that may yet be unpacked, and that the arrays may yet take
        self.arrays: dict[str, NDArray[Any]] = {}
        self.left_out: dict[str, str] = {}

    def variables(self, data: bytes) -> None:
        """Read every variable of a file."""
        elements = _Elements(data, self.order, 128, len(data))
        while elements.at < len(data):
            kind, start, stop = elements.next()
            if kind == _COMPRESSED:
                body = self.inflated(data[start:stop])
                inner = _Elements(body, self.order, 0, len(body))
                kind, start, stop = inner.next()
            else:
                body = data
            if kind != _MATRIX:
                raise ValueError(f"an element of type {kind} where a variable was expected")
            self.matrix(_Elements(body, self.order, start, stop), None, 0)

    def inflated(self, packed: bytes) -> bytes:
        """A compressed variable. One that declares more than it can hold is refused before it is unpacked."""
        head = zlib.decompressobj().decompress(packed, 8)
        if len(head) == 8 and struct.unpack(f"{self.order}II", head)[1] > len(packed) * _INFLATION:
            raise ValueError("a compressed variable declares more than it can hold")
        stream = zlib.decompressobj()
        body = stream.decompress(packed, self.most)
        if not stream.eof and len(body) == self.most:
            raise ValueError("it unpacks to more than a file of its size should; save it uncompressed, with -v6")
        if not stream.eof:
            raise ValueError("a compressed variable ends early")
        return body

    def matrix(self, elements: _Elements, name: str | None, depth: int) -> None:
        """Read an array, under its own name or, inside a cell or struct, under `name`."""
        if depth > DEPTH:
            raise ValueError(f"cells or structs are nested more than {DEPTH} deep")
        if len(self.arrays) + len(self.left_out) >= MEMBERS:
            raise ValueError(f"it has more than {MEMBERS} arrays")
        if elements.at == elements.end:  # an empty cell, [] in MATLAB
            self.arrays[name or ""] = np.zeros((0, 0))
            return
        flags = elements.numbers()
        kind = int(flags[0]) & 0xFF if flags.size else 0
        dims = () if kind == _OPAQUE else tuple(int(n) for n in elements.numbers())  # an object has none
        own = elements.text()
        name = own if name is None else name
        if not name:  # the workspace of the file's objects
            return
        if len(name) > LONGEST:
            raise ValueError(f"a name has {len(name)} characters, where {LONGEST} are the most")
        if kind not in _NUMERIC and kind not in _WORDS and kind not in (_CELL, _STRUCT):
            raise ValueError(f"{name!r} is of the unknown class {kind}")
        if (not 2 <= len(dims) <= 32 and kind != _OPAQUE) or min(dims, default=0) < 0:
            raise ValueError(f"{name!r} declares the size {dims}")
        if kind == _CHAR and len(dims) == 2 and dims[0] == 1 and dims[1] <= LONGEST:
            self.left_out[name] = f"{_WORDS[kind]}: {elements.characters()}"
        elif kind in _WORDS:
            self.left_out[name] = _WORDS[kind]
        elif int(flags[0]) & _COMPLEX:
            self.left_out[name] = "complex: save real(...) and imag(...) of it"
        elif kind == _CELL:
            self.members(elements, [f"{name}{{{index}}}" for index in self.count(elements, name, prod(dims))], depth)
        elif kind == _STRUCT:
            self.struct(elements, name, prod(dims), depth)
        else:
            self.numeric(elements, name, dims, "?" if int(flags[0]) & _LOGICAL else _NUMERIC[kind])

    def count(self, elements: _Elements, name: str, members: int) -> range:
        """1 to `members`, each of which needs a tag at least."""
        if members * 8 > elements.end - elements.at:
            raise ValueError(f"{name!r} declares {members} members where {elements.end - elements.at} bytes are left")
        if members > MEMBERS:
            raise ValueError(f"{name!r} has {members} members, where {MEMBERS} are the most")
        return range(1, members + 1)

    def members(self, elements: _Elements, names: list[str], depth: int) -> None:
        """Read the arrays inside a cell or struct."""
        for name in names:
            kind, start, stop = elements.next()
            if kind != _MATRIX:
                raise ValueError(f"an element of type {kind} where {name!r} was expected")
            self.matrix(_Elements(elements.data, self.order, start, stop), name, depth + 1)

    def struct(self, elements: _Elements, name: str, size: int, depth: int) -> None:
        """Read a struct, or an array of `size` structs."""
        length = int(elements.numbers().sum())
        packed = elements.text()
        if length < 1 or len(packed) % length:
            raise ValueError(f"{name!r} declares field names of {length} bytes each")
        fields = [packed[at : at + length].rstrip("\0") for at in range(0, len(packed), length)]
        self.count(elements, name, size * len(fields))
        own = [name] if size == 1 else [f"{name}({index})" for index in range(1, size * bool(fields) + 1)]
        self.members(elements, [f"{element}.{field}" for element in own for field in fields], depth)

    def numeric(self, elements: _Elements, name: str, dims: tuple[int, ...], dtype: str) -> None:
        """Read an array of numbers or truth values; whole numbers may be stored in fewer bytes than they have."""
        stored = elements.numbers()
        if stored.size != prod(dims):
            raise ValueError(f"{name!r} declares {'x'.join(map(str, dims))} values and holds {stored.size}")
        self.most -= stored.size * np.dtype(dtype).itemsize
        if self.most < 0:
            raise ValueError("its arrays take more memory than those of a file of its size should")
        self.arrays[name] = np.ascontiguousarray(stored.reshape(dims, order="F"), dtype)
