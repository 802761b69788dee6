"""MATLAB's weights in `.mat` files, read and written under the property names of MATLAB's layers.

Of a network, a struct for each layer holds its properties; structs in structs are a path. A network of MatConvNet's is
a cell array `net.layers` of structs with `weights`, or with `filters` and `biases` in its older form
(https://www.vlfeat.org/matconvnet/mfiles/simplenn/vl_simplenn/).
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
from conformance.layers import get_layer, layer_names
from conformance.mat import MatFile, open_mat
from conformance.subject import Own
from conformance.trace import Request
from conformance_adapters.matlab_live import MatLive
from conformance_adapters.matlab_mat import INPUT, OPTIONS, canonical_weights, layout, matlab_arrays, recorded_layer

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arrays = Mapping[str, "NDArray[Any]"]

SUBJECTS: Mapping[str, str] = {
    "multi_head_attention": "selfAttentionLayer",
    "linear": "fullyConnectedLayer",
    "layer_norm": "layerNormalizationLayer",
    "lstm": "lstmLayer",
    "conv2d": "convolution2dLayer",
}
_CELL = re.compile(r"((?:\w+\.)?layers\{\d+\})\.(weights\{(\d)\}|filters|biases|\w+)$")
_PLAIN = {"weights{1}": "Weights", "weights{2}": "Bias", "filters": "Weights", "biases": "Bias"}


def weights_in(path: Path, settled: Settled) -> list[Held]:
    """The layers in the file, and what is none. Raises ConformanceError where it cannot be read."""
    file = open_mat(path)
    groups = _groups(file)
    for said in (*settled.layers, *(p for p in settled.config if p)):
        there = [name or "." for name in groups]
        if said not in there:
            raise ConformanceError(f"{path}: there is no {said!r}{nearest(said, there)}; it has {', '.join(there)}")
    return [_held(file, name, arrays, settled) for name, arrays in groups.items()]


def _groups(file: MatFile) -> dict[str, dict[str, NDArray[Any]]]:
    """The arrays of each struct by the path to it, and by MATLAB's property names."""
    groups: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in file.arrays.items():
        cell = _CELL.search(name)
        if cell is not None:
            groups.setdefault(cell[1], {})[_PLAIN.get(cell[2], cell[2])] = array
        else:
            prefix, _, leaf = name.rpartition(".")
            groups.setdefault(path_of(prefix), {})[leaf] = array
    return {path: _of_matconvnet(a) if "layers{" in path else a for path, a in groups.items()}


def _of_matconvnet(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """A layer of MatConvNet's as MATLAB's own: `stride` and `pad` are one number, or as many as there are sides."""
    made = {n: a for n, a in arrays.items() if n in ("Weights", "Bias")}
    if "Weights" in made:
        made["Weights"] = made["Weights"].reshape(made["Weights"].shape + (1,) * (4 - made["Weights"].ndim))
    for name, target, count in (("stride", "Stride", 2), ("pad", "PaddingSize", 4), ("dilate", "DilationFactor", 2)):
        if name in arrays:
            given = arrays[name].ravel()
            made[target] = np.repeat(given, count // given.size) if given.size < count else given
    return made


def _held(file: MatFile, path: str, arrays: Mapping[str, NDArray[Any]], settled: Settled) -> Held:
    names = tuple(arrays)
    layer = settled.layers.get(path or ".") or recorded_layer(arrays)
    if layer is None:
        said = f"{', '.join(names)}: no layer of MATLAB's is known that has properties of these names"
        return Held(path, "", unsupported=said, arrays=names)
    live = MatLive(MatFile(file.path, arrays, {}), path or file.path.name)
    try:
        if layer not in layer_names():
            get_layer(layer)
        known = get_layer(layer).config
        config = {**read_config(live, layer, arrays), **settled.config_of(path, known)}
        assumed = ("heads",) if "heads" in known and "heads" not in config else ()
        if _is_canonical(layer, arrays):
            weights = live._canonical(layer, get_layer(layer, config).weights)
        else:
            layout(layer, config)
            weights = canonical_weights(layer, config, arrays, str(file.path))
    except (Unsupported, ConformanceError) as error:
        return Held(path, layer, unsupported=str(error), arrays=names)
    own = Own(layer, config, {n: np.asarray(a, np.float64) for n, a in weights.items()})
    recorded = INPUT in arrays and get_layer(layer, config).output in arrays
    subject = live if recorded else None
    inputs = live._inputs(layer, config) if recorded else {}
    return Held(path, layer, subject, inputs, arrays=names, assumed=assumed, own=own, dtype=live.dtype)


def read_config(live: MatLive, layer: str, arrays: Arrays) -> dict[str, Any]:
    """The config that the file's properties say."""
    if INPUT in arrays or layer not in OPTIONS:
        return live._config(layer)
    made = {n: read(arrays[p]) for p, (n, read) in OPTIONS[layer].items() if p in arrays}
    if layer == "conv2d" and "Weights" in arrays and arrays["Weights"].ndim == 5:
        made["groups"] = arrays["Weights"].shape[4]
    return made


def _is_canonical(layer: str, arrays: Iterable[str]) -> bool:
    needed = {n for n in get_layer(layer).weights if not n.endswith("?")}
    return bool(needed) and needed <= set(arrays)


def layout_subjects(request: Request) -> list[str]:
    """MATLAB's own layer. Raises Unsupported where it has none, or not with these options or in this dtype."""
    layout(request.layer, request.config)
    if request.layer not in SUBJECTS:
        raise Unsupported(f"MATLAB's {request.layer} has no weights")
    if request.dtype not in ("float64", "float32"):
        raise Unsupported(f"MATLAB has no {request.dtype} weights")
    grouped = request.layer == "conv2d" and request.config.get("groups", 1) != 1
    return ["groupedConvolution2dLayer" if grouped else SUBJECTS[request.layer]]


def stored(request: Request) -> dict[str, NDArray[Any]]:
    """The learnable parameters by MATLAB's property names, and the options that a reader needs."""
    arrays = matlab_arrays(request.layer, request.config, request.weights)
    if request.layer == "multi_head_attention":
        arrays["NumHeads"] = np.full((1, 1), request.config["heads"], np.float64)
    if request.layer == "layer_norm":
        arrays["Epsilon"] = np.full((1, 1), request.config["epsilon"], np.float64)
    return arrays


def write_weights(path: Path, arrays: Arrays) -> None:
    """A file of version 5, a struct for each layer."""
    from scipy.io import savemat

    made: dict[str, Any] = {}
    for name, array in arrays.items():
        *parts, leaf = [_field(part) for part in name.split(".")]
        held = made
        for part in parts:
            held = held.setdefault(part, {})
        held[leaf] = array
    savemat(path, made, appendmat=False, long_field_names=True)


def _field(name: str) -> str:
    """A name that a field of a struct may have, as MATLAB's makeValidName makes it."""
    plain = re.sub(r"\W", "_", name)
    return plain if re.match(r"[A-Za-z]", plain) else f"x{plain}"


def path_of(fields: str) -> str:
    """The path that fields of structs stand for: `layers.x0` is `layers.0`."""
    return re.sub(r"(?<![^.])x(?=\d)", "", fields)
