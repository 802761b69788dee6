"""What a run would do, so that one which goes on with another's cases does the same."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from conformance import __version__
from conformance.saved import Plan, Planned

if TYPE_CHECKING:
    from conformance.adapter import Adapter
    from conformance.divergences import Divergence
    from conformance.fixture import Fixture
    from conformance.result import Case


def plan_of(
    fixtures: Iterable[Fixture],
    adapters: Mapping[str, Adapter],
    entries: Mapping[str, list[Divergence]],
    cases: Iterable[Case],
) -> Plan:
    """The plan of a run of `fixtures` on `adapters`, whose known divergences are `entries`: it comes to `cases`."""
    planned = [Planned.of(case) for case in cases]
    return Plan(
        fixtures={f.id: _digest(f.folder) for f in fixtures},
        adapters={name: hashlib.sha256(msgspec.json.encode(entries[name])).hexdigest() for name in adapters},
        dtypes=list(dict.fromkeys(p.dtype for p in planned)),
        modes=list(dict.fromkeys(p.mode for p in planned)),
        versions={
            "conformance": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "machine": platform.machine(),
            **dict(sorted(_packages(adapters.values()).items())),
        },
        cases=planned,
    )


def parted(saved: Plan, now: Plan) -> str | None:
    """In which respect two plans are not the same, in words; None where they are."""
    return next(_differences(saved, now), None)


def _differences(saved: Plan, now: Plan) -> Iterator[str]:
    """What was asked for, what it is, and what it is done with, in the order in which a reader would want to know."""
    named = (("adapter", saved.adapters, now.adapters), ("fixture", saved.fixtures, now.fixtures))
    for what, before, here in named:
        for name in sorted(before.keys() ^ here.keys()):
            asked = "which is not asked for now" if name in before else "which is asked for now"
            yield f"it {'has' if name in before else 'does not have'} the {what} {name}, {asked}"
    for what, listed, wanted in (("dtype", saved.dtypes, now.dtypes), ("mode", saved.modes, now.modes)):
        if set(listed) != set(wanted):
            yield f"it has the {what}s {', '.join(listed)}, and asked for now are {', '.join(wanted)}"
    for name in sorted(saved.versions.keys() | now.versions.keys()):
        made, there = saved.versions.get(name), now.versions.get(name)
        if made != there:
            made = f"with {name} {made}" if made else f"without {name}"
            yield f"it was made {made}, and here is {there or 'none'}"
    for what, before, here in named:
        changed = "its files" if what == "fixture" else "its known divergences"
        for name in sorted(n for n in before if before[n] != here.get(n)):
            yield f"the {what} {name} is another by now: {changed} were changed"
    for other in sorted(set(saved.cases) ^ set(now.cases), key=lambda p: p.file):
        whose = "it has a case" if other in saved.cases else "it does not have the case"
        yield f"{whose} of {other.subject or other.layer} on {other.fixture} in {other.dtype}, unlike what is asked for"


@cache
def _digest(folder: Path) -> str:
    """The SHA-256 of all files of a fixture, with their names; what Python and editors leave beside them is none."""
    digest = hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = file.relative_to(folder)
        if not any(part.startswith((".", "__pycache__")) for part in name.parts):
            digest.update(f"{name.as_posix()}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def _packages(adapters: Iterable[Adapter]) -> dict[str, str]:
    """The versions of the packages that adapters require and that are installed, without importing any."""
    names = {module.partition(".")[0] for adapter in adapters for module in adapter.requires}
    found: dict[str, str] = {}
    for name in sorted(names):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # a package may bring modules of other names: onnxruntime-gpu
            for package in _brought().get(name, ()):
                found[package] = metadata.version(package)
    return found


@cache
def _brought() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()
