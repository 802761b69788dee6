"""Environments of their own, made by uv: given packages in given versions, and this program beside them.

An environment is made once and kept under the user's cache, in a folder that is named after all that it was made of;
one that is there is used without a network.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata, resources
from pathlib import Path
from urllib.parse import unquote, urlparse

from conformance import __version__
from conformance.errors import ConformanceError

_MADE = "conformance.json"  # in an environment that is whole: what it was made of


def cache() -> Path:
    """Where environments are kept: `$CONFORMANCE_CACHE`, or `conformance` under the user's cache."""
    chosen = os.environ.get("CONFORMANCE_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or (Path.home() / ".cache")
    return Path(base) / "conformance"


def environment(requirements: Sequence[str]) -> Path:
    """The Python of the environment that has `requirements` and this program; it is made where there is none.

    Raises ConformanceError, with uv's own last words, where that fails.
    """
    own = _own()
    asked = {
        "requirements": sorted(requirements),
        "conformance": [own, _digest()],
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    name = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache() / "environments" / name
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if (folder / _MADE).is_file() and python.exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier attempt that did not come to its end
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConformanceError(
            f"{folder.parent} cannot be made: {error.strerror or error}; name another folder in CONFORMANCE_CACHE"
        ) from None
    told = " ".join(sorted(requirements))
    _uv(["venv", "--quiet", "--python", sys.executable, str(folder)], told)
    _uv(["pip", "install", "--quiet", "--python", str(python), own, *requirements], told)
    (folder / _MADE).write_text(json.dumps(asked, indent=1), encoding="utf-8")
    return python


def _uv(words: list[str], told: str) -> None:
    import uv

    done = subprocess.run([uv.find_uv_bin(), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.split())[-600:]
        raise ConformanceError(f"uv cannot make an environment with {told}: {said}")


def _own() -> str:
    """What uv installs this program from: the folder that it was installed from, or the package index."""
    told = metadata.distribution("conformance").read_text("direct_url.json")
    url = json.loads(told).get("url", "") if told else ""
    parsed = urlparse(url)
    if parsed.scheme == "file":
        return unquote(parsed.path)
    return f"conformance @ {url}" if url else f"conformance=={__version__}"


def _digest() -> str:
    """A digest of this program's files: one that was changed needs another environment."""
    digest = hashlib.sha256()
    for package in ("conformance", "conformance_adapters", "conformance_fixtures", "conformance_reports"):
        root = Path(str(resources.files(package)))
        for file in sorted(root.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(root)}\0".encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()
