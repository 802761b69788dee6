"""Reports: entry points in the group `conformance.reports`, each a function of a run.

A report for a file is pure, `render(run) -> str | bytes`; one for a screen takes the console as well. A
third party ships one by declaring the entry point.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance.atomic import replacing
from conformance.errors import ConformanceError
from conformance.layer import nearest

if TYPE_CHECKING:
    from conformance.difference import Difference
    from conformance.result import Run

GROUP = "conformance.reports"


def report_names() -> list[str]:
    """The names of the installed reports, without loading any."""
    return sorted({e.name for e in metadata.entry_points(group=GROUP)})


def load(name: str) -> Callable[..., Any]:
    """The report called `name`; no other is imported. Raises ConformanceError for an unknown one."""
    for entry in metadata.entry_points(group=GROUP, name=name):
        report: Callable[..., Any] = entry.load()
        return report
    names = report_names()
    raise ConformanceError(f"unknown report {name!r}{nearest(name, names)}; installed are {', '.join(names)}")


def write(name: str, run: Run | Difference, path: str | os.PathLike[str]) -> None:
    """Render `run` with the file report called `name` and put it at `path`: all of it, or nothing.

    The file is written beside its place and then moved there, so that a reader never sees half of it and
    an earlier one stays where anything fails. What is no regular file (a pipe, `/dev/stdout`) is written
    to directly. Raises ConformanceError for an unknown name, a report that is not for files, and a place
    that cannot be written.
    """
    report = load(name)
    try:
        inspect.signature(report).bind(run)
    except TypeError:
        raise ConformanceError(f"the report {name!r} is for a screen and cannot be written to a file") from None
    rendered: str | bytes = report(run)
    _put(rendered.encode() if isinstance(rendered, str) else rendered, Path(path))


def _put(content: bytes, path: Path) -> None:
    if path.is_dir():
        raise ConformanceError(f"{path} is a folder: name a file in it")
    if not path.parent.is_dir():
        raise ConformanceError(f"{path}: the folder {path.parent} does not exist; make it first")
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
        else:
            _replace(content, path.resolve())
    except OSError as error:
        raise ConformanceError(f"{path} cannot be written: {error.strerror or error}") from None


def _replace(content: bytes, path: Path) -> None:
    with replacing(path) as beside, beside.open("xb") as file:
        file.write(content)
