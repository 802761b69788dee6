"""`conformance.toml`: what a repository has judged, what of it may diverge, and what its gate lets pass.

[run]                            # the fixtures; options of the command go before these
adapters = ["torch"]
dtypes = ["float32"]

[[subject]]
name = "attention"
subject = "model.py:Attention"   # as `check` takes it; a path is relative to this file
layer = "multi_head_attention"   # left out: every known layer in it
config = { heads = 8 }

[[divergence]]
subject = "attention"
step = "scaled"
conventions = ["attention.scale = 1"]
reason = "the weights were trained with it"

[[rule]]                         # as in the policy of a gate
change = "drift"
above = 0.5
verdict = "fail"
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from conformance.conventions import conventions
from conformance.errors import ConformanceError
from conformance.layer import nearest
from conformance.layers import layer_names
from conformance.policy import Policy, Rule
from conformance.result import Case, Run, summarise
from conformance.sample import thinned

FILE = "conformance.toml"
MOST_BYTES = 2**20
MODELS = (".onnx", ".keras", ".pt2")
"""The files that `init` lists: those that hold a model with all that it takes to run it."""


class Fixtures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which fixtures `run` runs where its options say nothing. Lists that are left out stand for all; an empty list of
    fixtures for none."""

    fixtures: tuple[str, ...] | None = None
    layers: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()


class Subject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One subject, as `check` takes it."""

    name: str
    subject: str
    layer: str | None = None
    weights: str | None = None
    inputs: str | None = None
    config: dict[str, Any] = {}
    adapter: str | None = None
    dtype: str | None = None
    decomposed: bool = False

    def __post_init__(self) -> None:
        if not self.name or not self.subject:
            raise ValueError("a subject has a name, and a file or file.py:Name")
        if self.layer is not None and self.layer not in layer_names():
            raise ValueError(f"there is no layer {self.layer!r}{nearest(self.layer, layer_names())}")
        if self.layer is None and (self.config or self.weights):
            raise ValueError(f"config and weights belong to one layer: {self.name!r} names none")


class Allowed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A divergence of a subject that is known, and why. It is strict: it has to diverge, and in this way."""

    subject: str
    step: str
    reason: str
    layer: str = ""
    conventions: tuple[str, ...] | None = None
    dtypes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for named in self.conventions or ():
            convention = named.partition(" = ")[0]
            if convention not in conventions():
                raise ValueError(f"there is no convention {convention!r}{nearest(convention, list(conventions()))}")

    def covers(self, case: Case) -> bool:
        """Whether it speaks of this case."""
        return (
            self.subject == case.subject
            and self.layer in ("", case.layer)
            and (not self.dtypes or case.dtype in self.dtypes)
        )

    def matches(self, case: Case) -> bool:
        """Whether a diverging case diverges in this way."""
        named = tuple(f"{f.convention} = {f.value}" for f in case.diagnosis)
        return self.step == case.culprit and self.conventions in (None, named)


