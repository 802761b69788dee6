"""The vocabulary of diagnosis: on what implementations of one layer are known to differ.

The data are `conventions.toml`. An id such as `attention.scale` is, in oracle code, the keyword
`attention_scale`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

CONFIG = "<config>"


@dataclass(frozen=True)
class Variant:
    """Another choice that someone really made; `seen` says where."""

    value: str
    kind: str
    seen: str


@dataclass(frozen=True)
class Convention:
    """A choice: its id, the oracle's own (`canonical`), and the `variants`.

    `steps` maps a layer to the first step whose value the choice changes; `"*"` stands for all layers.
    """

    id: str
    kind: str
    layers: tuple[str, ...]
    steps: Mapping[str, str]
    canonical: str
    variants: tuple[Variant, ...]
    note: str

    @property
    def keyword(self) -> str:
        """The name of the oracle's keyword for it."""
        return self.id.replace(".", "_").replace("-", "_")

    def step(self, layer: str) -> str:
        """The first step of `layer` that the choice changes."""
        return self.steps.get(layer, self.steps.get("*", "*"))


@cache
def conventions() -> Mapping[str, Convention]:
    """All conventions, by id, in the order of the data."""
    text = resources.files("conformance").joinpath("conventions.toml").read_text(encoding="utf-8")
    made = {}
    for row in tomllib.loads(text)["convention"]:
        step = row["step"]
        made[row["id"]] = Convention(
            id=row["id"],
            kind=row["kind"],
            layers=tuple(row["layers"]),
            steps=step if isinstance(step, dict) else {"*": step},
            canonical=row["canonical"],
            variants=tuple(Variant(v["value"], v.get("kind", row["kind"]), v["seen"]) for v in row["variants"]),
            note=row.get("note", ""),
        )
    return made


def by_keyword(keyword: str) -> Convention | None:
    """The convention behind an oracle keyword."""
    return next((c for c in conventions().values() if c.keyword == keyword), None)


def of_layer(layer: str) -> list[Convention]:
    """The conventions that name `layer`."""
    return [c for c in conventions().values() if layer in c.layers or "*" in c.layers]
