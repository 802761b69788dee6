"""The command line. Every heavy import is inside a command: `--help` and `list` must be quick."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from conformance import __version__
from conformance.errors import ConformanceError

if TYPE_CHECKING:
    from conformance.result import Case, Run

app = typer.Typer(
    name="conformance",
    help="Tells whether two implementations of a neural-network layer compute the same thing, and if not, "
    "in which step they part and which known convention explains it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: rich's would take as long as everything else
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Listing(StrEnum):
    """What `list` can list."""

    layers = "layers"
    adapters = "adapters"
    fixtures = "fixtures"
    conventions = "conventions"
    divergences = "divergences"


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback where something goes wrong.")] = False,
) -> None:
    if version:
        typer.echo(f"conformance {__version__}")
        raise typer.Exit


@app.command("run")
def run_command(
    layer: Annotated[list[str] | None, typer.Option(help="Only fixtures of this layer (repeatable).")] = None,
    adapter: Annotated[
        list[str] | None, typer.Option(help="Only this adapter; `keras` stands for its three back ends (repeatable).")
    ] = None,
    fixture: Annotated[
        list[str] | None, typer.Option(help="Only this fixture, or one form of it (repeatable).")
    ] = None,
    dtype: Annotated[
        list[str] | None, typer.Option(help="float64, float32, bfloat16 or float16 (repeatable; float32 and float64).")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="How many frameworks run at once (one per core).")] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Seconds that one case may take in its framework.")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the result as JSON.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the result as one HTML page.")] = None,
) -> None:
    """Run the fixtures on the adapters and judge every step against the oracle.

    Exit code: 0 where everything conforms or is a known divergence, 1 where something diverges (or a known
    divergence no longer does), 3 where something could not be run, 2 for bad usage or input.
    """
    from rich.console import Console

    from conformance.fixture import select
    from conformance.report import load, write
    from conformance.run import run

    files = {name: path for name, path in (("json", json), ("html", html)) if path is not None}
    _check_writable(files)
    chosen = select(fixture or [])
    with _Progress() as progress:
        result = run(
            chosen,
            adapter or [],
            dtype or ["float32", "float64"],
            layer or [],
            jobs=jobs,
            timeout=timeout,
            progress=progress.step,
        )
    load("terminal")(result, Console())
    for name, path in files.items():
        write(name, result, path)
    raise typer.Exit(_exit_code(result, adapter or []))


def _exit_code(result: Run, named: list[str]) -> int:
    """The run's exit code; a framework that was asked for by name and is not there counts as a failure."""
    return result.exit_code or (3 if named and result.summary.get("unavailable") else 0)


def _check_writable(files: dict[str, Path]) -> None:
    """Refuse at once what would fail after the work is done."""
    for path in files.values():
        folder = path.parent
        if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
            raise ConformanceError(f"{path}: cannot be written; give a file in a folder that exists and is writable")


class _Progress:
    """How far a run is, on standard error, where that is a terminal."""

    def __enter__(self) -> _Progress:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._bar.start()
        self._task = self._bar.add_task("starting", total=None)
        return self

    def step(self, case: Case, number: int, total: int) -> None:
        """Show that `case` is done, the `number`th of `total`."""
        self._bar.update(self._task, completed=number, total=total, description=f"{case.adapter}: {case.fixture}"[:40])

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


@app.command("list")
def list_command(what: Annotated[Listing, typer.Argument(help="What to list.")]) -> None:
    """List the layers, adapters, fixtures, conventions or known divergences."""
    from conformance import catalogue

    for line in catalogue.lines(what.value):
        typer.echo(line)


@app.command("explain")
def explain_command(layer: Annotated[str, typer.Argument(help="The layer's name, as `list layers` gives it.")]) -> None:
    """Show a layer: its formula, inputs, weights, config, steps with their axes, and the conventions at each."""
    from conformance.catalogue import explanation

    for line in explanation(layer):
        typer.echo(line)


def main() -> None:
    """The command `conformance`: errors are one sentence on standard error, and exit code 2."""
    # The workers need the cores: threads of the judge's own that wait for one another only slow both down.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        app()
    except ConformanceError as error:
        if "--debug" in sys.argv:
            raise
        typer.echo(f"conformance: {error}", err=True)
        sys.exit(2)
