"""MATLAB's `.mat` files of version 7.3, which are HDF5.

MATLAB writes an array's axes in reverse, names its class in the attribute `MATLAB_class`, marks an empty
array by `MATLAB_empty` and stores its size in its place, and stores a cell array as references into the
group `#refs#`. Links out of the file and data kept elsewhere are never followed.

Source: MathWorks, MAT-File Versions ("Version 7.3 MAT-files use an HDF5 based format"), and files themselves.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.archive import MEMBERS, most_unpacked
from conformance.errors import ConformanceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEPTH = 32  # of cells and structs inside one another
LONGEST = 1000  # characters of a name with those of the structs around it
_INFLATION = 1032  # the most that deflate can compress: RFC 1951's 258 bytes in 2 bits
_NUMERIC = {"double", "single", "logical"} | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}


def read_mat73(path: Path, resave: str) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The numeric and logical arrays of the file, and what it holds besides: name to what that is.

    Raises ConformanceError for a corrupt file and for HDF5 that MATLAB did not write; `resave` says what to do then.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if not any("MATLAB_class" in _attributes(file, name) for name in file):
                octave = any("OCTAVE_NEW_FORMAT" in _attributes(file, name) for name in file)
                kind = "in Octave's own HDF5 layout" if octave else "HDF5, but not as MATLAB 7.3 writes it"
                raise ConformanceError(f"{path}: is {kind}; {resave}")
            reader = _Reader(h5py, file, most_unpacked(path))
            for name in file:
                if not name.startswith("#"):  # "#refs#" holds what cells refer to, "#subsystem#" objects
                    reader.link(name, file, name, 0)
            return reader.arrays, reader.left_out
    except (OSError, ValueError, LookupError, RuntimeError, TypeError) as error:  # what h5py raises for corrupt files
        raise ConformanceError(f"{path}: is truncated or corrupt ({error}); {resave}") from error


def _attributes(group: Any, name: str) -> Any:
    item = group.get(name) if _is_hard(group, name) else None
    return {} if item is None else item.attrs


def _is_hard(group: Any, name: str) -> bool:
    return type(group.get(name, getlink=True)).__name__ == "HardLink"


class _Reader:
    """Walks through a file and collects its arrays under flattened names."""

    def __init__(self, h5py: Any, file: Any, most: int) -> None:
        self.h5py = h5py
        self.file = file
        self.most = most  # bytes that may yet be read
        self.arrays: dict[str, NDArray[Any]] = {}
        self.left_out: dict[str, str] = {}

    def link(self, name: str, group: Any, key: str, depth: int) -> None:
        """Read what `group` holds under `key`, unless that is elsewhere."""
        if not _is_hard(group, key):
            self.left_out[name] = "a link to something elsewhere"
        else:
            self.item(name, group[key], depth)

    def item(self, name: str, item: Any, depth: int) -> None:
        """Read a group (a struct) or a dataset under `name`."""
        if depth > DEPTH:
            raise ValueError(f"cells or structs are nested more than {DEPTH} deep")
        if len(name) > LONGEST:
            raise ValueError(f"a name has {len(name)} characters, where {LONGEST} are the most")
        # References may be shared, so a small file could spell out endlessly many.
        if len(self.arrays) + len(self.left_out) >= MEMBERS:
            raise ValueError(f"more than {MEMBERS} arrays")
        kind = item.attrs.get("MATLAB_class", b"")
        kind = kind.decode("latin-1") if isinstance(kind, bytes) else str(kind)
        if isinstance(item, self.h5py.Datatype):
            self.left_out[name] = "a type, and no values"
        elif isinstance(item, self.h5py.Group):
            if "MATLAB_sparse" in item.attrs:
                self.left_out[name] = "a sparse matrix: save full(...) of it"
            elif kind == "struct":
                for field in item:
                    self.field(f"{name}.{field}", name, field, item, depth)
            else:
                self.left_out[name] = "a function handle" if kind == "function_handle" else "an object"
        elif kind == "cell":
            self.references(item, depth, lambda index: f"{name}{{{index}}}")
        elif kind == "struct":  # one of size 0: a dataset that holds its size
            return
        elif kind in _NUMERIC:
            self.numeric(name, item, kind)
        elif kind == "char" and item.dtype == np.uint16 and item.shape[1:] == (1,) and item.size <= LONGEST:
            self.left_out[name] = f"text: {self.values(item).astype('<u2').tobytes().decode('utf-16-le')}"
        else:
            words = {"char": "text", "function_handle": "a function handle", "": "a dataset without a MATLAB_class"}
            self.left_out[name] = words.get(kind, f"an object of class {kind}")

    def field(self, name: str, owner: str, field: str, group: Any, depth: int) -> None:
        """A field of a struct; that of a struct array is a dataset of references, without a class."""
        item = group[field] if _is_hard(group, field) else None
        if (
            isinstance(item, self.h5py.Dataset)
            and item.dtype == self.h5py.ref_dtype
            and "MATLAB_class" not in item.attrs
        ):
            self.references(item, depth, lambda index: f"{owner}({index}).{field}")
        else:
            self.link(name, group, field, depth + 1)

    def references(self, item: Any, depth: int, named: Any) -> None:
        """Read what a dataset of references refers to. Its reversed axes make C order MATLAB's own."""
        if "MATLAB_empty" in item.attrs:
            return
        if item.dtype != self.h5py.ref_dtype:
            raise ValueError(f"{item.name} is a cell array that does not hold references")
        for index, reference in enumerate(self.values(item).ravel(), 1):
            if not reference:
                raise ValueError(f"{item.name} refers to nothing")
            self.item(named(index), self.file[reference], depth + 1)

    def numeric(self, name: str, item: Any, kind: str) -> None:
        """An array of numbers or truth values, with its axes turned back."""
        dtype = np.dtype({"double": "float64", "single": "float32", "logical": "bool"}.get(kind, kind))
        if item.dtype.names is not None:
            self.left_out[name] = "complex: save real(...) and imag(...) of it"
        elif item.attrs.get("MATLAB_empty", 0):
            size = [int(n) for n in self.values(item).ravel()]
            if prod(size) != 0 or len(size) > 32:
                raise ValueError(f"{item.name} is called empty, with size {size}")
            self.arrays[name] = np.zeros(size, dtype)
        elif item.dtype.kind not in "biuf":
            raise ValueError(f"{item.name} is called {kind}, but holds {item.dtype}")
        else:
            self.arrays[name] = np.ascontiguousarray(self.values(item).T).astype(dtype, copy=False)

    def values(self, item: Any) -> NDArray[Any]:
        """A dataset's values, unless they are kept elsewhere or are fewer than it declares."""
        if item.is_virtual or item.external:
            raise ValueError(f"{item.name} keeps its values in another file")
        stored = item.id.get_storage_size()
        if stored * (1 if item.compression is None else _INFLATION) < item.size * item.dtype.itemsize:
            raise ValueError(f"{item.name} declares {item.shape}, of which only {stored} bytes are there")
        self.most -= item.size * max(item.dtype.itemsize, 8)
        if self.most < 0:
            raise ValueError(f"{item.name} and what is before it take more memory than a file of its size should")
        return np.asarray(item[()])
