"""Runs that are disturbed: processes killed, a disk that is full, a layer that hangs, Ctrl-C. Whatever happens and
whenever, what is saved can be read, is gone on with, and comes to what an undisturbed run gives.

`tests/test_interrupted.py` does a handful of each, `benchmarks/disturbance.py` as many as are asked for.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.saved import CASES, holds_run, open_saved
from conformance.saving import AGAIN

SOURCE = """
import contextlib, os, time
import numpy as np
from conformance.errors import Unsupported
from conformance.trace import Entry, Trace


class Frail:
    name = "frail"
    requires = ("numpy",)
    install = "pip install frail"
    dtypes = ("float32", "float64")
    done = 0

    def start(self):
        return {"frail": "2.0"}

    def subjects(self, request):
        if request.layer != "linear":
            raise Unsupported(f"frail has no {request.layer}")
        return ["fine", "slow", "wrong", *(f"copy-{i}" for i in range(6))]

    def run(self, request):
        Frail.done += 1
        if Frail.done == int(os.environ.get("FRAIL_HANGS_AT", 0)):
            with contextlib.suppress(FileExistsError), open(os.environ["FRAIL_HUNG"], "x"):
                time.sleep(600)  # once in a run: a new worker counts anew
        if request.subject == "slow":
            time.sleep(0.05)
        x, kernel = (a.astype(request.dtype) for a in (request.inputs["x"], request.weights["kernel"]))
        weights, product = {"kernel": kernel}, x @ kernel
        output = product
        if "bias" in request.weights:
            weights["bias"] = request.weights["bias"].astype(request.dtype)
            output = product + weights["bias"]
        if request.subject == "wrong":
            output = output * 2
        return Trace(output, [Entry("frail.dot", product), Entry("frail.add", output)], output.copy(), weights)
"""
ENTRY_POINTS = "[conformance.adapters]\nfrail = frail_adapter:Frail\n"
CASE_COUNT = 54  # 9 subjects, 3 forms of the fixture, 2 dtypes
SELECTING = ["--layer", "linear", "--adapter", "frail"]
_TIMEOUT = 2.0  # of a layer that hangs: a worker also has to start in this time
_TOO_LONG = 120.0


@dataclass(frozen=True)
class Outcome:
    """What a disturbed run came to: how it ended, how many cases were done then, and what was not as it must be."""

    code: int
    done: int
    faults: tuple[str, ...]


class Bench:
    """A folder with an adapter in it, and the undisturbed run, beside which others are put."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        package = folder / "frail"
        information = package / "frail_adapter-2.0.dist-info"
        information.mkdir(parents=True)
        (package / "frail_adapter.py").write_text(SOURCE)
        (information / "METADATA").write_text("Metadata-Version: 2.1\nName: frail-adapter\nVersion: 2.0\n")
        (information / "entry_points.txt").write_text(ENTRY_POINTS)
        self._path = str(package)
        self._count = 0
        self.reference = folder / "undisturbed"
        began = time.monotonic()
        with self.running(self.reference, "--save") as run:
            assert run.wait(_TOO_LONG) == 1, "the undisturbed run has cases that diverge, and nothing worse"
        self.seconds = time.monotonic() - began
        self.result, self.files = result_of(self.reference), files_of(self.reference)
        assert len(self.result["cases"]) == CASE_COUNT

    @contextmanager
    def running(self, saved: Path, how: str, *options: str, **environment: str) -> Iterator[Run]:
        """`conformance run` with `--save` or `--resume` to the folder `saved`."""
        words = SELECTING if how == "--save" else []
        with self._running([*words, how, str(saved), *options], environment) as run:
            yield run

    @contextmanager
    def unsaved(self, **environment: str) -> Iterator[Run]:
        """`conformance run` without either."""
        with self._running(SELECTING, environment) as run:
            yield run

    @contextmanager
    def _running(self, words: Sequence[str], environment: Mapping[str, str]) -> Iterator[Run]:
        self._count += 1
        token = f"{self.folder.name}-{os.getpid()}-{self._count}"
        path = os.pathsep.join(filter(None, [self._path, os.environ.get("PYTHONPATH", "")]))
        own = {"FRAIL_HUNG": str(self.folder / f"hung-{self._count}")}
        one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-m", "conformance", "run", *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **one, "PYTHONPATH": path, "FRAIL_TOKEN": token, **own, **environment},
        )
        run = Run(process, token)
        try:
            yield run
        finally:
            for left in run.processes():
                os.kill(left, signal.SIGKILL)
            process.wait()
            assert process.stderr is not None
            process.stderr.close()

    def compared(self, saved: Path) -> Iterator[str]:
        """In what a saved run is other than the undisturbed one."""
        try:
            if result_of(saved) != self.result:
                yield "the result is another"
            if files_of(saved) != self.files:
                yield "the files of the cases are others"
        except Exception as error:
            yield f"it cannot be read: {error}"

    def disturbed(self, saved: Path, disturb: Callable[[Run], set[int]], *options: str, **environment: str) -> Outcome:
        """A run with what `disturb` does to it, which returns the exit codes that it may then have; gone on with."""
        faults: list[str] = []
        with self.running(saved, "--save", *options, **environment) as run:
            allowed = disturb(run)
            code = run.wait(_TOO_LONG)
            said = run.said()
            if code not in allowed:
                faults.append(f"exit code {code}: {said}")
            if "Traceback" in said:
                faults.append(f"a traceback: {said}")
            if not run.gone():
                faults.append("processes live on")
        count = 0
        if holds_run(saved):
            try:
                count = done_in(saved)
            except Exception as error:
                faults.append(f"what was saved cannot be read: {error}")
        faults += self.gone_on_with(saved)
        return Outcome(code, count, tuple(faults))

    def gone_on_with(self, saved: Path) -> Iterator[str]:
        """Resume a run, or begin it again where it was ended before there was a plan; what is wrong then."""
        with self.running(saved, "--resume" if holds_run(saved) else "--save") as run:
            code = run.wait(_TOO_LONG)
            if code != 1:
                yield f"exit code {code} where the run was gone on with: {run.said()}"
        yield from self.compared(saved)