class Project(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file. `run` is None where it has no such table."""

    run: Fixtures | None = None
    subject: tuple[Subject, ...] = ()
    divergence: tuple[Allowed, ...] = ()
    rule: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        names = [s.name for s in self.subject]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two subjects are called {name!r}; give each a name of its own")
        for allowed in self.divergence:
            if allowed.subject.partition(": ")[0] not in names:
                raise ValueError(
                    f"a divergence is of {allowed.subject!r}, which is no subject{nearest(allowed.subject, names)}"
                )

    @property
    def policy(self) -> Policy:
        """The gate's rules."""
        return Policy(self.rule)


def read_project(path: str | os.PathLike[str]) -> Project:
    """The project in the file at `path`. Raises ConformanceError where it is missing or not right."""
    file = Path(path)
    try:
        with file.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConformanceError(
            f"{file} cannot be read: {error.strerror or error}; `conformance init` writes one"
        ) from None
    if len(content) > MOST_BYTES:
        raise ConformanceError(f"{file} has more than {MOST_BYTES // 2**20} MiB: it is no {FILE}")
    try:
        return msgspec.toml.decode(content, type=Project)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ConformanceError(f"{file} is not right ({error}); `conformance init` shows what it can have") from None


def judged(project: Project, folder: Path, names: Iterable[str] = ()) -> Iterator[tuple[list[Case], dict[str, str]]]:
    """The cases of each subject (of those called `names`, if any), and what they ran on; each in a process of its own.

    Paths are relative to `folder`. Raises ConformanceError for a name that there is not; what goes wrong with a subject
    is its case's status.
    """
    from conformance.isolation import checked

    wanted = list(names)
    known = [s.name for s in project.subject]
    for name in wanted:
        if name not in known:
            raise ConformanceError(
                f"{FILE} has no subject {name!r}{nearest(name, known)}; it has {', '.join(known) or 'none'}"
            )
    for subject in project.subject:
        if wanted and subject.name not in wanted:
            continue
        options = {
            "adapter": subject.adapter,
            "inputs": _beside(folder, subject.inputs),
            "weights": _beside(folder, subject.weights),
            "config": subject.config,
            "dtype": subject.dtype,
            "decomposed": subject.decomposed,
        }
        try:
            run = checked(str(folder / subject.subject), subject.layer, options)
        except ConformanceError as error:
            message, layer = str(error), subject.layer or "model"
            failed = Case(layer=layer, fixture="", adapter=subject.adapter or "", subject=subject.name,
                          dtype=subject.dtype or "", status="error", message=message)  # fmt: skip
            yield [failed], {}
            continue
        cases = [_named(case, subject) for case in run.cases]
        yield [_resolved(case, project.divergence) for case in cases], run.environment


def joined(run: Run, more: Iterable[tuple[list[Case], dict[str, str]]]) -> Run:
    """`run` with further cases, and with what they ran on."""
    cases, environment = list(run.cases), dict(run.environment)
    for judged_cases, versions in more:
        cases += judged_cases
        environment |= versions
    return msgspec.structs.replace(
        run, cases=thinned(cases), summary=summarise(cases), environment=dict(sorted(environment.items()))
    )


def _beside(folder: Path, path: str | None) -> Path | None:
    return None if path is None else folder / path


def _named(case: Case, subject: Subject) -> Case:
    """The case under the project's name; a layer of a model has its path after it."""
    name = subject.name if subject.layer is not None else f"{subject.name}: {case.subject}"
    return msgspec.structs.replace(case, subject=name)


def _resolved(case: Case, allowed: Iterable[Allowed]) -> Case:
    for entry in allowed:
        if not entry.covers(case):
            continue
        if case.status == "diverges" and entry.matches(case):
            return msgspec.structs.replace(case, status="known-divergence", message=entry.reason)
        if case.status == "conforms":
            stale = f"listed as diverging at {entry.step}, and conforms: take the entry out of {FILE} ({entry.reason})"
            return msgspec.structs.replace(case, status="stale-divergence", message=stale)
    return case


def first(folder: Path) -> str:
    """A first `conformance.toml` for the repository in `folder`: with the models that are in it."""
    lines = [
        "# What `conformance run` and `conformance gate` judge in this folder.",
        "",
        "[run]",
        "fixtures = []            # of the frameworks' own layers: none; take the line out for all of them",
        "",
    ]
    found = _models(folder)
    for path in found:
        lines += ["[[subject]]", f"name = {_quoted(path.stem)}", f"subject = {_quoted(path.as_posix())}", ""]
    example = [
        "[[subject]]",
        'name = "attention"',
        'subject = "model.py:Attention"   # a class, an object or a function; or a .onnx, .keras or .pt2 file',
        'layer = "multi_head_attention"   # `conformance list layers`; left out: every known layer in it',
        "config = { heads = 8 }",
        '# weights = "weights.safetensors"',
        '# inputs = "inputs.npz"',
        "",
        "[[divergence]]                   # what may diverge, and why",
        'subject = "attention"',
        'step = "scaled"',
        'conventions = ["attention.scale = 1"]',
        'reason = "the weights were trained with it"',
        "",
        "[[rule]]                         # what the gate lets pass, beside its own rules",
        'change = "drift"',
        "above = 0.5                      # tolerances",
        'verdict = "fail"',
    ]
    lines += [f"# {line}".rstrip() for line in example]
    return "\n".join(lines) + "\n"


def _models(folder: Path) -> list[Path]:
    """Model files in the folder and in those in it, by path; as many as one looks through."""
    named = [p.relative_to(folder) for pattern in ("*", "*/*") for p in folder.glob(pattern) if p.suffix in MODELS]
    chosen: dict[str, Path] = {}
    for path in sorted(p for p in named if not any(part.startswith(".") for part in p.parts)):
        chosen.setdefault(path.stem, path)
    return list(chosen.values())[:20]


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()  # a basic string of TOML is one of JSON
