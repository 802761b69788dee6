"""What a run would do, so that one which goes on with another's cases does the same."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Mapping
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
    for name in sorted({*saved.versions, *now.versions}):
        before, here = saved.versions.get(name), now.versions.get(name)
        if before != here:
            return f"it was made with {name} {before or 'absent'}, and here is {here or 'none'}"
    for what, before_all, here_all in (
        ("fixture", saved.fixtures, now.fixtures),
        ("adapter", saved.adapters, now.adapters),
    ):
        for name in sorted({*before_all, *here_all}):
            if name not in here_all:
                return f"it has the {what} {name}, which is not asked for now"
            if name not in before_all:
                return f"it does not have the {what} {name}, which is asked for now"
            if before_all[name] != here_all[name]:
                changed = "its files" if what == "fixture" else "its known divergences"
                return f"the {what} {name} is another by now: {changed} were changed"
    for what, listed, asked in (("dtype", saved.dtypes, now.dtypes), ("mode", saved.modes, now.modes)):
        if set(listed) != set(asked):
            return f"it has the {what}s {', '.join(listed)}, and asked for now are {', '.join(asked)}"
    if set(saved.cases) != set(now.cases):
        other = sorted(set(saved.cases) ^ set(now.cases), key=lambda p: p.file)[0]
        whose = "it has a case" if other in set(saved.cases) else "it does not have the case"
        return (
            f"{whose} of {other.subject or other.layer} on {other.fixture} in {other.dtype}, unlike what is asked for"
        )
    return None


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