@dataclass
class Run:
    """A running `conformance run`."""

    process: subprocess.Popen[str]
    token: str

    def wait(self, seconds: float) -> int:
        """Its exit code."""
        return self.process.wait(seconds)

    def said(self) -> str:
        """What it wrote to standard error, once it has ended."""
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def processes(self) -> list[int]:
        """Its processes and all that they started, wherever they belong now."""
        mark = f"FRAIL_TOKEN={self.token}\0".encode()
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    if mark in (folder / "environ").read_bytes():
                        found.append(int(folder.name))
                except OSError:  # it is gone, or another user's
                    continue
        return found

    def workers(self) -> list[int]:
        """Its workers."""
        return [p for p in self.processes() if p != self.process.pid]

    def gone(self, seconds: float = 5.0) -> bool:
        """Whether all of it comes to its end in that time."""
        deadline = time.monotonic() + seconds
        while self.processes():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


def done_in(saved: Path) -> int:
    """How many cases of a saved run need not be run again. All of them are read, with every array of each."""
    opened = open_saved(saved)
    for case in opened.run.cases:
        arrays = opened.arrays(case)
        assert not case.steps or "output" in arrays, case
    return sum(case.status not in AGAIN for case in opened.cases())


def result_of(saved: Path) -> dict[str, Any]:
    """The result of a whole saved run, without what may be another each time (the command: it may have a timeout)."""
    found: dict[str, Any] = json.loads((saved / "run.json").read_text())
    for name in ("started", "seconds", "environment", "command"):
        del found[name]
    for case in found["cases"]:
        del case["seconds"]
    return found


def files_of(saved: Path) -> dict[str, bytes]:
    """The files of all cases."""
    return {path.name: path.read_bytes() for path in (saved / CASES).iterdir()}


# -- what happens to a run ---------------------------------------------------------------------------------------


