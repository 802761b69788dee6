"""Fixtures: a layer with its config, inputs and weights, as data.

A fixture is a folder with a `fixture.toml` and array files. Entry points in the group
`conformance.fixtures` name packages that offer `folders()`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from conformance.errors import ConformanceError
from conformance.layer import nearest
from conformance.toml import MOST_BYTES, decode

if TYPE_CHECKING:
    from numpy.typing import NDArray

GROUP = "conformance.fixtures"


@dataclass(frozen=True)
class Shipped:
    """A subject that comes with a fixture: a file in its folder, for one adapter, in some dtypes."""

    adapter: str
    subject: str
    dtypes: tuple[str, ...]


@dataclass(frozen=True)
class Fixture:
    """One form of a fixture. `id` is the folder's name, with `/form` where it has several forms.

    With `defaults`, what its config does not say is left to the framework, whose own defaults are then what is judged.
    """

    id: str
    layer: str
    config: Mapping[str, Any]
    summary: str
    source: str
    folder: Path
    arrays: str
    shipped: tuple[Shipped, ...]
    defaults: bool = False

    def load(self) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """Its inputs and its weights, by canonical name."""
        import numpy as np

        from conformance.arrays import read_arrays

        groups: dict[str, dict[str, NDArray[Any]]] = {"inputs": {}, "weights": {}}
        for key, array in read_arrays(self.folder / self.arrays).items():
            group, _, name = key.partition(".")
            if group not in groups:
                raise ConformanceError(
                    f"{self.folder / self.arrays}: {key!r} is neither an input nor a weight; call it "
                    f"'inputs.{key}' or 'weights.{key}'"
                )
            groups[group][name] = array.astype(np.float64) if array.dtype.kind == "f" else array
        return groups["inputs"], groups["weights"]


@cache
def fixtures() -> Mapping[str, Fixture]:
    """All installed fixtures by id, in the order of their packages."""
    found: dict[str, Fixture] = {}
    for entry in sorted(metadata.entry_points(group=GROUP), key=lambda e: e.name):
        for folder in import_module(entry.value).folders():
            found |= {f.id: f for f in read_folder(folder)}
    return found


class _Subject(msgspec.Struct):
    adapter: str
    subject: str
    dtypes: tuple[str, ...] = ("float32", "float64")


class _Form(msgspec.Struct):
    arrays: str
    name: str = ""
    summary: str | None = None
    config: dict[str, Any] = {}
    defaults: bool = False
    subject: list[_Subject] = []


class _Manifest(msgspec.Struct):
    layer: str
    summary: str
    source: str
    form: list[_Form]


def read_folder(folder: Path) -> list[Fixture]:
    """The forms of the fixture in `folder`. Raises ConformanceError for a manifest that is not right, and for one
    whose arrays are not in its folder.
    """
    manifest = folder / "fixture.toml"
    try:
        with manifest.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise ConformanceError(f"{folder}: there is no fixture.toml; a fixture needs one") from None
    except OSError as error:
        raise ConformanceError(f"{manifest}: cannot be read ({error.strerror or error}); check the file") from None
    said = decode(content, _Manifest, str(manifest), "a fixture has layer, summary, source, and forms with arrays")
    return [_form(folder, manifest, said, form) for form in said.form]


def _form(folder: Path, manifest: Path, said: _Manifest, form: _Form) -> Fixture:
    try:
        inside = (folder / form.arrays).resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError):  # no name of a file
        inside = False
    if not inside or len(form.arrays) > 255:
        raise ConformanceError(f"{manifest}: the arrays {form.arrays!r} are not in its own folder; put them there")
    return Fixture(
        id=f"{folder.name}/{form.name}" if form.name else folder.name,
        layer=said.layer,
        config=form.config,
        summary=said.summary if form.summary is None else form.summary,
        source=said.source,
        folder=folder,
        arrays=form.arrays,
        shipped=tuple(Shipped(s.adapter, s.subject, s.dtypes) for s in form.subject),
        defaults=form.defaults,
    )


def select(names: list[str]) -> list[Fixture]:
    """The fixtures called `names` (a folder's name stands for all of its forms); all where none is named.

    Raises ConformanceError for an unknown name, with the nearest.
    """
    known = fixtures()
    if not names:
        return list(known.values())
    chosen: dict[str, Fixture] = {}
    for name in names:
        matching = {i: f for i, f in known.items() if i == name or i.startswith(f"{name}/")}
        if not matching:
            every = [*known, *{i.partition("/")[0] for i in known}]
            raise ConformanceError(
                f"unknown fixture {name!r}{nearest(name, every)}; `conformance list fixtures` has them all"
            )
        chosen |= matching
    return list(chosen.values())
