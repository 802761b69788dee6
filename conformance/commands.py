"""What the commands do. Every heavy import is inside a function: `--help` and `list` must be quick."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance.errors import ConformanceError

if TYPE_CHECKING:
    from typing import TypeVar

    from conformance.difference import Difference
    from conformance.project import Project
    from conformance.result import Run
    from conformance.saving import Saving

    Result = TypeVar("Result", bound=Run | Difference)

FILES = {
    "json": "JSON",
    "html": "one HTML page",
    "junit": "JUnit XML, for a CI server",
    "markdown": "Markdown, for a pull request or a job's summary",
}
"""The reports that are files: the option, and what it writes."""

_SELECTING = ("layer", "adapter", "fixture", "dtype", "mode", "subject")  # options of `run` that say what is run
_WRITING = (*FILES, "save", "resume")


def run(options: argparse.Namespace) -> int:
    """Run fixtures, and the subjects of the project; with `--save` or `--resume`, into a folder."""
    # The workers need the cores: threads of the judge's own that wait for one another only slow both down.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from conformance.interruption import interruptible

    files = _asked_files(options)
    if options.save is None and options.resume is None:
        with interruptible(ending=options.alone):
            result = _result(options, None)
            _told(result, options, files)
        return _exit_code(result, options.adapter)
    from contextlib import closing

    from conformance.report import load
    from conformance.saving import Saving

    asked = {name: getattr(options, name) for name in _SELECTING}
    command = ["conformance", *_without_files(options.words)]
    begun = Saving.begin(options.save, command, asked) if options.save is not None else Saving.again(options.resume)
    with interruptible(ending=options.alone), closing(begun) as saving:
        if not any(asked.values()):
            vars(options).update({name: saving.asked.get(name, []) for name in _SELECTING})
        try:
            result = _result(options, saving)
            saving.finish(load("json")(_commanded(result, saving.command)))
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"what is done is saved, go on with --resume {saving.folder}") from None
        _told(result, options, files, saving.command)
    return _exit_code(result, options.adapter)


def _result(options: argparse.Namespace, saving: Saving | None) -> Run:
    """The fixtures that were asked for, by the options or by the project; its subjects, unless fixtures alone were."""
    from conformance.fixture import select
    from conformance.progress import Progress
    from conformance.project import Fixtures, joined, judged
    from conformance.run import run as run_all

    project, folder = _project(options)
    narrowed = bool(options.fixture or options.layer)
    usual = (project.run if project is not None else None) or Fixtures()
    none = bool(options.subject) or (usual.fixtures == () and not narrowed)
    with Progress("starting") as progress:
        result = run_all(
            [] if none else select(options.fixture or ([] if narrowed else list(usual.fixtures or ()))),
            options.adapter or usual.adapters,
            options.dtype or usual.dtypes or ["float32", "float64"],
            options.layer or ([] if narrowed else usual.layers),
            modes=options.mode or usual.modes or ["eager"],
            jobs=options.jobs,
            timeout=options.timeout,
            memory=options.memory,
            progress=progress.step,
            saving=saving,
        )
    if project is None or (narrowed and not options.subject):
        return result
    return joined(result, judged(project, folder, options.subject))


def _project(options: argparse.Namespace) -> tuple[Project | None, Path]:
    """The project that was named, or that of the folder in which the command is run, and where it is."""
    from conformance.project import FILE, read_project

    named = options.project or Path(FILE)
    if options.project is None and not named.is_file():
        if getattr(options, "subject", None):
            raise ConformanceError(
                f"--subject names a subject of {FILE}, and there is none here: `conformance init` writes one"
            )
        return None, Path()
    return read_project(named), named.parent


def init(options: argparse.Namespace) -> int:
    """Write a first conformance.toml."""
    from conformance.project import FILE, first

    path = options.folder / FILE
    if not options.folder.is_dir():
        raise ConformanceError(f"{options.folder} is no folder: name one that is there")
    text = first(options.folder)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConformanceError(f"{path} is there already, and is left as it is") from None
    except OSError as error:
        raise ConformanceError(f"{path} cannot be written: {error.strerror or error}") from None
    print(f"{path} is written: name your layers in it, then `conformance run`")
    return 0


def check(options: argparse.Namespace) -> int:
    """Judge a subject as one layer, or every known layer in it."""
    from conformance.isolation import checked
    from conformance.layers import get_layer

    files = _asked_files(options)
    if options.layer is None and (options.config or options.weights):
        raise ConformanceError("--config and --weights belong to one layer: name it with --layer")
    if options.layer is not None and options.layer != "sequential":
        get_layer(options.layer)  # an unknown one is told before anything is loaded
    asked = {
        "adapter": options.adapter,
        "inputs": options.inputs,
        "weights": options.weights,
        "config": dict(_setting(text) for text in options.config),
        "dtype": options.dtype,
        "decomposed": options.decomposed,
    }
    result = checked(options.subject, options.layer, asked)
    _told(result, options, files)
    return result.exit_code


def diff(options: argparse.Namespace) -> int:
    """Put two models beside one another."""
    from conformance.isolation import differed

    files = _asked_files(options)
    asked = {
        "inputs": options.inputs,
        "adapters": (options.adapter_a, options.adapter_b),
        "dtype": options.dtype,
    }
    found = differed(options.subject_a, options.subject_b, asked)
    _told(found, options, files)
    return found.exit_code


def export(options: argparse.Namespace) -> int:
    """Convert weights, and show what became of each layer."""
    from rich.console import Console

    from conformance.export_table import show
    from conformance.isolation import exported

    asked = {"layers": options.layer, "to": options.to, "config": _configs(options.config)}
    found = exported(options.source, str(options.output), asked)
    show(found, Console())
    return found.exit_code


def _told(
    result: Run | Difference, options: argparse.Namespace, files: dict[str, Path], command: list[str] | None = None
) -> None:
    """Show the result, and write it to the files, with the command that it is of: this one, where none is given."""
    from rich.console import Console

    from conformance.report import load, write

    result = _commanded(result, command or ["conformance", *_without_files(options.words)])
    load("terminal")(result, Console())
    for name, path in files.items():
        write(name, result, path)


def _commanded(result: Result, command: list[str]) -> Result:
    import msgspec

    return msgspec.structs.replace(result, command=command)


def _without_files(words: list[str]) -> list[str]:
    """The words of a command line without the options that write files."""
    kept: list[str] = []
    waiting = iter(words)
    for word in waiting:
        if word in [f"--{name}" for name in _WRITING]:
            next(waiting)
        elif not word.startswith(tuple(f"--{name}=" for name in _WRITING)):
            kept.append(word)
    return kept


def gate(options: argparse.Namespace) -> int:
    """Put a run beside its baseline."""
    from conformance.gating import gate as gated
    from conformance.gating import recorded, rerun
    from conformance.policy import Policy, read_policy
    from conformance.progress import Progress
    from conformance.project import joined, judged

    files = _asked_files(options)
    project, folder = _project(options)
    policy = project.policy if project is not None else Policy()
    policy = policy if options.policy is None else read_policy(options.policy)
    baseline, before = recorded(options.baseline)
    if options.candidate is not None:
        candidate, now = recorded(options.candidate)
        found = gated(baseline, candidate, policy, (before, now))
    else:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in `run`
        with Progress("starting") as progress:
            candidate = rerun(baseline, progress.step)
        if project is not None:
            had = {case.subject.partition(": ")[0] for case in baseline.cases if not case.fixture}
            candidate = joined(candidate, judged(project, folder, [s.name for s in project.subject if s.name in had]))
        if not candidate.cases:
            raise ConformanceError(
                f"{options.baseline} has no case of a fixture or of a subject of conformance.toml, which could be run "
                "again: give --candidate"
            )
        found = gated(baseline, candidate, policy)
    _told(found, options, files)
    return found.exit_code


def upgrade(options: argparse.Namespace) -> int:
    """Run two versions of a framework, and put them beside one another."""
    from conformance.fixture import select
    from conformance.policy import Policy, read_policy
    from conformance.progress import Progress
    from conformance.run import chosen_adapters
    from conformance.upgrading import upgrade as upgraded

    files = _asked_files(options)
    policy = Policy() if options.policy is None else read_policy(options.policy)
    select(options.fixture)  # an unknown one is told before any environment is made
    adapters = chosen_adapters(options.adapter) if options.adapter else []
    selection = [
        word
        for name in ("layer", "fixture", "dtype")
        for value in getattr(options, name)
        for word in (f"--{name}", value)
    ]
    with Progress(f"{options.old} and {options.new}"):
        found = upgraded(options.old, options.new, adapters=adapters, selection=selection, policy=policy)
    _told(found, options, files)
    return found.exit_code


def report(options: argparse.Namespace) -> int:
    """It renders and does not judge: 0, whatever the result says."""
    from conformance.reading import read
    from conformance.report import load, write

    files = _asked_files(options)
    result = read(options.result)
    for name, path in files.items():
        write(name, result, path)
    if not files:
        from rich.console import Console

        load("terminal")(result, Console())
    return 0


def _setting(text: str) -> tuple[str, Any]:
    """`heads=8` as a name and a value: a number, true, false, none, a list, a table, or else a word."""
    import tomllib

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConformanceError(f"--config {text}: give it as name=value, such as heads=8")
    if value.lower() == "none":
        return name, None
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name, value


def _configs(texts: list[str]) -> dict[str, dict[str, Any]]:
    """`heads=8` of every layer, `encoder.attention.heads=8` of one: by its path, and by `""`."""
    made: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, value = _setting(text)
        path, _, option = name.rpartition(".")
        made.setdefault(path or ("." if name.startswith(".") else ""), {})[option] = value
    return made


def _exit_code(result: Run, named: list[str]) -> int:
    """The run's exit code; a framework that was asked for by name and is not there counts as a failure."""
    return result.exit_code or (3 if named and result.summary.get("unavailable") else 0)


def _asked_files(options: argparse.Namespace) -> dict[str, Path]:
    """The files to write, by the report's name; what would fail after the work is done is refused at once."""
    files = {name: path for name in FILES if (path := getattr(options, name)) is not None}
    for path in files.values():
        folder = path.parent
        if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
            raise ConformanceError(f"{path}: cannot be written; give a file in a folder that exists and is writable")
    return files


def list_(options: argparse.Namespace) -> int:
    """List layers, adapters and so on."""
    from conformance import catalogue

    for line in catalogue.lines(options.what):
        print(line)
    return 0


def explain(options: argparse.Namespace) -> int:
    """Show a layer."""
    from conformance.catalogue import explanation

    for line in explanation(options.layer):
        print(line)
    return 0
