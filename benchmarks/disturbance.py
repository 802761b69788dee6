"""Disturbs runs at random moments and counts what was lost: nothing may be.

    python benchmarks/disturbance.py --times 50
    python benchmarks/disturbance.py --times 5 --kind "disk full" --seed 3

Each run is ended or hurt once (its main process or a worker killed, its disk full, a layer that hangs, Ctrl-C or
SIGTERM), read, gone on with, and put beside one that was not disturbed. Exits 1 where anything is not as it must be.
A full disk needs the right to mount one.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from disturbances import CASE_COUNT, KINDS, Bench, Outcome


def main() -> int:
    """Print a line for each kind."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--times", type=int, default=50, help="how often each kind happens")
    options.add_argument("--kind", action="append", choices=list(KINDS), help="only this kind (repeatable)")
    options.add_argument("--seed", type=int, default=0, help="which random moments")
    asked = options.parse_args()
    lost = 0
    with tempfile.TemporaryDirectory(prefix="disturbance-") as folder:
        bench = Bench(Path(folder))
        print(f"an undisturbed run: {CASE_COUNT} cases in {bench.seconds:.2f} s")
        print(f"{'':<14}{'runs':>6}{'cut short':>11}{'done then':>13}{'faults':>8}")
        for kind in asked.kind or KINDS:
            outcomes = []
            for i in range(asked.times):
                saved = Path(folder, f"{kind.replace(' ', '-')}-{i}")
                rng = random.Random(f"{asked.seed} {kind} {i}")
                try:
                    outcomes.append(KINDS[kind](bench, saved, rng))
                except OSError as error:
                    print(f"{kind}: cannot be done here ({error})")
                    break
                for fault in outcomes[-1].faults:
                    print(f"{kind}, {i}: {fault}")
                shutil.rmtree(saved, ignore_errors=True)
            lost += sum(bool(o.faults) for o in outcomes)
            print(_line(kind, outcomes), flush=True)
    return 1 if lost else 0


def _line(kind: str, outcomes: list[Outcome]) -> str:
    short = sum(o.done < CASE_COUNT for o in outcomes)
    spread = f"{min((o.done for o in outcomes), default=0)} to {max((o.done for o in outcomes), default=0)}"
    return f"{kind:<14}{len(outcomes):>6}{short:>11}{spread:>13}{sum(bool(o.faults) for o in outcomes):>8}"


if __name__ == "__main__":
    sys.exit(main())
