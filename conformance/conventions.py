"""The vocabulary of diagnosis: on what implementations of one layer are known to differ.

The data are `conventions.toml`. An id such as `attention.scale` is, in oracle code, the keyword
`attention_scale`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources

CONFIG = "<config>"
NUMBER = "<other>"


@dataclass(frozen=True)
class Variant:
    """Another choice that someone really made; `seen` says where, `formulas` are as a convention's."""

    value: str
    kind: str
    seen: str
    formulas: Mapping[str, str] = field(default_factory=dict)

    def formula(self, layer: str) -> str:
        """What this choice makes of the step in `layer`; empty where no formula says it. `{value}` stands for the
        number that was found, `{canonical}` for what the layer has instead."""
        return self.formulas.get(layer, self.formulas.get("*", ""))


@dataclass(frozen=True)
class Convention:
    """A choice: its id, the oracle's own (`canonical`), and the `variants`.

    `steps` maps a layer to the first step whose value the choice changes, `formulas` to what the canonical choice
    makes of it; `"*"` stands for all layers. `entry` is the config entry that it is about, where the id does not
    name it.
    """

    id: str
    kind: str
    layers: tuple[str, ...]
    steps: Mapping[str, str]
    canonical: str
    variants: tuple[Variant, ...]
    note: str
    formulas: Mapping[str, str] = field(default_factory=dict)
    entry: str = ""

    @property
    def config(self) -> str:
        """The name of the config entry that may ask for one of the choices."""
        return self.entry or self.id.rpartition(".")[2].replace("-", "_")

    @cached_property
    def keyword(self) -> str:
        """The name of the oracle's keyword for it."""
        return self.id.replace(".", "_").replace("-", "_")

    def step(self, layer: str) -> str:
        """The first step of `layer` that the choice changes."""
        return self.steps.get(layer, self.steps.get("*", "*"))

    def formula(self, layer: str) -> str:
        """What the canonical choice makes of the step in `layer`; empty where no formula says it. `{canonical}`
        stands for what the layer that was asked for has."""
        return self.formulas.get(layer, self.formulas.get("*", ""))

    def compared(self, layer: str, value: str, canonical: str) -> tuple[str, str]:
        """The formulas in `layer` under `value` and under `canonical`, both filled in; empty where there is none.

        `canonical` is what was asked for: it may be another than the oracle's default, or a number.
        """
        own = self.formula(layer)
        here = self._formula_under(value, layer)
        there = own if "{canonical}" in own else self._formula_under(canonical, layer)
        return (
            here.replace("{value}", value).replace("{canonical}", value if here == own else canonical),
            there.replace("{value}", canonical).replace("{canonical}", canonical),
        )

    def _formula_under(self, value: str, layer: str) -> str:
        if value == self.canonical:
            return self.formula(layer)
        named = {v.value: v for v in self.variants}
        variant = named.get(value, named.get(NUMBER))
        return "" if variant is None else variant.formula(layer)


@cache
def conventions() -> Mapping[str, Convention]:
    """All conventions, by id, in the order of the data."""
    text = resources.files("conformance").joinpath("conventions.toml").read_text(encoding="utf-8")
    made = {}
    for row in tomllib.loads(text)["convention"]:
        made[row["id"]] = Convention(
            id=row["id"],
            kind=row["kind"],
            layers=tuple(row["layers"]),
            steps=_by_layer(row["step"]),
            canonical=row["canonical"],
            variants=tuple(
                Variant(v["value"], v.get("kind", row["kind"]), v["seen"], _by_layer(v.get("formula", "")))
                for v in row["variants"]
            ),
            note=row.get("note", ""),
            formulas=_by_layer(row.get("formula", "")),
            entry=row.get("config", ""),
        )
    return made


def _by_layer(said: str | dict[str, str]) -> dict[str, str]:
    return said if isinstance(said, dict) else {"*": said}


def by_keyword(keyword: str) -> Convention | None:
    """The convention behind an oracle keyword."""
    return _by_keyword().get(keyword)


@cache
def _by_keyword() -> Mapping[str, Convention]:
    return {c.keyword: c for c in conventions().values()}


def of_layer(layer: str) -> list[Convention]:
    """The conventions that name `layer`."""
    return [c for c in conventions().values() if layer in c.layers or "*" in c.layers]
