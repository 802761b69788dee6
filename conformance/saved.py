"""A saved run, as `conformance run --save DIR` leaves it, and as it is read again.

    DIR/manifest.json            what was planned: fixtures, adapters, versions, every case
    DIR/cases/NAME.json          one judged case, whole as soon as it is there
    DIR/cases/NAME.safetensors   its arrays: `output`, and `steps.STEP` for each step that was observed
    DIR/journal.jsonl            a line for each case: what differs from run to run (seconds, environment)
    DIR/run.json                 the whole run, as --json writes it, once it is complete

A folder may come from anywhere. Sizes are limited and checksums compared; names of files are made from what a case is
and never read from a file; nothing in it is code.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from conformance.errors import ConformanceError
from conformance.reading import faults, read_file
from conformance.result import Case, Run, summarise

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEMA = 1
MANIFEST, CASES, JOURNAL, RUN = "manifest.json", "cases", "journal.jsonl", "run.json"
MOST_JSON = 64 * 2**20
"""Bytes of a manifest, a journal or a case: a run of every fixture on every adapter needs a hundredth of it."""
MOST_ARRAYS = 128 * 2**20
"""Bytes of a case's arrays: `conformance.saving` writes less."""

Identity = tuple[str, ...]


class Planned(msgspec.Struct, frozen=True, array_like=True):
    """What makes a case the same one in two runs."""

    layer: str
    fixture: str
    adapter: str
    subject: str
    mode: str
    dtype: str
    device: str

    @classmethod
    def of(cls, case: Case) -> Planned:
        """The identity of a case."""
        return cls(*(getattr(case, field) for field in cls.__struct_fields__))

    @property
    def file(self) -> str:
        """The name of its files, without a suffix: legible, the same everywhere, and nothing but a name."""
        whole = json.dumps(msgspec.to_builtins(self)).encode()  # ASCII, whatever is in a name
        words = re.sub(r"[^A-Za-z0-9]+", "-", f"{self.fixture} {self.adapter} {self.subject} {self.mode} {self.dtype}")
        return f"{words[:80].strip('-')}-{hashlib.sha256(whole).hexdigest()[:16]}"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run does, before any of it is done. Two runs of the same plan give the same result.

    `fixtures` have the SHA-256 of each one's files, `adapters` that of each one's known divergences; `versions` are
    those of Python, NumPy, this program and the packages that the adapters need.
    """

    fixtures: dict[str, str]
    adapters: dict[str, str]
    dtypes: list[str]
    modes: list[str]
    versions: dict[str, str]
    cases: list[Planned]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`command` has the words of the command line; `asked` what its options selected, by option."""

    schema: int = SCHEMA
    started: str
    command: list[str] = []
    asked: dict[str, list[str]] = {}
    plan: Plan


