"""How well planted faults are found: detected, placed at the right step, named; and alarms on what is clean.

    python benchmarks/detection.py                      # the table, in float32
    python benchmarks/detection.py --dtype float64
    python benchmarks/detection.py --peers              # beside what output comparison at default tolerances says
    python benchmarks/detection.py --check              # exits 1 where a figure is not where it should be

The corpus is that of tests/meta. A fault is *detected* where its case diverges, *placed* where the steps that are
blamed are the faulty ones, and *named* where the conventions that are given are those that were planted, id and
value, in flow order. Some faults have no name in the vocabulary: they must come out as unexplained, and have a
column of their own, as have those of several faults at once, which must be placed and named altogether.

The peers judge the same outputs against the oracle's, rounded to the dtype.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CORPUS = Path(__file__).resolve().parents[1] / "tests" / "meta"
FRAMEWORKS = ("PyTorch", "JAX", "Flax", "Keras", "TensorFlow", "ONNX Runtime", "NumPy")
PEERS = ("torch.testing.assert_close", "numpy.testing.assert_allclose")
FAULTS, OTHER_FRAMEWORKS, SEVERAL = 120, 40, 20
PLACED, NAMED = 0.98, 0.95


@dataclass(frozen=True)
class Judged:
    """One subject's outcome. Of a clean subject, `detected` is a false alarm; `peers` are those that object to it."""

    framework: str
    name: str
    faults: int
    has_name: bool
    detected: bool
    placed: bool
    named: bool
    said: str
    peers: tuple[str, ...]


def objecting(output: np.ndarray, expected: np.ndarray) -> tuple[str, ...]:
    """The peers that, at their default tolerances, do not take `output` for `expected`."""
    import torch

    expected = expected.astype(output.dtype)
    checks: dict[str, Callable[[], None]] = {
        PEERS[0]: lambda: torch.testing.assert_close(torch.from_numpy(output.copy()), torch.from_numpy(expected)),
        PEERS[1]: lambda: np.testing.assert_allclose(output, expected),
    }
    found = []
    for peer, check in checks.items():
        try:
            check()
        except AssertionError:
            found.append(peer)
    return tuple(found)


def judge_framework(framework: str, dtype: str, peers: bool) -> list[Judged]:
    """Every subject of the corpus that is written in `framework`, judged."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    sys.path.insert(0, str(CORPUS))
    from clean import quiet
    from corpus import CLEAN
    from corpus import FAULTS as PLANTED
    from planted import Planted, blamed, explanations
    from problem import judged

    from conformance.model import RoundingModel
    from conformance.precision import precision

    made = []
    for subject in [*PLANTED, *CLEAN]:
        if subject.framework != framework or dtype not in subject.dtypes:
            continue
        verdict, flow, trace = judged(subject.problem, subject.observe, dtype)
        objections: tuple[str, ...] = ()
        if peers:
            *_, (_, expected) = flow.run(RoundingModel(precision(dtype)))
            objections = objecting(trace.output, expected.value)
        said = f"{verdict.status}, at fault: {', '.join(blamed(verdict)) or 'nothing'}; " + (
            ", ".join(f"{name} = {value}" for name, value in explanations(verdict).items()) or "unexplained"
        )
        if isinstance(subject, Planted):
            detected = verdict.status == "diverges"
            placed, named = detected and subject.placed(verdict), detected and subject.explained(verdict)
            figures = (detected, placed, named, said, objections)
            made.append(Judged(framework, subject.name, subject.faults, bool(subject.named), *figures))
        else:
            alarm = not quiet(verdict)
            made.append(Judged(framework, subject.name, 0, False, alarm, False, False, said, objections))
    return made


def share(subjects: Iterable[Judged], holds: Callable[[Judged], bool]) -> str:
    """For how many of them it holds, of how many."""
    subjects = list(subjects)
    return f"{sum(map(holds, subjects))}/{len(subjects)}" if subjects else "-"


def row(title: str, subjects: list[Judged], peers: bool) -> list[str]:
    """One line of the table."""
    faults, clean = [s for s in subjects if s.faults], [s for s in subjects if not s.faults]
    cells = [
        title,
        str(len(faults)),
        share(faults, lambda s: s.detected),
        share(faults, lambda s: s.placed),
        share((s for s in faults if s.has_name), lambda s: s.named),
        share((s for s in faults if not s.has_name), lambda s: s.named),
        share((s for s in faults if s.faults > 1), lambda s: s.placed and s.named),
        str(len(clean)),
        str(sum(s.detected for s in clean)),
    ]
    for peer in PEERS if peers else ():
        missed = sum(peer not in s.peers for s in faults)
        cells.append(f"{missed} / {sum(peer in s.peers for s in clean)}")
    return cells


def shortcomings(subjects: list[Judged]) -> list[str]:
    """What is not as it should be: the corpus's size, or the judge's figures on it."""
    faults, clean = [s for s in subjects if s.faults], [s for s in subjects if not s.faults]
    named = [s for s in faults if s.has_name]
    counts = {
        f"{FAULTS} faults": (len(faults), FAULTS),
        f"{OTHER_FRAMEWORKS} faults that are not PyTorch": (
            sum(s.framework != "PyTorch" for s in faults),
            OTHER_FRAMEWORKS,
        ),
        f"{SEVERAL} cases of several faults": (sum(s.faults > 1 for s in faults), SEVERAL),
        "as many clean subjects as faults": (len(clean), len(faults)),
        "every fault detected": (sum(s.detected for s in faults), len(faults)),
        f"{PLACED:.0%} placed": (sum(s.placed for s in faults), PLACED * len(faults)),
        f"{NAMED:.0%} named": (sum(s.named for s in named), NAMED * len(named)),
        "no clean subject alarms": (sum(not s.detected for s in clean), len(clean)),
    }
    return [f"not met: {what} (it is {is_})" for what, (is_, least) in counts.items() if is_ < least]


def main() -> int:
    """Print the table; with --check, say by the exit code whether it is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--peers", action="store_true", help="judge the outputs by other tools' defaults too")
    parser.add_argument("--check", action="store_true", help="exit 1 where a figure is not where it should be")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    options = parser.parse_args()
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        asked = {f: pool.submit(judge_framework, f, options.dtype, options.peers) for f in FRAMEWORKS}
        by_framework = {framework: future.result() for framework, future in asked.items()}
    subjects = [subject for found in by_framework.values() for subject in found]
    titles = ["framework", "faults", "detected", "placed", "named", "unnamed", "double", "clean", "alarms"]
    rows = [titles + [f"{peer.rpartition('.')[2]}: missed / alarms" for peer in PEERS if options.peers]]
    rows += [row(framework, found, options.peers) for framework, found in by_framework.items()]
    rows.append(row("total", subjects, options.peers))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in rows:
        print("  ".join([cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))]))
    for subject in subjects:
        as_it_should_be = subject.placed and subject.named if subject.faults else not subject.detected
        if not as_it_should_be:
            print(f"{subject.framework}: {subject.name}: {subject.said}", file=sys.stderr)
    unmet = shortcomings(subjects)
    for line in unmet:
        print(line, file=sys.stderr)
    return 1 if options.check and unmet else 0


if __name__ == "__main__":
    sys.exit(main())
