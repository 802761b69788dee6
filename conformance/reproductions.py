"""Reproductions: scripts beside an adapter that show a divergence with the framework alone, for its maintainers.

`reproductions/index.toml` in the adapters' package lists a `[[reproduction]]` for each: the script, its layer and step,
versions of the framework, the numbers expected and got, what they are confirmed by, and the upstream issue, or when
none was found. The script's docstring says in its first line what is wrong. It exits with 0 where it still is, and with
1 where it is not.
"""

from __future__ import annotations

import ast
from importlib import resources

import msgspec

from conformance.toml import decode

FOLDER = "reproductions"


class Reproduction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One script, and what it printed with these versions.

    `confirmed` says what else gives the expected numbers: documentation, or other frameworks, which were run.
    `issue` is the upstream issue of this defect, `related` one of another symptom or part; `searched` is the month in
    which none was found. `shares` is an earlier script whose cause is this one's too.
    """

    script: str
    layer: str
    step: str
    versions: dict[str, str]
    expected: str
    got: str
    confirmed: str = ""
    issue: str = ""
    related: str = ""
    searched: str = ""
    shares: str = ""


class _Index(msgspec.Struct, forbid_unknown_fields=True):
    reproduction: list[Reproduction] = []


def reproductions(package: str) -> list[Reproduction]:
    """Those of the adapters' `package`. Raises ConformanceError for an index that is not right."""
    index = resources.files(package).joinpath(FOLDER, "index.toml")
    if not index.is_file():
        return []
    advice = "`[[reproduction]]` with script, layer, step, versions, expected and got is what it has"
    return decode(index.read_bytes(), _Index, f"{FOLDER}/index.toml", advice).reproduction


def source(package: str, script: str) -> str:
    """The text of the script."""
    return resources.files(package).joinpath(FOLDER, script).read_text(encoding="utf-8")


def claim(text: str) -> str:
    """What the script with this `text` says is wrong: the first line of its docstring."""
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
