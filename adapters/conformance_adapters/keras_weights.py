"""Keras's `.weights.h5`: the variables of each layer by their number, in a group that the layer's class names.

A group has the name of its layer as an attribute. What a layer was made with is not in the file, and is read off the
shapes. Source: `keras/src/saving/saving_lib.py` (`save_weights_only`, `_walk_saveable`) of Keras 3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance.conversion import Held, Settled
from conformance.errors import ConformanceError
from conformance.layer import nearest
from conformance_adapters import keras_hdf5, keras_legacy
from conformance_adapters.keras_hdf5 import Hdf5
from conformance_adapters.keras_made import Group, held

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance_adapters.keras_layers import KerasAdapter

_DIRECTIONS = {"forward_layer/cell": None, "backward_layer/cell": {"go_backwards": True}}  # of a Bidirectional
_VARIABLE = re.compile(r"(?:(.*)/)?vars/(\d+)$")


def weights_in(path: Path, settled: Settled, adapter: KerasAdapter) -> list[Held]:
    """The layers whose variables are in the file. Raises ConformanceError where it is broken, or not Keras's."""
    return held_in(path, keras_hdf5.read(path), settled, adapter)


def held_in(path: Path, file: Hdf5, settled: Settled, adapter: KerasAdapter) -> list[Held]:
    """The layers whose variables are in what was read from the file. Raises ConformanceError."""
    layers = list(keras_legacy.layers_in(path, file) if keras_legacy.is_legacy(file) else _numbered(file))
    if not layers:
        raise ConformanceError(f"{path}: holds no variables as Keras writes them; write it with model.save_weights")
    there = [layer.path for layer in layers]
    for said in (*settled.layers, *(p for p in settled.config if p)):
        if said not in there:
            raise ConformanceError(f"{path}: there is no {said!r}{nearest(said, there)}; it has {', '.join(there)}")
    return [held(layer, settled, adapter) for layer in layers]


def _numbered(file: Hdf5) -> Iterable[Group]:
    """The layers as Keras 3 numbers their variables."""
    groups: dict[str, dict[str, dict[int, NDArray[Any]]]] = {}
    for name, array in file.arrays.items():
        found = _VARIABLE.match(name)
        if found is None or name.startswith("optimizer/"):
            continue
        root, inner = _split(found[1] or "")
        groups.setdefault(root, {}).setdefault(inner, {})[int(found[2])] = array
    names = {n.removesuffix("/vars"): str(a["name"]) for n, a in file.attributes.items() if "name" in a}
    for root, inside in groups.items():
        path = _path(root, names)
        if set(inside) == set(_DIRECTIONS):
            for inner, backwards in _DIRECTIONS.items():
                kind = keras_legacy.recurrent(inside[inner].get(0), inside[inner].get(1))
                yield Group(f"{path}.{inner.partition('/')[0]}", kind, {"cell": inside[inner]}, backwards)
        else:
            yield Group(path, re.sub(r"_\d+$", "", root.rpartition("/")[2]), inside)


def _split(path: str) -> tuple[str, str]:
    """The group of a layer, and what is inside of the layer: `layers/lstm/cell` is `layers/lstm` and `cell`."""
    parts = path.split("/")
    last = max((i for i, part in enumerate(parts[:-1]) if part in ("layers", "_layers")), default=None)
    cut = len(parts) if last is None else last + 2
    return "/".join(parts[:cut]), "/".join(part.removeprefix("_") for part in parts[cut:])  # Keras 2 has `_query_dense`


def _path(root: str, names: Mapping[str, str]) -> str:
    """The names of the layers on the way, as people write it."""
    parts = root.split("/")
    said = [names.get("/".join(parts[: i + 1]), part) for i, part in enumerate(parts)]
    return ".".join(n for n, part in zip(said, parts, strict=True) if part not in ("layers", "_layers"))
