"""Known divergences: data beside an adapter, with the evidence, and strict.

`known_divergences/<adapter>.toml` in the adapter's package lists `[[divergence]]` entries: fixtures, step,
reason, link, and optionally subject, dtypes, versions (of the framework, as a version specifier) and
conventions (the diagnosis that must come out). One that no longer diverges fails the run.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from conformance.errors import ConformanceError

if TYPE_CHECKING:
    from conformance.adapter import Adapter
    from conformance.result import Case


@dataclass(frozen=True)
class Divergence:
    """One entry: a fault of one cause. Empty `subject`, `dtypes` or `versions` stand for all; `conventions`
    is the diagnosis that must come out, or None where any may.
    """

    adapter: str
    fixtures: tuple[str, ...]
    step: str
    reason: str
    link: str
    subject: str = ""
    dtypes: tuple[str, ...] = ()
    versions: Mapping[str, str] | None = None
    conventions: tuple[str, ...] | None = None

    def covers(self, case: Case, environment: Mapping[str, str]) -> bool:
        """Whether the entry speaks of this case, with these versions."""
        if case.fixture not in self.fixtures or self.subject not in ("", case.subject):
            return False
        if self.dtypes and case.dtype not in self.dtypes:
            return False
        return all(_within(environment.get(package), wanted) for package, wanted in (self.versions or {}).items())

    def matches(self, case: Case) -> bool:
        """Whether a diverging case diverges as the entry says: at its step, with its diagnosis."""
        named = tuple(f"{f.convention} = {f.value}" for f in case.diagnosis)
        return case.culprit == self.step and self.conventions in (None, named)


def _within(version: str | None, wanted: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return version is not None and SpecifierSet(wanted).contains(version, prereleases=True)


def known(adapter: Adapter) -> list[Divergence]:
    """The entries of `adapter`. Raises ConformanceError for a file that is not right."""
    package = type(adapter).__module__.partition(".")[0]
    file = resources.files(package).joinpath("known_divergences", f"{adapter.name}.toml")
    if not file.is_file():
        return []
    try:
        rows: list[dict[str, Any]] = tomllib.loads(file.read_text(encoding="utf-8")).get("divergence", [])
        return [
            Divergence(
                adapter=adapter.name,
                fixtures=tuple(row["fixtures"]),
                step=row["step"],
                reason=row["reason"],
                link=row["link"],
                subject=row.get("subject", ""),
                dtypes=tuple(row.get("dtypes", ())),
                versions=row.get("versions"),
                conventions=tuple(row["conventions"]) if "conventions" in row else None,
            )
            for row in rows
        ]
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise ConformanceError(f"known_divergences/{adapter.name}.toml: {error}") from None


def resolved(case: Case, entries: list[Divergence], environment: Mapping[str, str]) -> Case:
    """`case` with `known-divergence` or `stale-divergence` where an entry covers it."""
    import msgspec

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
