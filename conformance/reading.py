"""Results read again from the JSON files that runs and diffs write.

A file may come from anywhere. What reports rely on and the types do not say (statuses, numbers that are not finite, a
summary that is the cases') is looked at here, so that no report meets a result that could not have been written.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from conformance import difference
from conformance.difference import Difference
from conformance.errors import ConformanceError
from conformance.gated import CHANGES, Gated, GatedCase, counted
from conformance.result import HISTOGRAM, STATUSES, Run, Sample, summarise

SCHEMA = 1
"""The schema version that is written and read."""
MOST_BYTES = 256 * 2**20
"""Ten times what a run of every fixture on every adapter writes, and more: a larger file is none of ours."""
_DEPTH = 16  # of lists and tables in a config
_NOT_FINITE = ("inf", "-inf", "nan")


class _Kind(msgspec.Struct):
    """What tells the files apart."""

    schema: int
    cases: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    pairs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    changes: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


def read_run(path: str | os.PathLike[str]) -> Run:
    """The run that `--json` wrote to `path`. Raises what `read` raises, and for any other result."""
    found = read(path)
    if isinstance(found, Difference | Gated):
        raise ConformanceError(f"{path} is the result of a {'diff' if isinstance(found, Difference) else 'gate'}: "
                               "give what `run` or `check` wrote")  # fmt: skip
    return found


def read(path: str | os.PathLike[str]) -> Run | Difference:
    """The run, gate or difference that `--json` wrote to `path`.

    A folder stands for the run that `--save` wrote there. Raises ConformanceError for a file that is missing or cannot
    be read, is no JSON, has another schema version, or is no result, and for a folder without a saved run.
    """
    if Path(path).is_dir():
        from conformance.saved import open_saved

        return open_saved(path).run
    return read_file(path)


def read_file(path: str | os.PathLike[str]) -> Run | Difference:
    """As `read`, of a file."""
    content = _content(Path(path))
    try:
        kind = msgspec.json.decode(content, type=_Kind)
        if kind.schema != SCHEMA:
            raise ConformanceError(
                f"{path} has schema {kind.schema}, and this version of conformance reads {SCHEMA}: "
                f"use the version that wrote it, or write it again"
            )
        is_gate, is_diff = kind.changes is not msgspec.UNSET, kind.pairs is not msgspec.UNSET
        wanted: type[Run] | type[Difference] = Gated if is_gate else Difference if is_diff else Run
        found: Run | Difference = msgspec.json.decode(content, type=wanted)
    except msgspec.ValidationError as error:
        raise _no_result(path, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConformanceError(f"{path} is not JSON ({error}): give a file that --json wrote") from None
    except RecursionError:
        raise _no_result(path, "it is nested too deeply") from None
    for wrong in faults(found):
        raise _no_result(path, wrong)
    return found


def _no_result(path: str | os.PathLike[str], why: str) -> ConformanceError:
    return ConformanceError(f"{path} is no result of conformance ({why}): give a file that --json wrote")


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise ConformanceError(f"{path}: there is no such file; give one that --json wrote") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConformanceError(f"{path} cannot be read: {reason}; give a file that --json wrote") from None
    if len(content) > MOST_BYTES:
        raise ConformanceError(f"{path} has more than {MOST_BYTES // 2**20} MiB: give a file that --json wrote")
    return content


def faults(found: Run | Difference) -> Iterator[str]:
    """What the types of a result do not say and yet is wrong with it."""
    figures: Iterator[float | str]
    if isinstance(found, Difference):
        if found.status not in difference.STATUSES:
            yield f"a diff has no status {found.status!r}"
        if found.rounding not in difference.ROUNDINGS:
            yield f"nothing is judged by the rounding of {found.rounding!r}"
        figures = _figures_of_difference(found)
    else:
        for number, case in enumerate(found.cases):
            if case.status not in STATUSES:
                yield f"case {number} has the status {case.status!r}, which there is not"
            if _deeper(case.config, _DEPTH):
                yield f"the config of case {number} is nested more than {_DEPTH} deep"
            for step in case.steps:
                if step.sample is not None and not _fits(step.sample):
                    yield f"the sample of {step.name!r} in case {number} does not have the sizes that it says"
        if found.summary != summarise([case for case in found.cases if getattr(case, "change", "") != "gone"]):
            yield "its summary is not that of its cases"
        if isinstance(found, Gated):
            yield from _faults_of_gate(found)
        figures = _figures_of_run(found)
    for figure in figures:
        if isinstance(figure, str) and figure not in _NOT_FINITE:
            yield f"{figure!r} stands where a number belongs"


def _faults_of_gate(found: Gated) -> Iterator[str]:
    for number, case in enumerate(found.cases):
        if case.change not in CHANGES:
            yield f"case {number} became {case.change!r}, which there is not"
        if case.baseline is not None and case.baseline.status not in STATUSES:
            yield f"the baseline of case {number} has the status {case.baseline.status!r}, which there is not"
    if found.changes != counted(found.cases) or found.failing != sum(case.fails for case in found.cases):
        yield "its changes are not those of its cases"


def _deeper(value: Any, most: int) -> bool:
    """Whether lists and tables are more than `most` deep in one another: a page of it could not be written."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(most == 0 or _deeper(v, most - 1) for v in inner if isinstance(v, dict | list))


def _fits(sample: Sample) -> bool:
    """Whether a sample has as many values as it says, and lies within its step."""
    held = {len(sample.oracle), len(sample.observed), len(sample.difference)}
    axes = list(zip(sample.start, sample.size, sample.shape, strict=False))
    return (
        len(sample.start) == len(sample.size) == len(sample.shape)
        and all(start >= 0 < size and start + size <= whole for start, size, whole in axes)
        and held == {math.prod(sample.size)}
        and len(sample.histogram) == len(HISTOGRAM) + 1
        and min(sample.histogram) >= 0
        and sum(sample.histogram) == math.prod(sample.shape) < 2**63
    )


def _figures_of_run(run: Run) -> Iterator[float | str]:
    for case in run.cases:
        if isinstance(case, GatedCase):
            told_before = (case.baseline.ratio if case.baseline else None, case.drift.ratio if case.drift else None)
            largest = case.drift.max_abs if case.drift else None
            yield from (figure for figure in (*told_before, largest) if figure is not None)
        for step in case.steps:
            for told in (step.isolated, step.accumulated):
                if told is not None:
                    yield from (told.ratio, told.max_abs, told.max_rel)
            if step.sample is not None:
                yield from (*step.sample.oracle, *step.sample.observed, *step.sample.difference)


def _figures_of_difference(found: Difference) -> Iterator[float | str]:
    for told in (found.output, found.first.figures if found.first is not None else None):
        if told is not None:
            yield from (told.ratio, told.max_abs, told.max_rel)
