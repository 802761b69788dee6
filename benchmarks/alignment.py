"""How long it takes to align a tape of 5,000 tensors with the 200 steps of a row of layers.

    python benchmarks/alignment.py [--tensors N] [--size BATCH TIME CHANNELS] [--profile]

The subject is a network of linear, layer norm and gelu blocks, written in torch operation by operation and
recorded as every subject is. To make the tape long, runs of the same network on other inputs are recorded
between its operations: tensors of the same sizes and the same distribution that hold no step. The network is
right; or has in its middle a fault that a convention explains; or one that none explains.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from conformance.align import align
from conformance.flow import Flow
from conformance.layers import get_layer
from conformance.model import RoundingModel
from conformance.precision import precision
from conformance.trace import Entry, Trace
from conformance_adapters.torch_tape import record, to_numpy

BLOCKS = 29
MIDDLE = BLOCKS // 2
PARTS = {"project": "linear", "norm": "layer_norm", "activate": "gelu"}

Network = Callable[[torch.Tensor], torch.Tensor]


def flow(batch: int, length: int, channels: int) -> Flow:
    """The oracle's side: 29 blocks of seven steps, of which the last has no activation."""
    rng = np.random.default_rng(20260101)
    parts, weights = [], {}
    for block in range(BLOCKS):
        for part, layer in PARTS.items():
            if block < BLOCKS - 1 or part != "activate":
                parts.append({"name": f"{part}{block}", "layer": layer})
        weights[f"project{block}.kernel"] = rng.normal(size=(channels, channels)) * channels**-0.5
        weights[f"project{block}.bias"] = rng.normal(size=channels) * 0.1
        weights[f"norm{block}.scale"] = 1 + rng.normal(size=channels) * 0.1
        weights[f"norm{block}.bias"] = rng.normal(size=channels) * 0.1
    weights = {name: array.astype(np.float32).astype(float) for name, array in weights.items()}
    x = rng.normal(size=(batch, length, channels)).astype(np.float32).astype(float)
    config = {"parts": parts}
    return Flow.bind(get_layer("sequential", config), config, {"x": x}, weights)


def network(weights: Mapping[str, np.ndarray], fault: str) -> Network:
    """The subject, with `fault` in its middle block: none, bessel or unexplained."""
    held = {name: torch.from_numpy(array.astype(np.float32)) for name, array in weights.items() if array is not None}

    def run(x: torch.Tensor) -> torch.Tensor:
        for block in range(BLOCKS):
            x = x @ held[f"project{block}.kernel"] + held[f"project{block}.bias"]
            centred = x - x.mean(-1, keepdim=True)
            variance = centred.square().mean(-1, keepdim=True)
            if fault == "bessel" and block == MIDDLE:
                variance = centred.square().sum(-1, keepdim=True) / (x.shape[-1] - 1)
            x = centred * torch.rsqrt(variance + 1e-5)
            if fault == "unexplained" and block == MIDDLE:
                x = x * 1.01
            x = x * held[f"norm{block}.scale"] + held[f"norm{block}.bias"]
            if block < BLOCKS - 1:
                x = 0.5 * x * (1 + torch.erf(x * 0.5**0.5))
        return x

    return run


def trace(of: Flow, fault: str, tensors: int) -> Trace:
    """The network's trace, with the tapes of runs on other inputs between its entries."""
    weights = {n: v for n, v in of.values.items() if n.endswith((".kernel", ".bias", ".scale"))}
    subject = network(weights, fault)
    x = torch.from_numpy(of.values["x"].astype(np.float32))
    output, tape = record(lambda: subject(x))
    generator = torch.Generator().manual_seed(1)
    runs = [tape]
    while len(runs) * len(tape) < tensors:
        other = torch.randn(x.shape, generator=generator)
        runs.append(record(lambda other=other: subject(other))[1])
    entries: list[Entry] = [entry for together in zip(*runs, strict=True) for entry in together]
    return Trace(to_numpy(output), entries[:tensors] if len(entries) - tensors < len(runs) else entries)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tensors", type=int, default=5000)
    parser.add_argument("--size", type=int, nargs=3, default=(2, 64, 128), metavar=("BATCH", "TIME", "CHANNELS"))
    parser.add_argument("--profile", action="store_true", help="where the time goes")
    arguments = parser.parse_args()
    of = flow(*arguments.size)
    model = RoundingModel(precision("float32"))
    clock = time.perf_counter()
    for _ in of.run(model):
        pass
    print(f"{len(of.steps)} steps; the oracle alone takes {time.perf_counter() - clock:.1f} s")
    for fault in ("none", "bessel", "unexplained"):
        given = trace(of, fault, arguments.tensors)
        profile = cProfile.Profile()
        clock = time.perf_counter()
        if arguments.profile:
            profile.enable()
        placed: Mapping[str, Any] = align(of, given, model)
        profile.disable()
        seconds = time.perf_counter() - clock
        found = sum(p.found is not None for p in placed.values())
        faulty = {name: dict(p.conventions) or "unexplained" for name, p in placed.items() if p.faulty}
        size = sum(e.array.nbytes for e in given.tape) / 2**20
        print(
            f"fault {fault}: {len(given.tape)} tensors of {size:.0f} MiB aligned in {seconds:.1f} s; "
            f"{found} steps found, at fault: {faulty or 'none'}",
            flush=True,
        )
        if arguments.profile:
            pstats.Stats(profile).sort_stats("tottime").print_stats(18)


if __name__ == "__main__":
    main()
