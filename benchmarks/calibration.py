"""Where the ratios of clean cases lie: the median, the 99th percentile and the maximum, per framework and dtype.

    python benchmarks/calibration.py                     # runs every fixture on every adapter first
    python benchmarks/calibration.py --run run.json      # reads a saved run
    python benchmarks/calibration.py --check             # exits 1 where a figure is not where it should be

A ratio above 1 would be a false alarm. A 99th percentile below 0.05 would mean tolerances so wide that faults
hide in them; one above 0.8 that alarms are near. Every observed step of every conforming case counts, isolated
and accumulated; steps that are exact (a transposition, a copy) are left out, for they say nothing of rounding, and so
are those flagged `biased-rounding`: beyond their tolerance, within the worst case, and right on fresh inputs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec
import numpy as np

from conformance.fixture import select
from conformance.result import Run
from conformance.run import run

LOWEST, HIGHEST = 0.05, 0.8


def ratios(result: Run) -> dict[tuple[str, str], list[float]]:
    """The ratios of the steps of conforming cases, by adapter and dtype."""
    found: dict[tuple[str, str], list[float]] = {}
    for case in result.cases:
        if case.status != "conforms":
            continue
        for step in (s for s in case.steps if "biased-rounding" not in s.flags):
            for figures in (step.isolated, step.accumulated):
                if figures is not None and figures.max_abs != 0:
                    found.setdefault((case.adapter, case.dtype), []).append(figures.tolerances)
    return found


def main() -> int:
    """Print the table; with --check, say by the exit code whether it is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, metavar="FILE", help="a result that `conformance run --json` wrote")
    parser.add_argument("--check", action="store_true", help="exit 1 where a figure is not where it should be")
    options = parser.parse_args()
    saved: Path | None = options.run
    result = run(select([])) if saved is None else msgspec.json.decode(saved.read_bytes(), type=Run)
    wrong = []
    print(f"{'adapter':17} {'dtype':9} {'steps':>6} {'median':>8} {'99 %':>8} {'maximum':>8}")
    for (adapter, dtype), values in sorted(ratios(result).items()):
        median, high = np.percentile(values, [50, 99])
        print(f"{adapter:17} {dtype:9} {len(values):6} {median:8.3f} {high:8.3f} {max(values):8.3f}")
        if not LOWEST <= high <= HIGHEST:
            wrong.append(f"{adapter} {dtype}: the 99th percentile is {high:.3f}, not between {LOWEST} and {HIGHEST}")
        if max(values) > 1:
            wrong.append(f"{adapter} {dtype}: a conforming case has a ratio of {max(values):.3f}")
    wrong += [
        f"{c.adapter} {c.fixture} {c.subject} {c.dtype}: {c.status}"
        for c in result.cases
        if c.status in ("diverges", "inconclusive", "stale-divergence")
    ]
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if options.check and wrong else 0


if __name__ == "__main__":
    sys.exit(main())
