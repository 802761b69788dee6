"""A reader in a process of its own, where a library may not come to an end, or die, on a damaged file.

The HDF5 library is one: on some damaged files it never returns. The process is started for the first file and kept for
the next ones; it is killed where it takes too long, and it ends with the process that started it.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from importlib import import_module
from pathlib import Path
from threading import Lock, Timer
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from conformance.archive import most_unpacked
from conformance.errors import ConformanceError
from conformance.wire import load, save

if TYPE_CHECKING:
    from numpy.typing import NDArray

SECONDS = 5.0
"""How long a small file may take."""
_MEMORY = 512 * 2**20
"""Bytes that the process may take for a file, besides twice what such a file may unpack to."""
_PREFIX = "array."  # a file's own names may be ones that mean something where they are sent
_BYTES_A_SECOND = 5e6  # of a large one: ten times slower than a slow disk, with the packing


class Apart:
    """A function `path, resave -> arrays, told` that is called in another process; `function` is `module:name`.

    `told` is what goes into JSON. The function may raise ConformanceError, which is raised here too.
    """

    def __init__(self, function: str, seconds: float = SECONDS) -> None:
        self.function, self.seconds = function, seconds
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0  # the process that started it: a fork of that one needs its own
        self._lock = Lock()

    def __call__(self, path: Path, resave: str) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
        """What the function gives for `path`.

        Raises ConformanceError as it does, and where it does not come to an end, or its process dies.
        """
        limit = self.seconds + path.stat().st_size / _BYTES_A_SECOND
        with self._lock, tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "arrays"
            answer = self._asked([self.function, str(path), resave, str(target)], limit)
            if answer is None:
                raise ConformanceError(f"{path}: is corrupt (reading it did not end within {limit:.0f} s); {resave}")
            if "died" in answer:
                raise ConformanceError(f"{path}: is corrupt (reading it ended a process: {answer['died']}); {resave}")
            if "refused" in answer:
                raise ConformanceError(answer["refused"])
            if "raised" in answer:  # a fault of ours, with its traceback
                raise RuntimeError(answer["raised"])
            arrays, told = load(target)
            return {name.removeprefix(_PREFIX): np.array(array) for name, array in arrays.items()}, told

    def _asked(self, question: list[str], limit: float) -> dict[str, Any] | None:
        """The answer; None where there was none in time."""
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        late = False

        def kill() -> None:
            nonlocal late
            late = True
            process.kill()

        timer = Timer(limit, kill)
        timer.start()
        try:
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        code = process.wait()
        self._process = None
        return None if late else {"died": f"signal {-code}" if code < 0 else f"exit status {code}"}

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self._owner = os.getpid()
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"from {__name__} import answer; answer()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
            )
            assert self._process.stdout is not None
            self._process.stdout.readline()  # its start is not counted
            atexit.register(_end, self._process)
        return self._process


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def answer() -> None:
    """Answer the questions on the standard input until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for whoever asks
    replies = sys.stdout
    sys.stdout = sys.stderr  # what a library prints is no answer
    _say(replies, {})
    for line in sys.stdin:
        function, path, resave, target = json.loads(line)
        module, _, name = function.partition(":")
        reader = getattr(import_module(module), name)
        _no_more_than(2 * most_unpacked(Path(path)) + _MEMORY)
        try:
            arrays, told = reader(Path(path), resave)
            save(Path(target), {_PREFIX + name: array for name, array in arrays.items()}, told)
            _say(replies, {"read": True})
        except ConformanceError as error:
            _say(replies, {"refused": str(error)})
        except MemoryError:
            _say(replies, {"refused": f"{path}: takes more memory than a file of its size should; {resave}"})
        except BaseException:
            _say(replies, {"raised": traceback.format_exc()})


def _no_more_than(size: int) -> None:
    """Let this process take `size` bytes of memory more than it has, where the system tells how much that is."""
    status = Path("/proc/self/status")
    if status.is_file():
        held = 1024 * int(status.read_text().partition("VmData:")[2].split()[0])
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = held + size if hard == resource.RLIM_INFINITY else min(held + size, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def _say(to: IO[str], answer: dict[str, Any]) -> None:
    to.write(json.dumps(answer) + "\n")
    to.flush()