class LeftOut(msgspec.Struct, frozen=True):
    """An array that was too large to be saved. `sha256` is of its elements, the last axis fastest, low byte first."""

    shape: list[int]
    dtype: str
    sha256: str


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A case's JSON file. Its seconds are in the journal; `arrays` is the SHA-256 of the file with its arrays, if it
    has any."""

    case: Case
    arrays: str | None = None
    left_out: dict[str, LeftOut] = {}


class Done(msgspec.Struct, frozen=True):
    """A line of the journal: the name of a case's files, and what its run was like. `environment` has what no line
    before it in the same session has."""

    case: str
    seconds: float
    environment: dict[str, str] = {}


class _Sealed(msgspec.Struct, frozen=True):
    """JSON with the SHA-256 of itself, so that a file that was damaged is told from one that is whole."""

    schema: int
    sha256: str
    content: msgspec.Raw


def sealed(content: bytes) -> bytes:
    """`content`, which is JSON, as a file that says whether it is whole."""
    digest = hashlib.sha256(content).hexdigest()
    return b'{"schema":%d,"sha256":"%s","content":%s}\n' % (SCHEMA, digest.encode(), content)


class Damaged(ConformanceError):
    """A file that is missing, half-written, changed or none of ours: what it says is not known."""


def unsealed(path: Path) -> bytes:
    """The JSON that `sealed` gave, from the file at `path`. Raises Damaged."""
    try:
        found = msgspec.json.decode(content_of(path, MOST_JSON), type=_Sealed)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged(f"{path} is not whole ({error}): run it again with --resume") from None
    if found.schema != SCHEMA:
        raise ConformanceError(
            f"{path} has schema {found.schema}, and this version of conformance reads {SCHEMA}: use what wrote it"
        )
    inside = bytes(found.content)
    if hashlib.sha256(inside).hexdigest() != found.sha256:
        raise Damaged(f"{path} was changed or damaged, its checksum is another: run it again with --resume")
    return inside


def content_of(path: Path, most: int) -> bytes:
    """What is in a regular file of at most so many bytes. Raises Damaged."""
    try:
        # A pipe in its place would be waited for: nothing but a regular file is read.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > most:
                raise Damaged(f"{path} is no file of a saved run")
            return file.read(most)
    except OSError as error:
        raise Damaged(f"{path} cannot be read: {error.strerror or error}") from None


class Saved:
    """A folder that `--save` wrote, finished or not."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest

    @property
    def whole(self) -> bool:
        """Whether the run came to its end."""
        return (self.folder / RUN).is_file()

    @property
    def run(self) -> Run:
        """The whole run; of one that was interrupted, the cases that are saved.

        Raises ConformanceError where it is not what a run can be.
        """
        if self.whole:
            found = read_file(self.folder / RUN)
            if isinstance(found, Run):
                return found
            raise ConformanceError(f"{self.folder / RUN} is no run: run it again with --resume {self.folder}")
        cases = self.cases()
        run = Run(
            environment=self.environment,
            command=self.manifest.command,
            started=self.manifest.started,
            seconds=round(sum(c.seconds for c in cases), 3),
            summary=summarise(cases),
            cases=cases,
        )
        for wrong in faults(run):
            raise ConformanceError(f"{self.folder} is no saved run of conformance ({wrong})")
        return run

    def cases(self) -> list[Case]:
        """The cases that are saved and whole, in the order of the plan."""
        return [s.case for p in self.manifest.plan.cases if (s := self.stored(p)) is not None]

    def missing(self) -> list[Planned]:
        """What was planned and is not there: empty where the run is complete."""
        return [p for p in self.manifest.plan.cases if self.stored(p) is None]

    def stored(self, planned: Planned) -> Stored | None:
        """A case's file, with its seconds from the journal; None where it, or the one with its arrays, is not whole."""
        try:
            found = self._stored(planned)
            if found.arrays is not None:
                self._checked_arrays(planned, found)
        except Damaged:
            return None
        seconds = self._journal[0].get(planned.file, 0.0)
        return msgspec.structs.replace(found, case=msgspec.structs.replace(found.case, seconds=seconds))

    def _stored(self, planned: Planned) -> Stored:
        path = self.folder / CASES / f"{planned.file}.json"
        try:
            found = msgspec.json.decode(unsealed(path), type=Stored)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Damaged(f"{path} is no case of conformance ({error})") from None
        if Planned.of(found.case) != planned:
            raise Damaged(f"{path} is another case than its name says")
        return found

    def arrays(self, case: Case) -> dict[str, NDArray[Any]]:
        """The arrays of a case: `output` (of the plain run) and `steps.STEP` (as observed), in canonical axes.

        Empty where it has none. Raises ConformanceError where they are not there as they were saved.
        """
        planned = Planned.of(case)
        found = self._stored(planned)
        return {} if found.arrays is None else self._checked_arrays(planned, found)

    def left_out(self, case: Case) -> dict[str, LeftOut]:
        """The arrays of a case that were too large to be saved. Raises ConformanceError where the case is not there."""
        return self._stored(Planned.of(case)).left_out

    def _checked_arrays(self, planned: Planned, found: Stored) -> dict[str, NDArray[Any]]:
        from conformance.arrays import safetensors_of

        path = self.folder / CASES / f"{planned.file}.safetensors"
        content = content_of(path, MOST_ARRAYS)
        if hashlib.sha256(content).hexdigest() != found.arrays:
            raise Damaged(f"{path} was changed or damaged, its checksum is another: run it again with --resume")
        return safetensors_of(path, content)

    @property
    def environment(self) -> dict[str, str]:
        """What the cases ran on, as far as it is known."""
        return self._journal[1]

    @cached_property
    def _journal(self) -> tuple[Mapping[str, float], dict[str, str]]:
        """Seconds by the name of a case's files, and the environment. A line that is not whole says nothing."""
        seconds: dict[str, float] = {}
        environment: dict[str, str] = {}
        for line in _lines(self.folder / JOURNAL):
            try:
                done = msgspec.json.decode(line, type=Done)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                continue
            seconds[done.case] = done.seconds
            environment |= done.environment
        return seconds, dict(sorted(environment.items()))


def _lines(path: Path) -> Iterable[bytes]:
    try:
        return content_of(path, MOST_JSON).splitlines()
    except Damaged:
        return ()


def open_saved(folder: str | os.PathLike[str]) -> Saved:
    """The saved run in `folder`. Raises ConformanceError where there is none."""
    folder = Path(folder)
    if not holds_run(folder):
        raise ConformanceError(f"{folder} holds no saved run: give a folder that `conformance run --save` wrote")
    path = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(unsealed(path), type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ConformanceError(f"{path} is no manifest of a saved run ({error}): save the run again") from None
    return Saved(folder, manifest)


def holds_run(folder: Path) -> bool:
    """Whether there is a saved run in `folder`, whole or not."""
    return (folder / MANIFEST).is_file()
