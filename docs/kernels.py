"""Writes kernels.json: the forms that an adapter declares in a dtype and that its framework turns out not to run.

python docs/kernels.py RUN.json...            # writes what these runs found; what they have not run stays
python docs/kernels.py --check RUN.json...    # writes nothing, and exits with 1 where they found otherwise
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("kernels.json")
Form = tuple[str, str, str, str]  # adapter, layer, dtype, fixture


def main(arguments: list[str] | None = None, file: Path = FILE) -> int:
    """Write `file` from runs, or say where it is not what they found. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where the file is stale")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN.json", help="what `conformance run --json` wrote")
    given = parser.parse_args(arguments)
    known = read(file)
    cases = [case for run in given.runs for case in json.loads(run.read_text(encoding="utf-8"))["cases"]]
    found = declared(cases)
    lacking = {form for form, runs in found.items() if not runs}
    for form in sorted((known & set(found)) ^ lacking):
        print(f"{' '.join(form)}: {'is not run' if form in lacking else 'is run'}", file=sys.stderr)
    if given.check:
        return int(bool((known & set(found)) ^ lacking))
    write((known - set(found)) | lacking, file)
    return 0


def declared(cases: Iterable[Mapping[str, Any]]) -> dict[Form, bool]:
    """The forms of which an adapter had a subject, and whether any of its subjects was run."""
    found: dict[Form, bool] = {}
    for case in cases:
        if case["subject"] and case["mode"] == "eager" and case["status"] != "unavailable":
            form = case["adapter"], case["layer"], case["dtype"], case["fixture"]
            found[form] = found.get(form, False) or case["status"] != "unsupported"
    return found


def read(file: Path = FILE) -> set[Form]:
    """The forms in the file."""
    said = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return {
        (adapter, layer, dtype, fixture)
        for adapter, layers in said.items()
        for layer, dtypes in layers.items()
        for dtype, fixtures in dtypes.items()
        for fixture in fixtures
    }


def write(forms: set[Form], file: Path = FILE) -> None:
    """Make the file hold these forms."""
    made: dict[str, Any] = {}
    for adapter, layer, dtype, fixture in sorted(forms):
        made.setdefault(adapter, {}).setdefault(layer, {}).setdefault(dtype, []).append(fixture)
    file.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
