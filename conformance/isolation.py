"""A check, diff or export in a process of its own: frameworks, and the user's code, are not in the command's own.

What it prints goes to standard error, and its end is no more than a crashed case.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from conformance.difference import Difference
from conformance.errors import ConformanceError
from conformance.result import Case, Run

if TYPE_CHECKING:
    from conformance.exporting import Export


def checked(subject: str, layer: str | None, options: Mapping[str, Any]) -> Run:
    """`check` (or, without a layer, `check_model`) of the subject that a string names, as a run.

    Raises what they raise; where the process dies, the run is one crashed case.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(_checked, subject, layer, dict(options)).result()
        except BrokenProcessPool:
            from conformance.checking import run_of

            case = Case(
                layer=layer or "model",
                fixture="",
                adapter=options.get("adapter") or "",
                subject=subject,
                dtype=options.get("dtype") or "",
                status="crashed",
                message="the process in which it ran died: what it said last is on standard error",
            )
            return run_of([case], {}, 0.0)


def _checked(subject: str, layer: str | None, options: dict[str, Any]) -> Run:
    os.dup2(2, 1)  # what a user's file prints is not the command's result
    sys.stdout = sys.stderr
    from conformance.checking import check_model, checked_run
    from conformance.progress import Progress

    with Progress(f"checking {subject}") as progress:
        if layer is None:
            of_a_model = {k: v for k, v in options.items() if k not in ("weights", "config")}
            return check_model(subject, **of_a_model, progress=progress.step)
        return checked_run(subject, layer, **options)


def differed(a: str, b: str, options: Mapping[str, Any]) -> Difference:
    """`diff` of the subjects that two strings name. Raises what it raises; ConformanceError where the process dies."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(_differed, a, b, dict(options)).result()
        except BrokenProcessPool:
            raise ConformanceError(
                f"the process in which {a} and {b} ran died: what it said last is on standard error"
            ) from None


def _differed(a: str, b: str, options: dict[str, Any]) -> Difference:
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    from conformance.diffing import diff
    from conformance.progress import Progress

    with Progress("comparing"):
        return diff(a, b, **options)


def exported(source: str, output: str, options: Mapping[str, Any]) -> Export:
    """`export` of a file. Raises what it raises; ConformanceError where the process dies."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(_exported, source, output, dict(options)).result()
        except BrokenProcessPool:
            raise ConformanceError(
                f"the process that read {source} died: what it said last is on standard error"
            ) from None


def _exported(source: str, output: str, options: dict[str, Any]) -> Export:
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    from conformance.exporting import export
    from conformance.progress import Progress

    with Progress(f"converting {source}") as progress:
        return export(source, output, **options, progress=progress.of)