def signalled(number: int, allowed: set[int], after: float) -> Callable[[Run], set[int]]:
    """A signal to the main process; where it has ended by then, nothing happens."""

    def disturb(run: Run) -> set[int]:
        time.sleep(after)
        run.process.send_signal(number)
        return allowed

    return disturb


def worker_killed(after: float) -> Callable[[Run], set[int]]:
    """`kill -9` of a worker, the first that there is by then."""

    def disturb(run: Run) -> set[int]:
        time.sleep(after)
        while run.process.poll() is None:
            for worker in run.workers():
                try:
                    os.kill(worker, signal.SIGKILL)
                except ProcessLookupError:
                    break
                return {1}  # cases that diverge go before the one that crashed
            time.sleep(0.005)
        return {1}

    return disturb


def undisturbed(*allowed: int) -> Callable[[Run], set[int]]:
    """Nothing but what the run meets by itself."""
    return lambda run: set(allowed)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Callable[[int], None]]:
    """A file system of so many bytes at `folder`, and what gives it another size. Raises OSError where none can be."""
    folder.mkdir()

    def mount(*options: str) -> None:
        done = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(done.stderr.strip())

    mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield lambda new: mount("-o", f"remount,size={new}", str(folder))
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


# -- one of each kind --------------------------------------------------------------------------------------------


def main_killed_at_random(bench: Bench, saved: Path, rng: random.Random) -> Outcome:
    """`kill -9` of the main process, from before it has a plan to after its end."""
    after = rng.uniform(0, bench.seconds)
    return bench.disturbed(saved, signalled(signal.SIGKILL, {-signal.SIGKILL, 1}, after))


def worker_killed_at_random(bench: Bench, saved: Path, rng: random.Random) -> Outcome:
    """`kill -9` of a worker."""
    return bench.disturbed(saved, worker_killed(rng.uniform(0, bench.seconds)))


def interrupted_at_random(bench: Bench, saved: Path, rng: random.Random) -> Outcome:
    """Ctrl-C or SIGTERM, while the run is at work. (Before and after, Python itself ends at once.)"""
    number = rng.choice((signal.SIGINT, signal.SIGTERM))
    share = rng.random()

    def disturb(run: Run) -> set[int]:
        while not holds_run(saved):
            time.sleep(0.002)
        time.sleep(share * bench.seconds / 2)
        run.process.send_signal(number)
        return {130} if not (saved / "run.json").exists() else {130, 1, -number}

    return bench.disturbed(saved, disturb)


def hanging_at_random(bench: Bench, saved: Path, rng: random.Random) -> Outcome:
    """A layer that never comes back."""
    at = str(rng.randint(1, CASE_COUNT))
    return bench.disturbed(saved, undisturbed(1), "--timeout", f"{_TIMEOUT:g}", FRAIL_HANGS_AT=at)


def disk_full_at_random(bench: Bench, saved: Path, rng: random.Random) -> Outcome:
    """A disk that is full, from the first file to the last."""
    needed = sum(-(-p.stat().st_size // 4096) * 4096 for p in bench.reference.rglob("*") if p.is_file())
    size = rng.randrange(4096, needed, 4096)
    saved.mkdir()
    with small_disk(saved / "disk", size) as resize:
        place = saved / "disk" / "saved"
        faults: list[str] = []
        with bench.running(place, "--save") as run:
            code, said = run.wait(_TOO_LONG), run.said()
            if code != 2 or said.count("\n") != 1 or "No space left on device" not in said:
                faults.append(f"exit code {code}: {said}")
            if not run.gone():
                faults.append("processes live on")
        count = 0
        if holds_run(place):
            try:
                count = done_in(place)
            except Exception as error:
                faults.append(f"what was saved cannot be read: {error}")
        resize(16 * needed)
        faults += bench.gone_on_with(place)
        return Outcome(code, count, tuple(faults))


KINDS: dict[str, Callable[[Bench, Path, random.Random], Outcome]] = {
    "main killed": main_killed_at_random,
    "worker killed": worker_killed_at_random,
    "disk full": disk_full_at_random,
    "layer hangs": hanging_at_random,
    "interrupted": interrupted_at_random,
}
