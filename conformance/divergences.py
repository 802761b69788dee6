"""Known divergences: data beside an adapter, with the evidence, and strict.

`known_divergences/<adapter>.toml` in the adapter's package lists `[[divergence]]` entries: fixtures, step,
reason, link, and optionally subject, dtypes, modes, versions (of the framework, as a version specifier),
conventions (the diagnosis that must come out) and script (which shows it, in the folder `reproductions`).
One that no longer diverges fails the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module, resources
from typing import TYPE_CHECKING

import msgspec

from conformance.toml import decode

ANY_STEP = "*"  # for a whole layer in a coarser arithmetic: where it first shows is a matter of rounding

if TYPE_CHECKING:
    from conformance.adapter import Adapter
    from conformance.result import Case


class Divergence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry: a fault of one cause. Empty `subject`, `dtypes`, `modes` or `versions` stand for all;
    `conventions` is the diagnosis that must come out, or None where any may; `script`, the name of its reproduction.
    """

    fixtures: tuple[str, ...]
    step: str
    reason: str
    link: str
    subject: str = ""
    dtypes: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    versions: dict[str, str] = {}
    conventions: tuple[str, ...] | None = None
    script: str = ""

    def __post_init__(self) -> None:
        from packaging.specifiers import InvalidSpecifier, SpecifierSet

        if self.step == ANY_STEP and not self.conventions:
            raise ValueError("an entry for any step needs the conventions that come out, or it would excuse everything")
        for package, wanted in self.versions.items():
            try:
                SpecifierSet(wanted)
            except InvalidSpecifier:
                raise ValueError(f"{wanted!r} is no version range of {package}; write it as in '==1.31.*'") from None

    def covers(self, case: Case, environment: Mapping[str, str]) -> bool:
        """Whether the entry speaks of this case, with these versions."""
        if case.fixture not in self.fixtures or self.subject not in ("", case.subject):
            return False
        if (self.dtypes and case.dtype not in self.dtypes) or (self.modes and case.mode not in self.modes):
            return False
        return all(_within(environment.get(package), wanted) for package, wanted in self.versions.items())

    def matches(self, case: Case) -> bool:
        """Whether a diverging case diverges as the entry says: at its step, with its diagnosis."""
        named = tuple(f"{f.convention} = {f.value}" for f in case.diagnosis)
        return self.step in (ANY_STEP, case.culprit) and self.conventions in (None, named)


class _File(msgspec.Struct, forbid_unknown_fields=True):
    divergence: list[Divergence] = []


def _within(version: str | None, wanted: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return version is not None and SpecifierSet(wanted).contains(version, prereleases=True)


def known(adapter: Adapter) -> list[Divergence]:
    """The entries of `adapter`. Raises ConformanceError for a file that is not right."""
    return listed(adapter.name, type(adapter).__module__)


def listed(name: str, module: str) -> list[Divergence]:
    """The entries of the adapter called `name`, which is in `module`: nothing of it is imported but the package."""
    package = import_module(module.partition(".")[0])
    if not hasattr(package, "__path__"):
        return []  # a single module has no data beside it
    file = resources.files(package).joinpath("known_divergences", f"{name}.toml")
    if not file.is_file():
        return []
    return entries(file.read_bytes(), f"known_divergences/{name}.toml")


def entries(content: bytes, name: str) -> list[Divergence]:
    """The entries in the content of the file `name`. Raises ConformanceError for one that is not right."""
    return decode(
        content, _File, name, "`[[divergence]]` with fixtures, step, reason and link is what it has"
    ).divergence


def resolved(case: Case, entries: list[Divergence], environment: Mapping[str, str]) -> Case:
    """`case` with `known-divergence` or `stale-divergence` where an entry covers it."""
    for entry in entries:
        if not entry.covers(case, environment):
            continue
        if case.status == "diverges" and entry.matches(case):
            said = f"{entry.reason} ({entry.link})" if entry.link else entry.reason
            return msgspec.structs.replace(case, status="known-divergence", message=said)
        if case.status == "conforms":
            stale = f"listed as diverging at {entry.step}, and conforms: take the entry out ({entry.reason})"
            return msgspec.structs.replace(case, status="stale-divergence", message=stale)
    return case
