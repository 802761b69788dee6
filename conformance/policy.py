"""What a gate lets pass: a TOML file of rules, the last that fits a case decides.

[[rule]]
change = ["drift"]          # any of these; left out: any change
adapter = ["onnxruntime"]   # likewise: layer, fixture, dtype, mode, subject; `*` stands for any text
above = 4.0                 # drift of more tolerances than this
verdict = "fail"            # or "pass"
reason = "why"
"""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import msgspec

from conformance.errors import ConformanceError
from conformance.gated import CHANGES, GatedCase
from conformance.layer import nearest
from conformance.toml import MOST_BYTES, decode

FAILS = ("regressed", "changed-default", "crashed", "gone", "changed-divergence")
"""The changes that fail where no policy says otherwise."""

_Words = tuple[str, ...] | str


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule. A field that is left out fits everything."""

    verdict: Literal["pass", "fail"]
    change: _Words = ()
    layer: _Words = ()
    fixture: _Words = ()
    adapter: _Words = ()
    subject: _Words = ()
    dtype: _Words = ()
    mode: _Words = ()
    convention: _Words = ()
    above: float | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        for change in _several(self.change):
            if change not in CHANGES:
                known = ", ".join(CHANGES)
                raise ValueError(f"there is no change {change!r}{nearest(change, CHANGES)}; it can be {known}")

    def fits(self, case: GatedCase) -> bool:
        """Whether the rule speaks of this case."""
        if self.above is not None and (case.drift is None or float(case.drift.ratio) <= self.above):
            return False
        if self.convention and not any(_any(self.convention, moved.convention) for moved in case.moved):
            return False
        named = ("change", "layer", "fixture", "adapter", "subject", "dtype", "mode")
        return all(_any(getattr(self, name), getattr(case, name)) for name in named)


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rules, in order."""

    rule: tuple[Rule, ...] = ()

    def fails(self, case: GatedCase) -> bool:
        """Whether the gate must not let `case` pass."""
        fitting = [rule.verdict for rule in self.rule if rule.fits(case)]
        return fitting[-1] == "fail" if fitting else case.change in FAILS


def read_policy(path: str | os.PathLike[str]) -> Policy:
    """The policy in the TOML file at `path`. Raises ConformanceError where it is missing or not right."""
    file = Path(path)
    try:
        with file.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConformanceError(f"{file} cannot be read: {error.strerror or error}; give a policy in TOML") from None
    return decode(content, Policy, f"{file} is no policy", "`[[rule]]` with a verdict is what a policy has")


def _several(words: _Words) -> tuple[str, ...]:
    return (words,) if isinstance(words, str) else words


def _any(patterns: _Words, text: str) -> bool:
    wanted = _several(patterns)
    return not wanted or any(fnmatchcase(text, pattern) for pattern in wanted)
