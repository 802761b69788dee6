"""How long, and in how much memory, a 1 x 8 x 1024 x 64 attention is judged, imports and the tape aside.

    python benchmarks/large_attention.py

The subject is torch's scaled dot-product attention (its math kernel is observed, its fused kernel gives the
output); the trace comes through a file, as from a worker. Peak memory is what judging adds to the process.
"""

from __future__ import annotations

import resource
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from conformance import wire
from conformance.flow import Flow
from conformance.judge import judge
from conformance.layers import get_layer
from conformance.precision import precision
from conformance.trace import Request
from conformance.worker import Workers, work

LAYER = "scaled_dot_product_attention"


def resident() -> int:
    """Bytes of memory that this process holds of its own: mapped files are not counted."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) * 1024


def main() -> None:
    rng = np.random.default_rng(20260101)
    inputs = {n: rng.normal(size=(1, 8, 1024, 64)).astype(np.float32).astype(float) for n in ("query", "key", "value")}
    flow = Flow.bind(get_layer(LAYER), {}, inputs, {})
    request = Request(LAYER, "", flow.config, inputs, {})
    with Workers() as workers, tempfile.TemporaryDirectory() as folder:
        for subject in ("torch.nn.functional.scaled_dot_product_attention",):
            trace = workers.submit(work, "torch", replace(request, subject=subject)).result()
            wire.save_trace(Path(folder, "trace"), trace)
            trace = wire.load_trace(Path(folder, "trace"))
            peak, done = [before := resident()], threading.Event()

            def watch(peak: list[int] = peak, done: threading.Event = done) -> None:
                while not done.wait(0.002):
                    peak.append(resident())

            watcher = threading.Thread(target=watch)
            watcher.start()
            clock = time.perf_counter()
            verdict = judge(flow, trace, precision("float32"))
            seconds = time.perf_counter() - clock
            done.set()
            watcher.join()
            tape = sum(e.array.nbytes for e in trace.tape) / 2**20
            print(f"{subject}: {verdict.status}, {len(trace.tape)} tensors of {tape:.0f} MiB on the tape")
            print(
                f"judged in {seconds:.2f} s with {(max(peak) - before) / 2**20:.0f} MiB on top of {before / 2**20:.0f}"
            )
            for step in verdict.steps:
                ratio = "-" if step.isolated is None else f"{step.isolated.ratio:.3f}"
                print(f"    {step.name:10} {step.status:14} {ratio}")
    print(f"the whole process peaked at {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
