"""An upgrade, tried before it is made: both versions, each in its own environment, the same cases, and a gate."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.adapter import adapter_names, load
from conformance.environment import environment
from conformance.errors import ConformanceError
from conformance.gating import gate, recorded
from conformance.layer import nearest

if TYPE_CHECKING:
    from conformance.gated import Gated
    from conformance.policy import Policy

_FAMILY = {"keras": "keras-jax"}
"""The adapter that stands for a package of several where none of the others is named: its back end is the lightest."""


@dataclass(frozen=True)
class Side:
    """One side of an upgrade: packages in pinned versions, by name."""

    versions: dict[str, str]

    @property
    def requirements(self) -> list[str]:
        """As pip writes them."""
        return [f"{name}=={version}" if version else name for name, version in self.versions.items()]


def side(text: str) -> Side:
    """`onnxruntime==1.22.1` or `keras==3.3.3,jax==0.6.2,packaging`. Raises ConformanceError for anything else."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    versions: dict[str, str] = {}
    for word in filter(None, (w.strip() for w in text.split(","))):
        try:
            wanted = Requirement(word)
        except InvalidRequirement as error:
            raise ConformanceError(
                f"{word!r} is no package and version ({error}); write it as in 'jax==0.6.2'"
            ) from None
        pins = list(wanted.specifier)
        if wanted.url or wanted.marker or len(pins) > 1 or (pins and pins[0].operator != "=="):
            raise ConformanceError(f"{word!r} is not one version of one package; write it as in 'jax==0.6.2'")
        name = str(canonicalize_name(wanted.name))
        if name in versions:
            raise ConformanceError(f"{name} is named twice in {text!r}; give it once")
        versions[name] = pins[0].version if pins else ""
    if not any(versions.values()):
        raise ConformanceError(f"{text!r} names no version; write it as in 'jax==0.6.2'")
    return Side(versions)


def concerned(old: Side, new: Side) -> list[str]:
    """The adapters of the packages that are named. Raises ConformanceError where there is none."""
    named = {*old.versions, *new.versions}
    requires = {name: set(load(name).requires) for name in adapter_names()}
    found = [name for name, modules in requires.items() if modules <= named]
    for package in sorted(named - {module for name in found for module in requires[name]}):
        able = [name for name, modules in requires.items() if package in modules]
        chosen = _FAMILY.get(package)
        found += [chosen] if chosen in able else able if package == "numpy" else able[:1] if able else []
    if not found:
        packages = sorted({module for modules in requires.values() for module in modules})
        close = next((nearest(name, packages) for name in sorted(named)), "")
        raise ConformanceError(
            f"no adapter is for {', '.join(sorted(named))}{close}; name one with --adapter, or a package of "
            f"{', '.join(packages)}"
        )
    return list(dict.fromkeys(found))


def upgrade(
    old: str,
    new: str,
    *,
    adapters: Iterable[str] = (),
    selection: Sequence[str] = (),
    policy: Policy | None = None,
) -> Gated:
    """The cases of `adapters` (those of the packages named, if none is) with `old` and with `new`, and a gate on them.

    `selection` are further words for `conformance run`. Raises ConformanceError where an environment cannot be made, or
    a run in it is refused.
    """
    sides = side(old), side(new)
    chosen = list(adapters) or concerned(*sides)
    with tempfile.TemporaryDirectory() as folder:
        saved = [Path(folder) / name for name in ("old", "new")]
        for each, to in zip(sides, saved, strict=True):
            _run(each, chosen, selection, to)
        (baseline, before), (candidate, now) = map(recorded, saved)
        return gate(baseline, candidate, policy, (before, now))


def _run(versions: Side, adapters: Sequence[str], selection: Sequence[str], to: Path) -> None:
    """Run and save, in an environment with `versions`. Raises ConformanceError where nothing comes of it."""
    from packaging.utils import canonicalize_name

    companions = {str(canonicalize_name(module)) for name in adapters for module in load(name).requires}
    python = environment([*versions.requirements, *sorted(companions - set(versions.versions))])
    words = [str(python), "-m", "conformance", "run", "--save", str(to)]
    words += [word for name in adapters for word in ("--adapter", name)] + list(selection)
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    done = subprocess.run(
        words, cwd=to.parent, env=kept, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
    )
    if done.returncode not in (0, 1, 3) or not (to / "run.json").is_file():
        said = " ".join(done.stderr.decode(errors="replace").split())[-600:].removeprefix("conformance: ")
        raise ConformanceError(f"with {', '.join(versions.requirements)} nothing was run: {said}")
