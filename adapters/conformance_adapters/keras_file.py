"""A `.keras` file: a zip archive of a model's config and weights. Nothing in it is ever run."""

from __future__ import annotations

import copy
import json
import textwrap
import zipfile
import zlib
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from conformance.archive import content, members, most_unpacked
from conformance.errors import ConformanceError
from conformance_adapters.keras_hdf5 import require_plain

_WEIGHTS = "model.weights.h5"
_MEMBERS = (_WEIGHTS, "config.json", "metadata.json")
_BROKEN = (
    OSError,
    zipfile.BadZipFile,
    zlib.error,
    ValueError,
    RuntimeError,
    OverflowError,
    EOFError,
    NotImplementedError,
    RecursionError,
)
_CODE = {"Lambda", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer"}
_FILES = ("vocabulary", "idf_weights")  # of the layers for text: a path, where they are no list
_KERAS = {"keras", "keras_hub", "keras_cv", "keras_nlp", "keras_rs", "builtins", "numpy"}


def load(path: Path) -> Any:
    """The model in the file.

    Raises ConformanceError where the file is broken, holds Python code, or needs a class that this process lacks.
    """
    import keras

    try:
        config = _config(path)
        require_no_code(path, config)
    except (*_BROKEN, KeyError) as error:
        said = str(error.args[0] if isinstance(error, KeyError) else error) or type(error).__name__
        raise ConformanceError(
            f"{path}: not a .keras file that can be read ({said}); write it with model.save"
        ) from error
    for module, name, registered in _classes(config):
        # Older versions of Keras would import the module that the file names.
        if module.partition(".")[0] not in _KERAS and keras.saving.get_registered_object(registered) is None:
            raise ConformanceError(
                f"{path}: it has a {name!r} of {module}, which is not registered with Keras in this process; "
                "load the model in a script that imports that class, and check what it returns"
            )
    try:
        _require_sizes(path, config)
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except ConformanceError:
        raise
    except Exception as error:  # Keras raises whatever a damaged or foreign file leads it to
        innermost = str(error).rpartition("Exception encountered: ")[2].strip()
        said = textwrap.shorten((innermost.splitlines() or [type(error).__name__])[0], 200)
        raise ConformanceError(f"{path}: Keras {keras.__version__} cannot load it ({said}); write it anew") from error


def _config(path: Path) -> Any:
    """The model's config, from an archive whose members are within bounds and whose weights are in itself."""
    with zipfile.ZipFile(path) as archive:
        found = members(path, archive)
        for name in found:
            if name not in _MEMBERS:  # Keras unpacks all of an archive that has more, and leaves it there if it fails
                raise zipfile.BadZipFile(f"it has a member {name!r}; load it in a script, and check what that returns")
        if _WEIGHTS in found:
            require_plain(path, content(archive, found[_WEIGHTS]))
        return json.loads(content(archive, found["config.json"]))


def _require_sizes(path: Path, config: Any) -> None:
    """Raise ConformanceError where the model would have many more weights than the file has room for.

    The layers are made without their variables' values, which is what takes memory.
    """
    import keras

    try:
        scope = keras.StatelessScope(initialize_variables=False)
    except TypeError:  # of a Keras that always makes the values
        return
    with scope:
        model = keras.saving.deserialize_keras_object(copy.deepcopy(config), safe_mode=True)
        declared = sum(prod(v.shape) for v in getattr(model, "variables", ()))
    if declared > most_unpacked(path) // 4:
        raise ConformanceError(
            f"{path}: its layers have {declared} weights, which a file of {path.stat().st_size} bytes does not hold; "
            "write it anew with model.save"
        )


def _nested(config: Any) -> Iterator[dict[str, Any]]:
    """Every table in a model's config, however deep."""
    waiting = [config]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item


def require_no_code(path: Path, config: Any) -> None:
    """Raise ConformanceError where a model's config holds Python code, or leads to another file."""
    for what in _coded(config):
        raise ConformanceError(
            f"{path}: its {what} is code or leads to it, which is not run from a file; load the model in a script of "
            "yours that you trust (keras.saving.load_model with safe_mode=False), and check what it returns"
        )


def _coded(config: Any) -> Iterator[str]:
    """What in a model's config would run code or read another file: a Lambda layer, a function without a name."""
    for table in _nested(config):
        kind, value = table.get("class_name"), table.get("value")
        inner = table.get("config")
        if str(kind) in _CODE or str(table.get("registered_name")) in _CODE:
            yield f"{kind} {(inner.get('name', '') if isinstance(inner, dict) else '')!r}"
        elif isinstance(inner, dict) and any(isinstance(inner.get(name), str) for name in _FILES):
            yield f"{kind} that reads another file"
        elif kind == "__lambda__" or (len(table) == 1 and isinstance(value, list) and str in map(type, value[:1])):
            yield "function without a name"


def _classes(config: Any) -> Iterator[tuple[str, str, str]]:
    """The classes and functions that a config names: module, name, and the name under which it was registered."""
    for table in _nested(config):
        module, name = table.get("module"), table.get("class_name")
        if isinstance(module, str) and isinstance(name, str):
            yield module, name, str(table.get("registered_name") or name)
