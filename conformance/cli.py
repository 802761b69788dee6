"""The command line. Every heavy import is inside a command: `--help` and `list` must be quick.

It is argparse, not typer: typer brings pydantic along where that is installed, and takes as long as NumPy.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from conformance import __version__
from conformance.errors import ConformanceError

if TYPE_CHECKING:
    from typing import TypeVar

    from conformance.difference import Difference
    from conformance.project import Project
    from conformance.result import Run
    from conformance.saving import Saving

    Result = TypeVar("Result", bound=Run | Difference)

LISTS = ("layers", "adapters", "fixtures", "conventions", "divergences", "discrimination")
FILES = {
    "json": "JSON",
    "html": "one HTML page",
    "junit": "JUnit XML, for a CI server",
    "markdown": "Markdown, for a pull request or a job's summary",
}

_SELECTING = ("layer", "adapter", "fixture", "dtype", "mode", "subject")  # options of `run` that say what is run
_WRITING = (*FILES, "save", "resume")


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one sentence, with the nearest choice."""

    def error(self, message: str) -> NoReturn:
        raise ConformanceError(f"{message}; `{self.prog} --help` shows what there is")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            from conformance.layer import nearest

            names = [str(c) for c in action.choices]
            raise ConformanceError(
                f"unknown {action.dest} {value!r}{nearest(value, names)}; it can be {', '.join(names)}"
            )


