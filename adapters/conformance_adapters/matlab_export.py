"""MATLAB's weights in `.mat` files, read and written under the property names of MATLAB's layers.

Of a network, a struct for each layer holds its properties; structs in structs are a path. A network of MatConvNet's is
a cell array `net.layers` of structs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.conversion import Held, Settled
from conformance.errors import ConformanceError, Unsupported
from conformance.layer import nearest
from conformance.layers import get_layer
from conformance.mat import MatFile, open_mat
from conformance.subject import Own
from conformance.trace import Request
from conformance_adapters import matconvnet
from conformance_adapters.matlab_axes import INPUT, times
from conformance_adapters.matlab_layers import LAYERS, matlab_layer
from conformance_adapters.matlab_live import MatLive
from conformance_adapters.matlab_properties import row
from conformance_adapters.matlab_told import CLASS, class_of, told, why_none
from conformance_adapters.matlab_weights import matlab_arrays

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arrays = Mapping[str, "NDArray[Any]"]
_LEARNABLE = {p.name for own in LAYERS for p in own.parameters}


def weights_in(path: Path, settled: Settled) -> list[Held]:
    """The layers in the file, and what is none. Raises ConformanceError where it cannot be read."""
    file = open_mat(path)
    groups = _groups(file)
    for said in (*settled.layers, *(p for p in settled.config if p)):
        there = [name or "." for name in groups]
        if said not in there:
            raise ConformanceError(f"{path}: there is no {said!r}{nearest(said, there)}; it has {', '.join(there)}")
    return [_held(held, name, settled) for name, held in groups.items()]


def _groups(file: MatFile) -> dict[str, MatFile]:
    """What each struct holds, by the path to it: arrays, or text that says its class."""
    names: dict[str, dict[str, str]] = {}
    for name in (*file.arrays, *file.texts):
        cell = matconvnet.CELL.search(name)
        prefix, leaf = (cell[1], cell[2]) if cell is not None else name.rpartition(".")[::2]
        names.setdefault(path_of(prefix), {})[leaf] = name
    made = {
        path: MatFile(
            file.path,
            {leaf: file.arrays[name] for leaf, name in fields.items() if name in file.arrays},
            {leaf: file.left_out[name] for leaf, name in fields.items() if name in file.left_out},
        )
        for path, fields in names.items()
    }
    return {path: held for path, held in made.items() if held.arrays or set(CLASS) & held.texts.keys()}


def _held(file: MatFile, path: str, settled: Settled) -> Held:
    names = tuple(file.arrays)
    live = MatLive(file, path or file.path.name)
    cell = matconvnet.CELL.match(f"{path}.type") is not None
    layers = (settled.layers[path or "."],) if (path or ".") in settled.layers else ()
    if not cell and not layers:
        layers = told(live.properties, path)
        if len(layers) != 1:
            return Held(path, "", unsupported=_open(file, path, layers), arrays=names, candidates=layers)
    try:
        own = _of_matconvnet(live, path, settled) if cell else _own(live, path, layers[0], settled)
    except (Unsupported, ConformanceError) as error:
        return Held(path, layers[0] if layers else "", unsupported=str(error), arrays=names)
    known = get_layer(own.layer).config
    assumed = ("heads",) if "heads" in known and "heads" not in own.config else ()
    recorded = INPUT in file.arrays and get_layer(own.layer, own.config).output in file.arrays
    subject = live if recorded else None
    inputs = live.inputs(own.layer, own.config) if recorded else {}
    return Held(path, own.layer, subject, inputs, arrays=names, assumed=assumed, own=own, dtype=live.dtype)


def _own(live: MatLive, path: str, layer: str, settled: Settled) -> Own:
    """The layer with the weights that the file has, in MATLAB's layout or in the canonical one."""
    given = settled.config_of(path, get_layer(layer).config)
    matlab = not _is_canonical(layer, live.file.arrays)
    config = {**live.config(layer, matlab), **given}
    weights = live.weights(layer, config, matlab)
    return Own(layer, config, {n: np.asarray(a, np.float64) for n, a in weights.items()})


def _of_matconvnet(live: MatLive, path: str, settled: Settled) -> Own:
    made = matconvnet.own(live.properties, settled.layers.get(path))
    given = settled.config_of(path, get_layer(made.layer).config)
    return Own(made.layer, {**made.config, **given}, {n: np.asarray(a, np.float64) for n, a in made.weights.items()})


def _open(file: MatFile, path: str, layers: tuple[str, ...]) -> str:
    """Why it is not told of which layer some properties are."""
    sizes = ", ".join(f"{n} {times(a.shape)}" for n, a in file.arrays.items() if a.size)
    if layers:
        return f"{sizes} may be {' or '.join(layers)}: say which with --layer {path or '.'}=NAME"
    said = class_of(file.texts)
    if said is not None:
        return why_none(said)
    return f"{', '.join(file.arrays)}: no layer of MATLAB's is known that has properties of these names"


def _is_canonical(layer: str, arrays: Iterable[str]) -> bool:
    needed = {n for n in get_layer(layer).weights if not n.endswith("?")}
    return bool(needed) and needed <= set(arrays)


def layout_subjects(request: Request) -> list[str]:
    """MATLAB's own layer. Raises Unsupported where it has none, or not with these options or in this dtype."""
    own = matlab_layer(request.layer, request.config, request.weights)
    if not own.parameters:
        raise Unsupported(f"MATLAB's {request.layer} has no weights")
    if request.dtype not in ("float64", "float32"):
        raise Unsupported(f"MATLAB has no {request.dtype} weights")
    own.said(request.config)
    return [own.function]


def stored(request: Request) -> dict[str, NDArray[Any]]:
    """The learnable parameters by MATLAB's property names, and the properties that a reader needs to tell the layer
    and its config. Text is the codes of its characters, as in a `.mat` file."""
    own = matlab_layer(request.layer, request.config, request.weights)
    said = {"Type": own.function, **own.said(request.config)}
    arrays = matlab_arrays(request.layer, request.config, request.weights)
    return {**arrays, **{n: _codes(value) if isinstance(value, str) else value for n, value in said.items()}}


def _codes(text: str) -> NDArray[Any]:
    return row([ord(letter) for letter in text]).astype(np.uint16)


def write_weights(path: Path, arrays: Arrays) -> None:
    """A file of version 5, a struct for each layer."""
    from scipy.io import savemat

    made: dict[str, Any] = {}
    for name, array in arrays.items():
        *parts, leaf = [_field(part) for part in name.split(".")]
        held = made
        for part in parts:
            held = held.setdefault(part, {})
        held[leaf] = array if leaf in _LEARNABLE else _option(array)
    savemat(path, made, appendmat=False, long_field_names=True)


def _option(array: NDArray[Any]) -> Any:
    """What is config, as MATLAB has it: text, or doubles, of which a single is the shortest that is the same single."""
    if array.dtype == np.uint16:
        return "".join(map(chr, array.ravel()))
    return np.array([float(str(n)) for n in array.ravel()]).reshape(array.shape)


def _field(name: str) -> str:
    """A name that a field of a struct may have, as MATLAB's makeValidName makes it."""
    plain = re.sub(r"\W", "_", name)
    return plain if re.match(r"[A-Za-z]", plain) else f"x{plain}"


def path_of(fields: str) -> str:
    """The path that fields of structs stand for: `layers.x0` is `layers.0`."""
    return re.sub(r"(?<![^.])x(?=\d)", "", fields)
