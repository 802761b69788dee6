"""How much memory a tape of 1 GiB takes, from the worker that records it to the verdict.

    python benchmarks/large_tape.py [--size BATCH TIME CHANNELS]

The subject is the network of benchmarks/alignment.py, recorded in torch in a process of its own, which sends its
trace as a file. Both processes are looked at every few milliseconds; what counts is the memory that each has of
its own (RssAnon), apart from the file's pages, which the system takes back when it needs them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from alignment import flow, trace

from conformance import wire
from conformance.judge import judge
from conformance.precision import precision

MEBIBYTE = 2**20


def own(process: int | str) -> int:
    """Bytes of memory that a process holds of its own, or nothing once it has ended."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return int(fields.get("RssAnon", "0 kB").split()[0]) * 1024


class Watch:
    """The greatest memory that a process has of its own while the block runs."""

    def __init__(self, process: int | str) -> None:
        self.process, self.before, self.peak = process, own(process), 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._done.wait(0.005):
            self.peak = max(self.peak, own(self.process))

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def __str__(self) -> str:
        return f"{(self.peak - self.before) / MEBIBYTE:.0f} MiB on top of {self.before / MEBIBYTE:.0f}"


def record(size: tuple[int, int, int], path: Path) -> None:
    """The worker: record the tape once it is asked to, and send it."""
    of = flow(*size)
    print("ready", flush=True)
    sys.stdin.readline()
    wire.save_trace(path, trace(of, "none", 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=3, default=(8, 656, 128), metavar=("BATCH", "TIME", "CHANNELS"))
    parser.add_argument("--record", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.record is not None:
        record(arguments.size, arguments.record)
        return
    of = flow(*arguments.size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace")
        command = [sys.executable, __file__, "--record", str(path), "--size", *map(str, arguments.size)]
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert worker.stdout is not None
        worker.stdout.readline()
        with Watch(worker.pid) as recording:
            worker.communicate("go\n")
        if worker.returncode:
            raise SystemExit(f"the recording process ended with {worker.returncode}")
        with Watch("self") as judging:
            received = wire.load_trace(path)
            clock = time.perf_counter()
            verdict = judge(of, received, precision("float32"))
            seconds = time.perf_counter() - clock
    tape = sum(entry.array.nbytes for entry in received.tape) / MEBIBYTE
    print(f"{len(received.tape)} tensors of {tape:.0f} MiB on the tape; the verdict: {verdict.status}")
    print(f"recording and sending took {recording}")
    print(f"receiving and judging took {judging}, and {seconds:.1f} s")
    together = (recording.peak - recording.before + judging.peak - judging.before) / MEBIBYTE
    print(f"both together: {together:.0f} MiB, {together / tape:.2f} times the tape")


if __name__ == "__main__":
    main()
