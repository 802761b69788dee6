"""A `.keras` file: a zip archive of a model's config and weights. Nothing in it is ever run."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conformance.errors import ConformanceError


def load(path: Path) -> Any:
    """The model in the file. Raises ConformanceError where the file is broken, or holds Python code."""
    import keras

    for kind, name in _coded(_config(path)):
        raise ConformanceError(
            f"{path}: its {kind} {name!r} is Python code, which is not run from a file; load the model in a script of "
            "yours that you trust (keras.saving.load_model with safe_mode=False), and check what it returns"
        )
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever a damaged or foreign file leads it to
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConformanceError(
            f"{path}: Keras {keras.__version__} cannot load it ({said}); a model with classes of your own is loaded "
            "by a script that imports them, and named as script.py:function"
        ) from error


def _config(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("config.json"))
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, zipfile.error) as error:
        said = str(error).strip("'\"") or type(error).__name__
        raise ConformanceError(
            f"{path}: not a .keras file that can be read ({said}); write it with model.save"
        ) from error


def _coded(config: Any) -> Iterator[tuple[str, str]]:
    """What in a model's config stands for Python code: (what it is, its name)."""
    if isinstance(config, dict):
        kind = config.get("class_name")
        if kind == "__lambda__":
            yield "function", "lambda"
        elif kind == "Lambda":
            yield "Lambda layer", str((config.get("config") or {}).get("name", "Lambda"))
        for value in config.values():
            yield from _coded(value)
    elif isinstance(config, list):
        for value in config:
            yield from _coded(value)
