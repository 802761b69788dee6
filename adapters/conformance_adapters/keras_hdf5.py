"""The HDF5 files that Keras writes, as arrays and as what the attributes of groups say. Nothing outside is followed."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance.apart import Apart
from conformance.archive import MEMBERS, most_unpacked
from conformance.errors import ConformanceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_RESAVE = "write it again with model.save_weights"
_ATTRIBUTES = "attributes"
_read = Apart("conformance_adapters.keras_hdf5:read_hdf5")


@dataclass(frozen=True)
class Hdf5:
    """What is in a file: arrays by path, and the attributes of each group (`""`: the file's own), texts or lists."""

    arrays: Mapping[str, NDArray[Any]]
    attributes: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]], told: Mapping[str, str]) -> Hdf5:
        """What `read_hdf5` gave."""
        return cls(arrays, json.loads(told[_ATTRIBUTES]))

    def names(self, group: str, attribute: str) -> list[str]:
        """A list of names, which Keras keeps in several attributes where it is long: `layer_names0` and so on."""
        held = self.attributes.get(group, {})
        whole = held.get(attribute)
        if whole is None:
            whole = []
            while isinstance(more := held.get(f"{attribute}{len(whole)}"), list):
                whole.append(more)
            whole = [name for part in whole for name in part]
        return [str(name) for name in whole] if isinstance(whole, list) else [str(whole)]


def read(path: Path) -> Hdf5:
    """The file, read in a process of its own. Raises ConformanceError where it is broken or leads elsewhere."""
    return Hdf5.of(*_read(path, _RESAVE))


def read_hdf5(path: Path, resave: str = _RESAVE) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Every array in the file by its path, and the attributes of each group as JSON. Raises ConformanceError."""
    import h5py

    try:
        require_plain(path, path.read_bytes())
        arrays: dict[str, NDArray[Any]] = {}
        attributes: dict[str, dict[str, Any]] = {}
        with h5py.File(path, "r") as file:

            def visit(name: str, item: Any) -> None:
                if not isinstance(item, h5py.Dataset):
                    attributes[name] = {str(n): v for n in item.attrs if (v := _plain(item.attrs[n])) is not None}
                elif item.dtype.kind in "fiub" and item.shape is not None:
                    arrays[name] = item[()]
                if len(arrays) + len(attributes) > 2 * MEMBERS:
                    raise ValueError(f"it has more than {MEMBERS} members")

            visit("", file)
            file.visititems(visit)
        return arrays, {_ATTRIBUTES: json.dumps(attributes)}
    except (OSError, ValueError, LookupError, RuntimeError, TypeError) as error:  # what h5py raises for corrupt files
        raise ConformanceError(f"{path}: is truncated or corrupt ({error}); {resave}") from error


def _plain(value: Any) -> str | list[str] | None:
    """A text or a list of texts; None for an attribute of another kind."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, str):
        return str(value)
    found = value.tolist() if hasattr(value, "tolist") and getattr(value, "ndim", 0) == 1 else None
    if found is None or not all(isinstance(item, str | bytes) for item in found):
        return None
    return [item.decode("utf-8", "replace") if isinstance(item, bytes) else item for item in found]


def require_plain(path: Path, weights: bytes) -> None:
    """Raise ValueError where weights are kept in another file, are linked to, or unpack to more than they should."""
    import h5py

    try:
        with h5py.File(io.BytesIO(weights), "r") as file:
            declared, waiting, seen = 0, [file], {file.id}
            while waiting:
                group = waiting.pop()
                for name in group:
                    if type(group.get(name, getlink=True)).__name__ != "HardLink":
                        raise ValueError(f"{name!r} in its weights is a link to something elsewhere")
                    item = group[name]
                    if isinstance(item, h5py.Dataset):
                        if item.is_virtual or item.external:
                            raise ValueError(f"{name!r} in its weights is kept in another file")
                        declared += item.size * item.dtype.itemsize if item.shape is not None else 0
                    elif isinstance(item, h5py.Group) and item.id not in seen:
                        seen.add(item.id)
                        waiting.append(item)
            if declared > most_unpacked(path):
                raise ValueError(f"its weights unpack to {declared} bytes")
    except (TypeError, LookupError, RuntimeError) as error:  # what h5py raises for corrupt files, besides ValueError
        raise ValueError(f"its weights do not hold together ({error})") from error
