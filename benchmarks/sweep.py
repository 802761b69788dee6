"""The hunt: configurations of every layer, drawn from the product of what a user can choose, on every adapter.

    python benchmarks/sweep.py                                     # 12 configurations of each layer
    python benchmarks/sweep.py --most 200 --layer max_pool2d --adapter onnxruntime
    python benchmarks/sweep.py --most 2 --check                    # exits 1 where something has no explanation

Sizes of one, primes and empty batches; even and odd sizes, strides, paddings, dilations and groups; every mask; lengths
and directions; numbers that are large, subnormal, infinite or none. The values of all choices come before their
combinations do, and the seed settles which are drawn.

What does not conform is printed in groups that have the same layer, subject, step and cause, each with the values of
those choices that set it apart. `sweep.toml` beside this file has what is understood: patterns of names,
a reason, and the script among the reproductions that shows it. Reasons that nothing needed are told too.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
import tomllib
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeping import rows, sequences, windows
from sweeping.grid import Arrays, Grid

from conformance.errors import ConformanceError
from conformance.fixture import Fixture
from conformance.flow import Flow
from conformance.layers import get_layer, layer_names
from conformance.run import chosen_adapters, run

if TYPE_CHECKING:
    from conformance.result import Case

GRIDS = {grid.layer: grid for module in (windows, rows, sequences) for grid in module.GRIDS}
EXPLAINED = Path(__file__).with_suffix(".toml")
FINE = ("conforms", "unsupported", "uninformative")
SEED = 20261121
AT_ONCE = 300  # configurations: JAX keeps what it compiled for each, in the end gigabytes
_NUMBER = re.compile(r"(?<![a-zA-Z])\d[\d.]*|0x[0-9a-f]+")


@dataclass(frozen=True)
class Drawn(Fixture):
    """A fixture that is in memory."""

    made: Arrays = field(default_factory=dict, hash=False, compare=False)

    def load(self) -> tuple[Arrays, Arrays]:
        """Its inputs and its weights, by canonical name."""
        groups: tuple[Arrays, Arrays] = ({}, {})
        for key, array in self.made.items():
            group, _, name = key.partition(".")
            groups[group == "weights"][name] = array
        return groups


def main(arguments: list[str] | None = None) -> int:
    """Run the sweep, print what it found. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=12, help="configurations of each layer (12)")
    parser.add_argument("--layer", action="append", choices=list(GRIDS), help="only this one (repeatable)")
    parser.add_argument("--adapter", action="append", default=[], help="only this one (repeatable)")
    parser.add_argument("--dtype", action="append", help="float32 and float64 if left out (repeatable)")
    parser.add_argument("--mode", action="append", help="eager if left out (repeatable)")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--explained", type=Path, default=EXPLAINED, help="what is understood (sweep.toml)")
    parser.add_argument("--check", action="store_true", help="exit with 1 where something is not explained")
    given = parser.parse_args(arguments)
    chosen = [GRIDS[n] for n in layer_names() if n in (given.layer or GRIDS) and n in GRIDS]
    adapters = chosen_adapters(given.adapter)
    drawn = [f for grid in chosen for f in configurations(grid, given.most, given.seed)]
    started, cases = time.perf_counter(), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of an empty batch
        for first in range(0, len(drawn), AT_ONCE):
            part = drawn[first : first + AT_ONCE]
            done = run(
                part, adapters, given.dtype or ("float32", "float64"), modes=given.mode or ("eager",), timeout=120
            )
            cases += done.cases
    took = time.perf_counter() - started
    _print_counts(cases, [g.layer for g in chosen])
    ran = sum(c.status != "unsupported" for c in cases)
    print(f"\n{ran} cases of {len(drawn)} configurations in {took:.0f} s: {60 * ran / took:.0f} a minute\n")
    reasons = tomllib.loads(given.explained.read_text(encoding="utf-8")).get("explanation", [])
    return _told(
        cases, reasons, check=given.check, complete=given.most >= 12 and given.adapter == [] and given.layer is None
    )


def configurations(grid: Grid, most: int, seed: int) -> Iterator[Drawn]:
    """At most so many of a grid that the layer takes: what the oracle refuses is no configuration."""
    found = 0
    for name, (config, arrays) in grid.drawn(8 * most, seed):
        made = Drawn(
            id=name, layer=grid.layer, config=config, summary=name, source="drawn", folder=Path(), arrays="",
            shipped=(), made=arrays,
        )  # fmt: skip
        if found < most and _legal(made):
            found += 1
            yield made


