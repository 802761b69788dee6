"""MATLAB's `.mat` files: v5 and v7 are read by `conformance.mat5`, v7.3 (HDF5) by `conformance.mat73`.

What MATLAB does to an array on the way, and who undoes it: doubles that happen to be whole numbers are
stored in one byte (undone here); vectors are (n, 1) or (1, n) and trailing axes of length 1 are dropped
(undone where the expected axes are known, that is, by whoever asked for the array). Structs are flattened
to `name.field` (`name(2).field` in a struct array), cells to `name{1}` in MATLAB's own order, column-major.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance.apart import Apart
from conformance.errors import ConformanceError
from conformance.layer import nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray


_read_mat73 = Apart("conformance.mat73:read_mat73")
_TEXT = "text: "  # how what is left out says a line of text


@dataclass(frozen=True)
class MatFile:
    """The numeric and logical arrays of a file, and what else it holds: name to what it is (`text: tanh`)."""

    path: Path
    arrays: Mapping[str, NDArray[Any]]
    left_out: Mapping[str, str]

    @property
    def texts(self) -> dict[str, str]:
        """The lines of text in the file, by name."""
        return {n: said.removeprefix(_TEXT) for n, said in self.left_out.items() if said.startswith(_TEXT)}

    def within(self, struct: str) -> MatFile:
        """What is in the struct of this name, by the names of its fields."""
        prefix = f"{struct}."
        arrays = {n.removeprefix(prefix): a for n, a in self.arrays.items() if n.startswith(prefix)}
        left_out = {n.removeprefix(prefix): said for n, said in self.left_out.items() if n.startswith(prefix)}
        return MatFile(self.path, arrays, left_out)

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
        arrays, left_out = _read_mat73(path, resave)
    elif head.startswith(b"# Created by Octave"):
        raise ConformanceError(f"{path}: is in Octave's text format, its default; {resave}")
    elif head.startswith((b"Octave-1-L", b"Octave-1-B")):
        raise ConformanceError(f"{path}: is in Octave's binary format; {resave}")
    elif head.startswith(b"\x1f\x8b"):
        raise ConformanceError(f"{path}: is compressed with gzip as a whole (Octave's -zip); {resave}")
    elif head[124:128] not in (b"\x00\x01IM", b"\x01\x00MI"):  # version and byte order, in the latter
        raise ConformanceError(f"{path}: is not a MAT-file of version 5, 7 or 7.3; {resave}")
    else:
        from conformance.mat5 import read_mat5

        arrays, left_out = read_mat5(path, resave)
    return MatFile(path, arrays, left_out)
