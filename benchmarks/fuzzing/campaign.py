"""One reader fuzzed: files are made here, read in a child process that is watched, and what went wrong is kept."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from fuzzing import hostile, mutations, seeds
from fuzzing.readers import READERS

MEMORY = 1024  # MiB that one file may cost
KEPT = 500  # inputs with faults, of one reader
FINE = ("read", "refused")
OUTSIDE = (Path("/escaped"), Path("/tmp/escaped"))  # where names in hostile archives lead
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Fault:
    """An input that did what none may: `made` says from which seed and by which changes it comes."""

    reader: str
    kind: str
    said: str
    made: str
    file: Path


@dataclass
class Tally:
    """The counts of one reader."""

    reader: str
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    seconds: float = 0.0
    kept: int = 0

    @property
    def inputs(self) -> int:
        """How many files were read, or tried."""
        return self.outcomes.total()


class Child:
    """The process that reads. One that has died or hangs is replaced."""

    def __init__(self, reader: str, folder: Path) -> None:
        self.reader, self.folder = reader, folder
        self.process: subprocess.Popen[bytes] | None = None
        self.unread = b""

    def start(self) -> None:
        """A new process, which has read every valid file once. Raises RuntimeError where it could not."""
        paths = [str(ROOT / "benchmarks"), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(self.folder / "temporary")}
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment.setdefault("KERAS_BACKEND", "jax")
        self.unread = b""
        self.log = (self.folder / "log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fuzzing.child", self.reader, str(self.folder), str(MEMORY)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            cwd=self.folder / "work",
            env=environment,
        )
        while "ready" not in (answer := self._answer(300)):
            if answer.get("outcome") != "read":
                raise RuntimeError(f"{self.reader}: a valid file is not read: {answer}")

    def _answer(self, seconds: float) -> dict[str, Any]:
        """The next line of the process: an outcome `hang` where none comes in time, `death` where none can."""
        assert self.process is not None
        assert self.process.stdout is not None
        out = self.process.stdout.fileno()
        deadline = time.monotonic() + seconds
        while b"\n" not in self.unread:
            if not select.select([out], [], [], max(0.0, deadline - time.monotonic()))[0]:
                self.stop()
                return {"outcome": "hang", "said": f"more than {seconds:g} s"}
            more = os.read(out, 65536)
            if not more:
                break
            self.unread += more
        line, newline, self.unread = self.unread.partition(b"\n")
        if newline:
            answer: dict[str, Any] = json.loads(line)
            return answer
        code = self.process.wait()
        self.stop()
        last = (self.folder / "log").read_bytes()[-400:].decode("utf-8", "replace").split("\n")
        said = f"signal {-code}" if code < 0 else f"exit {code}"
        kind = "memory" if any("alloc" in line or "memory" in line for line in last) else "death"
        return {"outcome": kind, "said": f"the process ended with {said}: {' '.join(last)[-300:]}"}

    def read(self, path: Path) -> dict[str, Any]:
        """What became of the file at `path`."""
        if self.process is None:
            self.start()
        assert self.process is not None
        assert self.process.stdin is not None
        before = (self.folder / "log").stat().st_size
        self.process.stdin.write(json.dumps(str(path)).encode() + b"\n")
        self.process.stdin.flush()
        found = self._answer(READERS[self.reader].seconds)
        with (self.folder / "log").open("rb") as log:  # a library may log one, and go on
            log.seek(before)
            if found["outcome"] in FINE and b"Traceback (most" in (said := log.read()):
                return {"outcome": "traceback", "said": f"on standard error: {said[-300:]!r}"}
        return found

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for stream in (self.process.stdin, self.process.stdout):
                if stream is not None:
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()
            self.log.close()
            self.process = None


def fuzz(reader: str, folder: Path, seconds: float, seed: int, keep: Path, inputs: int | None = None) -> Tally:
    """Read the files that are hostile by design, then damaged ones until `seconds` or `inputs` are over.

    `folder` is worked in, and watched; inputs that did what none may are written to `keep`.
    """
    known = READERS[reader]
    for name in ("seeds", "input", "work", "temporary"):
        (folder / name).mkdir(parents=True)
    seeds.WRITERS[reader](folder / "seeds")
    valid = {p.name: p.read_bytes() for p in sorted((folder / "seeds").iterdir()) if p.name.endswith(known.suffixes)}
    for companion in (folder / "seeds").glob("*.companion"):
        shutil.copy(companion, folder / "input" / companion.stem)
    hostile.plant(folder)
    mutations.trust(valid.values())
    tally, child = Tally(reader), Child(reader, folder)
    child.start()  # what that takes is not counted
    before = _listed(folder)
    start = time.monotonic()
    made = _inputs(reader, valid, seed, folder)
    for name, content in made:
        path = folder / "input" / (known.file or f"input{known.suffixes[0]}")
        path.write_bytes(content)
        found = child.read(path)
        path.unlink(missing_ok=True)
        if known.apart and found["outcome"] in ("hang", "death", "memory"):
            found = {"outcome": "refused", "said": found["said"]}
        if (left := _listed(folder) - before) and found["outcome"] in (*FINE, "sentence"):
            found = {"outcome": "left behind", "said": ", ".join(sorted(left))[:300]}
        for item in left:
            _removed(folder / item)
        tally.outcomes[found["outcome"]] += 1
        if found.get("new"):
            made.send((name, content))
            tally.kept += 1
        if found["outcome"] not in FINE:
            keep.mkdir(parents=True, exist_ok=True)
            file = keep / f"{reader}-{found['outcome'].replace(' ', '-')}-{len(tally.faults)}{known.suffixes[0]}"
            if len(tally.faults) < KEPT:
                file.write_bytes(content)
            tally.faults.append(Fault(reader, found["outcome"], found["said"], name, file))
            if found["outcome"] == "memory":
                child.stop()  # its high-water mark tells nothing any more
        if time.monotonic() - start > seconds or tally.inputs == inputs:
            break
    tally.seconds = time.monotonic() - start
    child.stop()
    return tally


def _inputs(reader: str, valid: dict[str, bytes], seed: int, folder: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents without end; one that led somewhere new is sent back, and changed further.

    The name is the recipe: the file that it began as, and the numbers of the changes.
    """
    corpus = list(valid.items())
    fixed = [(f"{n}!", c) for n, c in hostile.files(reader, valid, folder)]
    suffix = READERS[reader].suffixes[0]
    number = 0
    while True:
        if number < len(fixed):
            name, content = fixed[number]
        else:
            random = Random(f"{seed} {reader} {number}")
            recent = random.random() < 0.3 and len(corpus) > 20
            origin, content = random.choice(corpus[-20:] if recent else corpus)
            content = mutations.mutated(random, suffix, content, list(valid.values()))
            name = f"{origin}:{number}"
        number += 1
        interesting = yield name, content
        while interesting is not None:
            if len(interesting[1]) < 2**16:  # a bomb is none to build on
                corpus.append(interesting)
            interesting = yield "", b""


def _listed(folder: Path) -> set[str]:
    """Every file and folder but the log, relative to the folder; what stands next to the folder, too."""
    found = {str(p.relative_to(folder)) for p in folder.rglob("*")} - {"log"}
    found |= {f"../{p.name}" for p in folder.parent.iterdir()}
    return found | {str(p) for p in OUTSIDE if p.exists()}


def _removed(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