def _legal(made: Drawn) -> bool:
    inputs, weights = made.load()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of numbers that are none, and of means of nothing
            flow = Flow.bind(get_layer(made.layer, made.config), made.config, inputs, weights, where=made.id)
            for _ in flow.run(None):
                pass
    except ConformanceError:
        return False
    return True


def _print_counts(cases: Iterable[Case], layers: Iterable[str]) -> None:
    statuses: dict[str, Counter[str]] = defaultdict(Counter)
    for case in cases:
        statuses[case.layer][case.status] += 1
    print(f"{'layer':30} {'conform':>8} {'unsupported':>12} {'uninformative':>14} {'other':>6}")
    for layer in layers:
        of = statuses[layer]
        other = sum(n for status, n in of.items() if status not in FINE)
        print(f"{layer:30} {of['conforms']:8} {of['unsupported']:12} {of['uninformative']:14} {other:6}")


def _told(cases: list[Case], reasons: list[Mapping[str, Any]], *, check: bool, complete: bool) -> int:
    """Print what does not conform, in groups. Returns the exit status."""
    groups: dict[tuple[str, ...], list[Case]] = defaultdict(list)
    used: Counter[int] = Counter()
    for case in cases:
        if case.status in FINE:
            continue
        number = next((i for i, reason in enumerate(reasons) if _explains(reason, case)), None)
        if number is None:
            groups[case.layer, case.subject, case.status, _said(case)].append(case)
        else:
            used[number] += 1
    for number, count in sorted(used.items()):
        print(f"explained {count:5}: {reasons[number]['reason']}")
    for (layer, subject, status, said), alike in groups.items():
        siblings = [c for c in cases if c.layer == layer and c.subject == subject and c.status in ("conforms", status)]
        dtypes, adapters = (
            ", ".join(sorted(found)) for found in ({c.dtype for c in alike}, {c.adapter for c in alike})
        )
        print(f"\n{status}: {subject} ({layer}, {adapters}, {dtypes}) {said}")
        print(f"  {len(alike)} cases; all have {_apart(alike, siblings)}\n  {alike[0].fixture}")
    idle = [reason["reason"] for number, reason in enumerate(reasons) if number not in used]
    if complete and idle:
        print(f"\n{len(idle)} explanations that nothing needed, of so many configurations:", *idle, sep="\n  ")
    return int(check and bool(groups))


def _said(case: Case) -> str:
    if case.status != "diverges":
        return _NUMBER.sub("#", " ".join(str(case.message).split()))[:200]
    return f"at {case.culprit}: {', '.join(_named(case)) or 'unexplained'}"


def _named(case: Case) -> list[str]:
    """The diagnosis, with what is a hint alone in brackets."""
    said = [(f"{c.convention} = {c.value}", c.explains) for c in case.diagnosis]
    return [words if explains else f"[{words}]" for words, explains in said]


def _explains(reason: Mapping[str, Any], case: Case) -> bool:
    """Whether all that a reason says holds of a case: patterns of names, and words that its message has."""
    values = {
        "layers": case.layer,
        "configurations": case.fixture.partition("/")[2],
        "adapters": case.adapter,
        "subjects": case.subject,
        "dtypes": case.dtype,
        "steps": case.culprit or "",
        "statuses": case.status,
        "causes": ", ".join(_named(case)).replace("[", "(").replace("]", ")"),
        "messages": " ".join((case.message or "").split()),
    }
    return all(
        any(fnmatchcase(values[key], pattern) for pattern in patterns)
        for key, patterns in {"statuses": ["diverges"], **reason}.items()
        if key in values
    )


def _apart(alike: list[Case], siblings: list[Case]) -> str:
    """The choices of which these cases have fewer values than their siblings."""
    words = []
    for key, values in _values(alike).items():
        if len(values) < len(_values(siblings)[key]):
            words.append(f"{key} = {' or '.join(sorted(values))}")
    return "; ".join(words) or "nothing in common"


def _values(cases: Iterable[Case]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        for word in case.fixture.partition("/")[2].split(","):
            key, _, value = word.partition("=")
            found[key].add(value)
    return found


if __name__ == "__main__":
    sys.exit(main())