def parser() -> argparse.ArgumentParser:
    """The command line's options, from which its help and its documentation are made."""
    top = _Parser(
        prog="conformance",
        description="Tells whether two implementations of a neural-network layer compute the same thing, and if not, "
        "in which step they part and which known convention explains it.",
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"conformance {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)

    run = _command(commands, "run", _run, "Run the fixtures on the adapters and judge every step against the oracle.")
    run.epilog = (
        "Exit code: 0 where everything conforms or is a known divergence, 1 where something diverges (or a known "
        "divergence no longer does), 3 where something could not be run, 2 for bad usage or input."
    )
    many: dict[str, Any] = {"action": "append", "default": []}
    run.add_argument("--layer", metavar="LAYER", help="only fixtures of this layer (repeatable)", **many)
    run.add_argument(
        "--adapter",
        metavar="ADAPTER",
        help="only this adapter; `keras` stands for its three back ends (repeatable)",
        **many,
    )
    run.add_argument("--fixture", metavar="FIXTURE", help="only this fixture, or one form of it (repeatable)", **many)
    run.add_argument(
        "--dtype",
        metavar="DTYPE",
        help="float64, float32, bfloat16 or float16 (repeatable; float32 and float64 where none is given)",
        **many,
    )
    run.add_argument(
        "--mode",
        metavar="MODE",
        help="eager (where none is given), or another way in which a framework executes, such as compile, jit, graph, "
        "xla or ort-off; all: every one that an adapter has (repeatable)",
        **many,
    )
    run.add_argument("--jobs", metavar="N", type=_positive(int), help="how many frameworks run at once (one per core)")
    run.add_argument(
        "--timeout", metavar="SECONDS", type=_positive(float), help="how long one case may take in its framework"
    )
    run.add_argument(
        "--memory", metavar="GIB", type=_positive(float), help="how much memory one case may take in its framework"
    )
    saving = run.add_mutually_exclusive_group()
    saving.add_argument(
        "--save", metavar="DIR", type=Path, help="save each case with its arrays, as it is done, in this new folder"
    )
    saving.add_argument(
        "--resume", metavar="DIR", type=Path, help="go on with a run that --save began: what is done is not run again"
    )
    run.add_argument("--subject", metavar="NAME", help="only this subject of conformance.toml (repeatable)", **many)
    _project_option(run)
    _files(run)

    check = _command(
        commands,
        "check",
        _check,
        "Put a module, a function or a model file beside a canonical layer; without --layer, every layer in it.",
    )
    check.epilog = run.epilog
    check.add_argument(
        "subject", metavar="SUBJECT", help="file.py:Name, or a file that ends in .onnx, .keras, .pt2 or .mat"
    )
    check.add_argument("--layer", metavar="LAYER", help="the layer that it should be, as `list layers` gives it")
    check.add_argument(
        "--config", metavar="K=V", action="append", default=[], help="the layer's config, heads=8 (repeatable)"
    )
    for name, what in (("weights", "the oracle's weights"), ("inputs", "the inputs")):
        check.add_argument(f"--{name}", metavar="FILE", type=Path, help=f"{what}, by name: .safetensors, .npz or .mat")
    check.add_argument("--adapter", metavar="ADAPTER", help="whose tensors a plain function takes; Keras's back end")
    check.add_argument("--dtype", metavar="DTYPE", help="float64, float32, bfloat16 or float16 (the subject's own)")
    check.add_argument("--decomposed", action="store_true", help="watch the framework's unfused form, where it has one")
    _files(check)

    diff = _command(
        commands,
        "diff",
        _diff,
        "Put two models beside one another: the first operation at which they part, if they do.",
    )
    diff.epilog = (
        "Exit code: 0 where the outputs are the same up to rounding, 1 where they part, 2 for bad usage or input."
    )
    for letter in "ab":
        diff.add_argument(
            f"subject_{letter}",
            metavar=f"SUBJECT_{letter.upper()}",
            help="file.py:Name, or a file that ends in .onnx, .keras or .pt2",
        )
    diff.add_argument(
        "--inputs", metavar="FILE", type=Path, help="the inputs, by the models' names: .safetensors, .npz or .mat"
    )
    for letter in "ab":
        diff.add_argument(
            f"--adapter-{letter}", metavar="ADAPTER", help=f"whose tensors {letter.upper()}, a plain function, takes"
        )
    diff.add_argument("--dtype", metavar="DTYPE", help="float64, float32, bfloat16 or float16 (each model's own)")
    _files(diff)

    init = _command(commands, "init", _init, "Write a first conformance.toml, with the models that are in the folder.")
    init.add_argument("folder", metavar="FOLDER", type=Path, nargs="?", default=Path(), help="the folder (this one)")

    gate = _command(
        commands,
        "gate",
        _gate,
        "Put a run beside an earlier one: what changed, and whether that is rounding, a default, or a fault.",
    )
    gate.epilog = (
        "Exit code: 0 where the policy lets everything pass, 1 where it does not, 2 for bad usage or input. Without a "
        "policy, what regressed, diverges otherwise, cannot be run any more or is gone does not pass."
    )
    gate.add_argument(
        "--baseline", metavar="RUN", type=Path, required=True, help="the earlier run: what --save or --json wrote"
    )
    gate.add_argument(
        "--candidate", metavar="RUN", type=Path, help="the later run; left out, the baseline's cases are run again now"
    )
    _project_option(gate)
    gate.add_argument("--policy", metavar="FILE", type=Path, help="what passes and what does not, in TOML")
    _files(gate)

    upgrade = _command(
        commands,
        "upgrade",
        _upgrade,
        "Run the fixtures with two versions of a framework, each in its own environment, and gate the difference.",
    )
    upgrade.epilog = gate.epilog
    for name, which in (("old", "the versions of today"), ("new", "the versions to come")):
        upgrade.add_argument(
            name, metavar=name.upper(), help=f"{which}: 'PKG==VERSION', several with commas between them"
        )
    upgrade.add_argument(
        "--adapter", metavar="ADAPTER", help="this adapter, not those of the packages named (repeatable)", **many
    )
    for name, what in (("layer", "fixtures of this layer"), ("fixture", "this fixture, or one form of it")):
        upgrade.add_argument(f"--{name}", metavar=name.upper(), help=f"only {what} (repeatable)", **many)
    upgrade.add_argument("--dtype", metavar="DTYPE", help="as in `run` (repeatable)", **many)
    upgrade.add_argument("--policy", metavar="FILE", type=Path, help="what passes and what does not, in TOML")
    _files(upgrade)

    report = _command(
        commands,
        "report",
        _report,
        "Show again a result that --json wrote, or write it in another form.",
    )
    report.epilog = "Exit code: 0 where it could be shown, whatever it says; 2 for bad usage or input."
    report.add_argument(
        "result", metavar="RUN", type=Path, help="the JSON file of a run, a check or a diff; the folder of a saved run"
    )
    _files(report)

    listing = _command(
        commands,
        "list",
        _list,
        "List the layers, adapters, fixtures, conventions, known divergences, or what the fixtures tell apart.",
    )
    listing.add_argument("what", choices=LISTS, help="what to list")

    explain = _command(
        commands,
        "explain",
        _explain,
        "Show a layer: formula, inputs, weights, config, steps, and the conventions at each.",
    )
    explain.add_argument("layer", metavar="LAYER", help="the layer's name, as `list layers` gives it")
    return top


def _command(
    commands: Any, name: str, function: Callable[[argparse.Namespace], int], said: str
) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(name, help=said, description=said, allow_abbrev=False)
    made.set_defaults(function=function)
    made.add_argument("--debug", action="store_true", help="show a traceback where something goes wrong")
    return made


def _project_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--project", metavar="FILE", type=Path, help="the conformance.toml to use (that of this folder, if it has one)"
    )


