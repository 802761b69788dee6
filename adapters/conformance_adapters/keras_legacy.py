"""Keras's older HDF5 files, of Keras 2 and of `model.save("model.h5")`: variables by name, layers by the groups' names.

A whole model's file has the model's config too, from which each layer has its class and options; a file of weights
alone has neither, and a layer is told by the names of its variables. The model itself is not made, and nothing in the
file is run. Source: `keras/src/legacy/saving/legacy_h5_format.py` of Keras 3.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance.errors import ConformanceError
from conformance_adapters.keras_file import require_no_code
from conformance_adapters.keras_hdf5 import Hdf5
from conformance_adapters.keras_made import Group

if TYPE_CHECKING:
    from numpy.typing import NDArray

Variables = dict[str, "NDArray[Any]"]
Config = tuple[str, Mapping[str, Any]]
_MODEL = "model_weights"
_INSIDE = {
    "query": "query_dense",
    "key": "key_dense",
    "value": "value_dense",
    "attention_output": "output_dense",
}  # of an attention: its parts' names, and what the attributes of Keras 3 are called
_KINDS = {
    ("embeddings",): "embedding",
    ("gamma", "beta"): "layer_normalization",
    ("gamma", "beta", "moving_mean", "moving_variance"): "batch_normalization",
    ("scale",): "rms_normalization",
    ("alpha",): "p_re_lu",
}
_WRAPPERS = ("TimeDistributed", "Bidirectional", "Functional", "Sequential", "Model")
_GATES = {4: "lstm", 3: "gru", 1: "simple_rnn"}


def is_legacy(file: Hdf5) -> bool:
    """Whether the variables in the file have names."""
    return bool(file.names(_root(file), "layer_names"))


def layers_in(path: Path, file: Hdf5) -> Iterator[Group]:
    """The layers with variables. Raises ConformanceError where the file does not hold together, or has code in it."""
    root, configs = _root(file), _configs(path, file)
    for layer in (*file.names(root, "layer_names"), "top_level_model_weights"):
        group = f"{root}/{layer}" if root else layer
        parts: dict[str, Variables] = {}
        for name in file.names(group, "weight_names"):
            array = file.arrays.get(f"{group}/{name}")
            if array is None:
                raise ConformanceError(f"{path}: there is no {group}/{name}, which it names; write it again")
            owner, _, leaf = name.removesuffix(":0").rpartition("/")
            parts.setdefault(owner or layer, {})[leaf] = array
        for owner, insides in _together(parts).items():
            yield _group(_path(layer, owner), insides, configs)


def _root(file: Hdf5) -> str:
    return _MODEL if _MODEL in file.attributes else ""


def _configs(path: Path, file: Hdf5) -> list[tuple[str, Config]]:
    """The name, the class and the options of every layer in the model's config; none where there is no config."""
    said = file.attributes.get("", {}).get("model_config")
    if said is None:
        return []
    try:
        whole = json.loads(said, object_hook=_without_calls)
        require_no_code(path, whole)
        found = []
        waiting = [whole]
        while waiting:
            item = waiting.pop()
            if isinstance(item, dict):
                kind, options = item.get("class_name"), item.get("config")
                if isinstance(kind, str) and isinstance(options, dict) and isinstance(options.get("name"), str):
                    found.append((options["name"], (kind, options)))
                waiting += item.values()
            elif isinstance(item, list):
                waiting += item
        return found
    except (ValueError, TypeError, RecursionError) as error:
        raise ConformanceError(f"{path}: its model_config is no config of a model ({error}); write it again") from error


def _without_calls(table: dict[str, Any]) -> dict[str, Any]:
    """A layer's table but for where its inputs come from."""
    return {n: v for n, v in table.items() if n != "inbound_nodes"}


def _together(parts: Mapping[str, Variables]) -> dict[str, dict[str, Variables]]:
    """What belongs to one layer: the cell of a recurrent one, the projections of an attention."""
    attention = {
        owner.rpartition("/")[0]
        for owner in parts
        if owner.rpartition("/")[2] == "query" and f"{owner.rpartition('/')[0]}/attention_output" in parts
    }
    made: dict[str, dict[str, Variables]] = {}
    for owner, variables in parts.items():
        above, _, last = owner.rpartition("/")
        if above in attention and last in _INSIDE:
            made.setdefault(above, {})[_INSIDE[last]] = variables
        elif "recurrent_kernel" in variables and re.search(r"cell(_\d+)?$", last):
            made.setdefault(above, {})["cell"] = variables
        elif "recurrent_kernel" in variables:  # of a Keras that did not name the cell
            made.setdefault(owner, {})["cell"] = variables
        else:
            made.setdefault(owner, {})[""] = variables
    return made


def _path(layer: str, owner: str) -> str:
    """Where a layer lies in the model: below the one whose group it is in."""
    parts = owner.split("/")
    parts = parts[parts.index(layer) :] if layer in parts else [layer, *parts]
    return ".".join(p for p in parts if p != "top_level_model_weights")


def _group(path: str, insides: Mapping[str, Variables], configs: list[tuple[str, Config]]) -> Group:
    name = path.rpartition(".")[2]
    said: list[Config] = []
    # In a Bidirectional, the config of Keras 2 has one layer, and by its name of before.
    names = {name, re.sub("^(forward|backward)_", "", name)} if "cell" in insides else {name}
    for known, config in configs:
        if known in names and config[0] not in _WRAPPERS and config not in said:
            said.append(config)
    kind, options = (_snake(said[0][0]), said[0][1]) if len(said) == 1 else (_told(name, insides), None)
    if name.startswith("backward_") and "cell" in insides:
        options = {**(options or {}), "go_backwards": True}
    numbered = {inner: dict(enumerate(variables.values())) for inner, variables in insides.items()}
    return Group(path, kind, numbered, options)


def _snake(kind: str) -> str:
    """The name of a class as Keras spells it in paths: `LayerNormalization` is `layer_normalization`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z\d])(?=[A-Z][a-z])", "_", re.sub(r"\W+", "", kind)).lower()


def recurrent(kernel: NDArray[Any] | None, state: NDArray[Any] | None) -> str:
    """The class of a recurrent layer by the number of its gates."""
    if kernel is None or state is None or state.ndim != 2 or not state.size or state.shape[1] % state.shape[0]:
        return "recurrent layer"
    return _GATES.get(state.shape[1] // state.shape[0], "recurrent layer")


def _told(name: str, insides: Mapping[str, Variables]) -> str:
    """The class that has such variables, as Keras spells it in paths; the layer's own name where none is known."""
    if set(insides) == set(_INSIDE.values()):
        return "multi_head_attention"
    if "cell" in insides:
        return recurrent(insides["cell"].get("kernel"), insides["cell"]["recurrent_kernel"])
    variables = insides[""]
    kernel, bias = variables.get("kernel"), variables.get("bias")
    if kernel is not None and set(variables) <= {"kernel", "bias"}:
        shape, axes = kernel.shape, kernel.ndim - 2
        if axes == 0:
            return "dense"
        if bias is None or bias.shape == shape[-1:]:
            return f"conv{axes}d"
        return f"depthwise_conv{axes}d" if bias.shape == (prod(shape[-2:]),) else f"conv{axes}d_transpose"
    if "depthwise_kernel" in variables:
        kind = "separable" if "pointwise_kernel" in variables else "depthwise"
        return f"{kind}_conv{variables['depthwise_kernel'].ndim - 2}d"
    return _KINDS.get(tuple(variables), name)
