"""Workers: one process per adapter, in which its framework lives.

`work` is the unit of work: an adapter's name and a request to a trace, plain data both ways. It can be
handed to any `concurrent.futures.Executor`; `Workers` is the embedded one, which keeps a process per
adapter alive, restarts it after a crash or a timeout, and reports what happened.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from conformance import wire
from conformance.adapter import Adapter, load
from conformance.errors import ConformanceError, Unsupported
from conformance.scratch import Scratch
from conformance.trace import Request, Trace

_LAST_LINES, _LAST_BYTES = 5, 2**16
_LOOK = 1.0  # seconds between looks at a process that does not answer
_LOOK_AT_MEMORY = 0.05  # a framework that fills memory as fast as it can takes some hundred MiB meanwhile
_GIB = 2**30
_PR_SET_PDEATHSIG = 1  # of prctl(2)


class WorkerFailed(Exception):
    """The worker could not do the work. `status` is the case's: crashed, timeout, error or unsupported."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


BAD_INPUT = "bad input"  # no status of a case: the run ends, and says what to mend


def failure(error: Exception) -> WorkerFailed:
    """What came of `work` in place of a trace, as a case's status."""
    if isinstance(error, WorkerFailed):
        return error
    if isinstance(error, Unsupported):
        return WorkerFailed("unsupported", str(error))
    if isinstance(error, ConformanceError):
        return WorkerFailed(BAD_INPUT, str(error))
    status = "crashed" if isinstance(error, BrokenExecutor) else "error"
    return WorkerFailed(status, f"{type(error).__name__}: {str(error).strip() or 'no message'}")


_started: dict[str, tuple[Adapter, Mapping[str, str]]] = {}


def work(adapter: str, request: Request) -> Trace:
    """Run `request` on `adapter` in this process, importing its framework on the first call."""
    if adapter not in _started:
        made = load(adapter)
        _started[adapter] = made, made.start()
    running, environment = _started[adapter]
    clock = time.perf_counter()
    trace = running.run(request)
    return replace(
        trace, environment={**environment, **trace.environment}, seconds=round(time.perf_counter() - clock, 3)
    )


class _TooMuch(Exception):
    """A worker has more memory than it may."""


def resident(process: int) -> int:
    """The bytes of memory that a process has in use, 0 of one that is gone.

    What it reserved does not count, or no limit would fit: frameworks reserve two to six times of what they use.
    """
    try:
        pages = Path(f"/proc/{process}/statm").read_text().split()[1]
    except FileNotFoundError:
        if Path("/proc/self/statm").exists():
            return 0
        return _resident_by_ps(process)
    except ProcessLookupError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _resident_by_ps(process: int) -> int:
    """As `resident`, of a system without /proc."""
    asked = ["ps", "-o", "rss=", "-p", str(process)]
    said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return int(said or 0) * 1024


class _Worker:
    """One adapter's process."""

    def __init__(self, adapter: str, folder: Path, python: str, threads: int) -> None:
        self.log = folder / f"{adapter}.log"
        # As many threads as are there for it: more of them, spinning, would slow every worker down.
        environment = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads), **os.environ}
        with self.log.open("wb") as log:
            command = [python, "-P", "-m", "conformance.worker", adapter, str(os.getpid())]
            self.process = subprocess.Popen(
                command,  # -P: a torch.py in this folder is not torch
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the main process, which ends its workers
            )
        self._called, self._log_before = False, 0
        self.replies: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as answers:
            for line in answers:
                self.replies.put(line)
        self.replies.put("")

    def call(self, asked: Path, answer: Path, timeout: float | None, memory: float | None) -> None:
        """Have the request in `asked` answered in `answer`, within so many seconds and GiB. Raises WorkerFailed."""
        assert self.process.stdin is not None
        self._log_before = self.log.stat().st_size if self._called else 0  # the first one's import is its own
        self._called = True
        with contextlib.suppress(BrokenPipeError):  # a dead worker shows as an empty reply
            self.process.stdin.write(json.dumps([str(asked), str(answer)]) + "\n")
            self.process.stdin.flush()
        try:
            reply = self._reply(timeout, memory)
        except _TooMuch as taken:
            self.stop()
            raise WorkerFailed("crashed", str(taken)) from None
        if reply is None:
            self.stop()
            raise WorkerFailed("timeout", f"no answer within {timeout:g} s")
        if not reply:
            raise WorkerFailed("crashed", self._last_words())
        status, message = json.loads(reply)
        if status != "done":
            raise WorkerFailed(status, message)

    def _reply(self, timeout: float | None, memory: float | None) -> str | None:
        """The next reply: empty where the process is dead, None where there is none in time. Raises _TooMuch.

        A child that a dead process leaves behind may keep its output open, so the process is looked at too.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        look = _LOOK if memory is None else _LOOK_AT_MEMORY
        while True:
            dead = self.process.poll() is not None
            left = deadline - time.monotonic()
            try:
                return self.replies.get(timeout=max(0.0, min(look, left)))
            except queue.Empty:
                if dead:
                    return ""
                if left <= 0:
                    return None
            if memory is not None and (taken := resident(self.process.pid)) > memory * _GIB:
                raise _TooMuch(
                    f"it took {taken / _GIB:.3g} GiB of memory, more than the {memory:g} GiB that --memory allows, "
                    "and was ended"
                )

    def _last_words(self) -> str:
        code = self.process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        with self.log.open("rb") as log:
            log.seek(max(self._log_before, self.log.stat().st_size - _LAST_BYTES))
            lines = log.read(_LAST_BYTES).decode(errors="replace").strip().splitlines()[-_LAST_LINES:]
        return f"the worker died ({how}): " + (" | ".join(lines) or "it said nothing")

    def stop(self) -> None:
        """End the process."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # of a request that was not read to its end
            self.process.stdin.close()