def _files(command: argparse.ArgumentParser) -> None:
    for name, what in FILES.items():
        command.add_argument(f"--{name}", metavar="FILE", type=Path, help=f"write the result as {what}")


def _positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise ValueError(text)
        return value

    read.__name__ = "positive number"  # what argparse calls it in its message
    return read


def _run(options: argparse.Namespace) -> int:
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
    from conformance.run import run

    project, folder = _project(options)
    narrowed = bool(options.fixture or options.layer)
    usual = (project.run if project is not None else None) or Fixtures()
    none = bool(options.subject) or (usual.fixtures == () and not narrowed)
    with Progress("starting") as progress:
        result = run(
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


def _init(options: argparse.Namespace) -> int:
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


def _check(options: argparse.Namespace) -> int:
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


def _diff(options: argparse.Namespace) -> int:
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


def _gate(options: argparse.Namespace) -> int:
    from conformance.gating import gate, recorded, rerun
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
        found = gate(baseline, candidate, policy, (before, now))
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
        found = gate(baseline, candidate, policy)
    _told(found, options, files)
    return found.exit_code


def _upgrade(options: argparse.Namespace) -> int:
    from conformance.fixture import select
    from conformance.policy import Policy, read_policy
    from conformance.progress import Progress
    from conformance.run import chosen_adapters
    from conformance.upgrading import upgrade

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
        found = upgrade(options.old, options.new, adapters=adapters, selection=selection, policy=policy)
    _told(found, options, files)
    return found.exit_code


def _report(options: argparse.Namespace) -> int:
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


def _list(options: argparse.Namespace) -> int:
    from conformance import catalogue

    for line in catalogue.lines(options.what):
        print(line)
    return 0


def _explain(options: argparse.Namespace) -> int:
    from conformance.catalogue import explanation

    for line in explanation(options.layer):
        print(line)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `conformance`: errors are one sentence on standard error, and exit code 2."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in words
    try:
        words = [w for w in words if w != "--debug"]
        options = parser().parse_args(words or ["--help"], argparse.Namespace(words=words, alone=arguments is None))
        done: int = options.function(options)
        sys.stdout.flush()
        return done
    except ConformanceError as error:
        if debug:
            raise
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(": ".join(("conformance", "interrupted", *map(str, error.args))), file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader (`head`, a pager) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # a fault of this program or of a plug-in, not of its user
        if debug:
            raise
        said = f"{type(error).__name__}: {error}"
        print(f"conformance: {said}; this is a fault of the program or a plug-in, --debug shows where", file=sys.stderr)
        return 3
