"""A `.keras` file: a zip archive of a model's config and weights. Nothing in it is ever run."""

from __future__ import annotations

import json
import textwrap
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conformance.errors import ConformanceError

_KERAS = {"keras", "keras_hub", "keras_cv", "keras_nlp", "keras_rs", "builtins", "numpy"}


def load(path: Path) -> Any:
    """The model in the file.

    Raises ConformanceError where the file is broken, holds Python code, or needs a class that this process lacks.
    """
    import keras

    config = _config(path)
    for what in _coded(config):
        raise ConformanceError(
            f"{path}: its {what} is Python code, which is not run from a file; load the model in a script of "
            "yours that you trust (keras.saving.load_model with safe_mode=False), and check what it returns"
        )
    for module, name, registered in _classes(config):
        # Older versions of Keras would import the module that the file names.
        if module.partition(".")[0] not in _KERAS and keras.saving.get_registered_object(registered) is None:
            raise ConformanceError(
                f"{path}: it has a {name!r} of {module}, which is not registered with Keras in this process; "
                "load the model in a script that imports that class, and check what it returns"
            )
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever a damaged or foreign file leads it to
        innermost = str(error).rpartition("Exception encountered: ")[2].strip()
        said = textwrap.shorten((innermost.splitlines() or [type(error).__name__])[0], 200)
        raise ConformanceError(f"{path}: Keras {keras.__version__} cannot load it ({said}); write it anew") from error


def _config(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("config.json"))
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        said = str(error).strip("'\"") or type(error).__name__
        raise ConformanceError(
            f"{path}: not a .keras file that can be read ({said}); write it with model.save"
        ) from error


def _nested(config: Any) -> Iterator[dict[str, Any]]:
    """Every table in a model's config."""
    if isinstance(config, dict):
        yield config
    for value in config.values() if isinstance(config, dict) else config if isinstance(config, list) else ():
        yield from _nested(value)


def _coded(config: Any) -> Iterator[str]:
    """What in a model's config stands for Python code: a Lambda layer, or a function without a name."""
    for table in _nested(config):
        kind, value = table.get("class_name"), table.get("value")
        if kind == "Lambda":
            yield f"Lambda layer {(table.get('config') or {}).get('name', '')!r}"
        elif kind == "__lambda__" or (len(table) == 1 and isinstance(value, list) and str in map(type, value[:1])):
            yield "function without a name"


def _classes(config: Any) -> Iterator[tuple[str, str, str]]:
    """The classes and functions that a config names: module, name, and the name under which it was registered."""
    for table in _nested(config):
        module, name = table.get("module"), table.get("class_name")
        if isinstance(module, str) and isinstance(name, str):
            yield module, name, str(table.get("registered_name") or name)