class Workers(Executor):
    """Runs `work` in a process per adapter: one request at a time in each, `jobs` adapters at once.

    An adapter keeps its turn while requests for it are waiting, so that no more than `jobs` frameworks
    are busy, whatever the order of submission.
    """

    def __init__(
        self,
        jobs: int = 2,
        timeout: float | None = None,
        memory: float | None = None,
        python: str = sys.executable,
    ) -> None:
        """`timeout` (seconds) and `memory` (GiB) are what one request may take; `python` runs the workers."""
        self._timeout, self._memory, self._python = timeout, memory, python
        self._turns = threading.Semaphore(jobs)
        self._cores = max(1, (os.cpu_count() or 1) // jobs)
        self._threads: dict[str, ThreadPoolExecutor] = {}
        self._waiting: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._folder = Scratch()
        self._workers: dict[str, _Worker] = {}
        self._count = 0
        self._ended = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """`submit(work, adapter, request)`: the future's result is the trace. Raises WorkerFailed in it."""
        if fn is not work:
            raise TypeError("Workers run conformance.worker.work only")
        adapter, request = args
        with self._lock:
            thread = self._threads.setdefault(adapter, ThreadPoolExecutor(1))
            first = not self._waiting[adapter]
            self._waiting[adapter] += 1
        return thread.submit(self._run, adapter, request, first)

    def _run(self, adapter: str, request: Request, first: bool) -> Trace:
        if first:
            self._turns.acquire()
        try:
            return self._answered(adapter, request)
        finally:
            with self._lock:
                self._waiting[adapter] -= 1
                if not self._waiting[adapter]:
                    self._turns.release()

    def _answered(self, adapter: str, request: Request) -> Trace:
        with self._lock:
            self._count += 1
            asked = self._folder.path / f"{adapter}-{self._count}.request"
        answer = asked.with_suffix(".trace")
        wire.save_request(asked, request)
        worker = self._worker(adapter)
        try:
            worker.call(asked, answer, self._timeout, self._memory)
            return wire.load_trace(answer)  # mapped: the name can go, the data stay until let go
        except WorkerFailed as failure:
            if failure.status in ("crashed", "timeout"):
                worker.stop()
                self._workers.pop(adapter, None)
            raise
        finally:
            asked.unlink(missing_ok=True)
            answer.unlink(missing_ok=True)

    def _worker(self, adapter: str) -> _Worker:
        with self._lock:
            if self._ended:
                raise WorkerFailed("error", "the workers were shut down")
            worker = self._workers.get(adapter)
            if worker is None:
                worker = self._workers[adapter] = _Worker(adapter, self._folder.path, self._python, self._cores)
            return worker

    def dismiss(self, adapter: str) -> None:
        """End the adapter's process: its work is done, and its memory is wanted."""
        worker = self._workers.pop(adapter, None)
        if worker is not None:
            worker.stop()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End all processes, once everything that was submitted is done.

        With `cancel_futures` they are ended at once: what waits is cancelled, and what runs fails.
        """
        if not wait and not cancel_futures:
            threading.Thread(target=self.shutdown).start()
            return
        for thread in self._threads.values():
            thread.shutdown(wait=not cancel_futures, cancel_futures=cancel_futures)
        with self._lock:
            self._ended = True
        for adapter in list(self._workers):
            self.dismiss(adapter)
        for _ in self._threads:  # one that waits for its turn need not: those before it were cancelled
            self._turns.release()
        for thread in self._threads.values():
            thread.shutdown(wait=True)
        self._folder.cleanup()


def _end_with(parent: int) -> None:
    """Have the system end this process when `parent` dies, whatever hangs here; elsewhere than on Linux, the end of
    standard input is what ends it, once it has answered."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before that
        sys.exit(1)


def main(adapter: str, parent: int) -> None:
    """Answer requests from standard input until it ends. What a framework prints goes to standard error."""
    _end_with(parent)
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        asked, answer = json.loads(line)
        try:
            wire.save_trace(Path(answer), work(adapter, wire.load_request(Path(asked))))
            reply = ["done", ""]
        except Exception as error:  # whatever the framework raises is the case's result, not the run's end
            import traceback

            traceback.print_exc()
            failed = failure(error)
            reply = [failed.status, str(failed)]
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
