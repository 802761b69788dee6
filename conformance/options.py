"""The command line's options, from which its help and its documentation are made.

It is argparse, not typer: typer brings pydantic along where that is installed, and takes as long as NumPy.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from conformance import __version__, commands
from conformance.commands import FILES
from conformance.errors import ConformanceError

LISTS = ("layers", "adapters", "fixtures", "conventions", "divergences", "discrimination")


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
    added = top.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)

    run = _command(
        added, "run", commands.run, "Run the fixtures on the adapters and judge every step against the oracle."
    )
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
        added,
        "check",
        commands.check,
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
        added,
        "diff",
        commands.diff,
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

    export = _command(
        added,
        "export",
        commands.export,
        "Convert weights from one framework's layout to the canonical one or another framework's, and prove it.",
    )
    export.epilog = (
        "Exit code: 0 where every layer that is known computes the same with its weights, 1 where one does not, 2 for "
        "bad usage or input."
    )
    export.add_argument(
        "source",
        metavar="SOURCE",
        help="a file that ends in .pt, .pth, .safetensors, .keras, .h5, .onnx or .mat",
    )
    export.add_argument(
        "--layer",
        metavar="LAYER",
        help="only this layer, by its path in the model or its canonical name; PATH=NAME says which layer is at a path "
        "(repeatable)",
        **many,
    )
    export.add_argument(
        "--to", metavar="FRAMEWORK", help="the layout: torch, keras, flax, onnx or matlab (the canonical one)"
    )
    export.add_argument(
        "--config",
        metavar="K=V",
        help="config that a file of weights does not hold, heads=8, or of one layer PATH.heads=8 (repeatable)",
        **many,
    )
    export.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=Path,
        required=True,
        help="the file to write: .safetensors; .pt with --to torch, .mat with --to matlab; "
        "of one layer, .onnx with --to onnx, .keras with --to keras",
    )

    init = _command(
        added, "init", commands.init, "Write a first conformance.toml, with the models that are in the folder."
    )
    init.add_argument("folder", metavar="FOLDER", type=Path, nargs="?", default=Path(), help="the folder (this one)")

    gate = _command(
        added,
        "gate",
        commands.gate,
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
        added,
        "upgrade",
        commands.upgrade,
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
        added,
        "report",
        commands.report,
        "Show again a result that --json wrote, or write it in another form.",
    )
    report.epilog = "Exit code: 0 where it could be shown, whatever it says; 2 for bad usage or input."
    report.add_argument(
        "result", metavar="RUN", type=Path, help="the JSON file of a run, a check or a diff; the folder of a saved run"
    )
    _files(report)

    listing = _command(
        added,
        "list",
        commands.list_,
        "List the layers, adapters, fixtures, conventions, known divergences, or what the fixtures tell apart.",
    )
    listing.add_argument("what", choices=LISTS, help="what to list")

    explain = _command(
        added,
        "explain",
        commands.explain,
        "Show a layer: formula, inputs, weights, config, steps, and the conventions at each.",
    )
    explain.add_argument("layer", metavar="LAYER", help="the layer's name, as `list layers` gives it")
    return top


def _command(
    added: Any, name: str, function: Callable[[argparse.Namespace], int], said: str
) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = added.add_parser(name, help=said, description=said, allow_abbrev=False)
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
