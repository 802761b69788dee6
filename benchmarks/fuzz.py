"""Every reader of files on damaged and hostile ones: nothing may come of them but arrays or one clear sentence.

    python benchmarks/fuzz.py                                  # every reader, a minute each
    python benchmarks/fuzz.py --minutes 10 --reader mat5 --reader npz
    python benchmarks/fuzz.py --minutes 10 --seed 7            # other damage
    python benchmarks/fuzz.py --file kept/npz-traceback-0.npz  # one file once more
    python benchmarks/fuzz.py --check                          # exits 1 where there was a fault

Valid files, each written by the program that writes such files for users, are damaged: bytes at random, and by
knowledge of the format. Files that are hostile by design come first. What takes the project's own code along a way
that no file took before is damaged further: coverage guides the search, but for the readers that load a framework.

Each is read in a process that is watched. A fault is: an exception other than ConformanceError; a sentence that does
not name the file, or has control characters; more time than the reader's limit; the death of the process; more than a
gigabyte for one file; a file opened for writing, or left, outside the target; the secret beside the input read; a
program started, a connection made, or a class named by a pickle. A fault's input is kept, and its recipe printed: the
seed file and the numbers of the changes.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path

from fuzzing.campaign import FINE, Child, Tally, fuzz
from fuzzing.readers import READERS

SHOWN = 25  # kinds of faults of one reader


def main() -> int:
    """The exit code: 1 where `--check` was given and there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reader", action="append", choices=list(READERS), help="only this one (repeatable)")
    parser.add_argument("--minutes", type=float, default=1.0, help="for each reader (1)")
    parser.add_argument("--inputs", type=int, help="as many for each reader, however long it takes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-faults"), help="where inputs with faults are written")
    parser.add_argument("--file", type=Path, help="read this file once, as the reader named first or by its name")
    parser.add_argument("--check", action="store_true", help="exit with 1 where there was a fault")
    options = parser.parse_args()
    if options.file is not None:
        return again(options.file, (options.reader or [options.file.name.partition("-")[0]])[0])
    tallies = []
    for reader in options.reader or READERS:
        with tempfile.TemporaryDirectory(prefix="conformance-fuzz-") as folder:
            work = Path(folder) / "here"
            seconds = 60 * options.minutes if options.inputs is None else float("inf")
            tallies.append(fuzz(reader, work, seconds, options.seed, options.keep, options.inputs))
        told(tallies[-1], first=len(tallies) == 1)
    return int(options.check and any(t.faults for t in tallies))


def told(tally: Tally, first: bool) -> None:
    """Print a row of the table, and the faults below it."""
    if first:
        print(f"{'reader':12} {'seconds':>7} {'inputs':>8} {'refused':>8} {'read':>7} {'new ways':>8} {'faults':>7}")
    counts = tally.outcomes
    print(
        f"{tally.reader:12} {tally.seconds:7.0f} {tally.inputs:8} {counts['refused']:8} {counts['read']:7} "
        f"{tally.kept or '':>8} {sum(n for k, n in counts.items() if k not in FINE):7}",
        flush=True,
    )
    seen: dict[str, int] = {}
    for fault in tally.faults:
        kind = re.sub(r"\d+|'[^']*'|`[^`]*`", "", f"{fault.kind}: {fault.said}")[:300]
        seen[kind] = seen.get(kind, 0) + 1
        if seen[kind] == 1 and len(seen) <= SHOWN:
            print(f"  {fault.kind}: {fault.said[:400]}\n    {fault.made} -> {fault.file}", flush=True)
    if len(seen) > SHOWN:
        print(f"  and {len(seen) - SHOWN} other kinds: see where they are kept")


def again(file: Path, reader: str) -> int:
    """Read one file as `reader` does, and print what became of it."""
    from fuzzing import hostile, seeds

    with tempfile.TemporaryDirectory(prefix="conformance-fuzz-") as made:
        folder = Path(made) / "here"
        for name in ("seeds", "input", "work", "temporary"):
            (folder / name).mkdir(parents=True)
        seeds.WRITERS[reader](folder / "seeds")
        hostile.plant(folder)
        child = Child(reader, folder)
        child.start()
        target = folder / "input" / (READERS[reader].file or file.name)
        target.write_bytes(file.read_bytes())
        found = child.read(target)
        child.stop()
    print(f"{found['outcome']}: {found['said']}")
    return int(found["outcome"] not in FINE)


if __name__ == "__main__":
    sys.exit(main())
