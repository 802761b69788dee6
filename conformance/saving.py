"""A run as it is saved: each case as soon as it is done, so that whatever ends the run costs the case at hand alone.

Every file is written beside its place and then moved there. A case is done once its JSON file is there, which comes
last; the journal's line comes first. Nothing is forced to the disk: after a power cut a file may be empty, which its
checksum tells, and its case is run again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from conformance import wire
from conformance.atomic import left_behind, replacing
from conformance.errors import ConformanceError
from conformance.plan import parted
from conformance.result import Case, escaped
from conformance.saved import (
    CASES,
    JOURNAL,
    MANIFEST,
    RUN,
    Done,
    LeftOut,
    Manifest,
    Plan,
    Planned,
    Saved,
    Stored,
    holds_run,
    open_saved,
    sealed,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_OF_OUTPUT = 64 * 2**20
"""Bytes up to which an output is saved."""
MOST_OF_STEPS = 4 * 2**20
"""Bytes of a case's steps that are saved, in flow order as long as there is room."""
AGAIN = ("crashed", "timeout", "error")
"""Statuses that may be an accident of the machine (its memory, its load, its disk): run again when a run goes on."""
OUTPUT = "output"


class Saving:
    """A folder to which a run is saved. Use `begin`, or `again` for one that was interrupted, then `plan`, then `keep`
    for each case."""

    def __init__(
        self, folder: Path, command: Sequence[str], asked: Mapping[str, list[str]], saved: Saved | None
    ) -> None:
        self.folder, self._command, self._asked, self._saved = folder, list(command), dict(asked), saved
        self._told: dict[str, str] = {}
        self._journal: int | None = None

    @classmethod
    def begin(cls, folder: Path, command: Sequence[str] = (), asked: Mapping[str, list[str]] | None = None) -> Saving:
        """A run from its start, in a folder that is new or empty.

        `command` and `asked` (the words that select, by option) are kept for who goes on with it. Raises
        ConformanceError where the folder holds something, and where it cannot be written.
        """
        if holds_run(folder):
            raise ConformanceError(
                f"{folder} holds a saved run: go on with it by --resume {folder}, or name another folder"
            )
        with _sentences(folder):
            folder.mkdir(exist_ok=True)
            if not all(_nothing(path) for path in folder.iterdir()):
                raise ConformanceError(f"{folder} is not empty: name a new folder, which --save makes, or an empty one")
        made = cls(folder, command, asked or {}, None)
        made._open()
        return made

    @classmethod
    def again(cls, folder: Path) -> Saving:
        """A run that was interrupted. Raises ConformanceError where there is none, or another process is at it."""
        if not holds_run(folder):
            raise ConformanceError(f"{folder} holds no saved run to go on with: start one with --save {folder}")
        saved = open_saved(folder)
        made = cls(folder, saved.manifest.command, saved.manifest.asked, saved)
        made._open()
        return made

    @property
    def command(self) -> list[str]:
        """The words of the command line that began the run."""
        return self._command

    @property
    def asked(self) -> dict[str, list[str]]:
        """What its options selected, by option."""
        return self._asked

    @property
    def started(self) -> str:
        """When the run was begun, as ISO 8601."""
        return self._started

    @property
    def environment(self) -> dict[str, str]:
        """What the cases that are saved ran on."""
        return self._saved.environment if self._saved is not None else {}

    def plan(self, plan: Plan) -> dict[Planned, Case]:
        """Say what is to be done; the cases of it that are done already.

        Raises ConformanceError where the folder was begun with another plan.
        """
        if self._saved is None:
            self._started = datetime.now(UTC).isoformat(timespec="seconds")
            manifest = Manifest(started=self._started, command=self._command, asked=self._asked, plan=plan)
            self._write(self.folder / MANIFEST, sealed(_encoded(manifest)))
            return {}
        self._started = self._saved.manifest.started
        other = parted(self._saved.manifest.plan, plan)
        if other is not None:
            raise ConformanceError(
                f"{self.folder} cannot be gone on with: {other}; ask for the same, or save a new run to another folder"
            )
        whole = {p: s.case for p in plan.cases if (s := self._saved.stored(p)) is not None}
        return {p: case for p, case in whole.items() if case.status not in AGAIN}

    def keep(self, case: Case, arrays: Mapping[str, NDArray[Any]], environment: Mapping[str, str]) -> None:
        """Save a case that is done, with its arrays (`output` first) and what the run's environment is by now.

        Raises ConformanceError where the folder cannot be written, as on a full disk; what was saved stays.
        """
        planned = Planned.of(case)
        place = self.folder / CASES / planned.file
        kept, left_out = _chosen(arrays)
        news = {k: v for k, v in environment.items() if self._told.get(k) != v}
        done = Done(planned.file, case.seconds, news)
        plain = msgspec.structs.replace(case, seconds=0.0)
        with _sentences(self.folder):
            assert self._journal is not None
            # The line before it may be cut short.
            os.write(self._journal, b"\n" + _encoded(done) + b"\n")
            self._told |= news
            digest = None
            if kept:
                with replacing(place.with_name(f"{place.name}.safetensors")) as beside:
                    wire.save(beside, kept, {})
                    digest = hashlib.sha256(beside.read_bytes()).hexdigest()
        self._write(
            place.with_name(f"{place.name}.json"),
            sealed(_encoded(Stored(case=plain, arrays=digest, left_out=left_out))),
        )

    def finish(self, content: bytes) -> None:
        """Put the whole run beside its cases: `content` is what --json writes."""
        self._write(self.folder / RUN, content)

    def close(self) -> None:
        """Let another process go on with it."""
        if self._journal is not None:
            os.close(self._journal)
            self._journal = None

    def _open(self) -> None:
        cases, journal = self.folder / CASES, self.folder / JOURNAL
        with _sentences(self.folder):
            if cases.is_symlink():
                raise ConformanceError(f"{cases} leads elsewhere: a saved run is in one folder")
            self._journal = os.open(
                journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644
            )
            try:
                fcntl.flock(self._journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.close()
                raise ConformanceError(f"another run is being saved to {self.folder}: wait for its end") from None
            cases.mkdir(exist_ok=True)
            for path in (*self.folder.iterdir(), *cases.iterdir()):
                if left_behind(path):
                    path.unlink()

    def _write(self, path: Path, content: bytes) -> None:
        with _sentences(self.folder), replacing(path) as beside, beside.open("xb") as file:
            file.write(content)


@contextlib.contextmanager
def _sentences(folder: Path) -> Iterator[None]:
    """What the file system says, as a sentence."""
    try:
        yield
    except OSError as error:
        said = error.strerror or str(error)
        after = f"; what is done is saved, go on with --resume {folder}" if holds_run(folder) else ""
        raise ConformanceError(f"{folder} cannot be written: {said}{after}") from None


def _nothing(path: Path) -> bool:
    """Whether this is all that a process leaves that was killed before it had a plan."""
    if path.name == CASES and path.is_dir() and not path.is_symlink():
        return all(left_behind(p) for p in path.iterdir())
    return left_behind(path) or (path.name == JOURNAL and path.is_file() and not path.stat().st_size)


def _encoded(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value, order="deterministic")
    except UnicodeEncodeError:  # bytes that are no text, as of a file's name in a message
        return msgspec.json.encode(escaped(msgspec.to_builtins(value)), order="deterministic")


def _chosen(arrays: Mapping[str, NDArray[Any]]) -> tuple[dict[str, NDArray[Any]], dict[str, LeftOut]]:
    """The arrays to be saved, and what to say of the others."""
    kept: dict[str, NDArray[Any]] = {}
    left_out: dict[str, LeftOut] = {}
    room = MOST_OF_STEPS
    for name, array in arrays.items():
        if array.nbytes <= (MOST_OF_OUTPUT if name == OUTPUT else room):
            kept[name] = array
            room -= 0 if name == OUTPUT else array.nbytes
        else:
            left_out[name] = LeftOut(list(array.shape), array.dtype.name, _digest(array))
    return kept, left_out


def _digest(array: NDArray[Any]) -> str:
    low_first = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
    return hashlib.sha256(low_first.reshape(-1).view(np.uint8).data).hexdigest()


def arrays_of(output: NDArray[Any], steps: Iterable[tuple[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """A case's arrays by the names that they have in its file."""
    return {OUTPUT: output, **{f"steps.{name}": array for name, array in steps}}
