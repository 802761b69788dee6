"""The JSON Schemas of a run, a gate and a diff, made from the types that are written.
`python -m conformance_reports.json_schema` brings the published files up to date.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from conformance import difference
from conformance.difference import Difference
from conformance.gated import CHANGES, Gated
from conformance.result import STATUSES, Run

FILE = Path(__file__).with_name("run.schema.json")
"""The published schema of a run."""
GATE_FILE = Path(__file__).with_name("gate.schema.json")
"""The published schema of a gate."""
DIFFERENCE_FILE = Path(__file__).with_name("difference.schema.json")
"""The published schema of a diff."""

_NUMBER: dict[str, Any] = {"anyOf": [{"type": "number"}, {"enum": ["inf", "-inf", "nan"]}]}


def schema() -> bytes:
    """The schema of a run, as the bytes of its file."""
    made = _made(Run, "A run of conformance")
    _of_cases(made["$defs"], "Run", "Case")
    return _written(made, "Deviation")


def gate_schema() -> bytes:
    """The schema of a gate, as the bytes of its file."""
    made = _made(Gated, "A run of conformance beside its baseline")
    types = made["$defs"]
    _of_cases(types, "Gated", "GatedCase")
    types["Gated"]["properties"]["changes"]["propertyNames"] = {"enum": list(CHANGES)}
    types["GatedCase"]["properties"]["change"]["enum"] = list(CHANGES)
    types["Baseline"]["properties"]["status"]["enum"] = list(STATUSES)
    types["Drift"]["properties"]["ratio"] = _NUMBER
    for kind, field in (("Drift", "max_abs"), ("Baseline", "ratio")):
        types[kind]["properties"][field] = {"anyOf": [*_NUMBER["anyOf"], {"type": "null"}]}
    return _written(made, "Deviation")


def _of_cases(types: dict[str, Any], run: str, case: str) -> None:
    types[run]["properties"]["summary"]["propertyNames"] = {"enum": list(STATUSES)}
    types[case]["properties"]["status"]["enum"] = list(STATUSES)
    for values in ("oracle", "observed", "difference"):
        types["Sample"]["properties"][values]["items"] = _NUMBER
    types["Sample"]["properties"]["figure"] = {"enum": ["isolated", "accumulated"]}


def difference_schema() -> bytes:
    """The schema of a diff, as the bytes of its file."""
    made = _made(Difference, "Two models beside one another, by conformance")
    types = made["$defs"]
    types["Difference"]["properties"]["status"]["enum"] = list(difference.STATUSES)
    types["Difference"]["properties"]["rounding"]["enum"] = list(difference.ROUNDINGS)
    return _written(made, "Figure")


def _made(kind: type[msgspec.Struct], title: str) -> dict[str, Any]:
    """Every field is required: all are always written."""
    made: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **msgspec.json.schema(kind),
    }
    for described in made["$defs"].values():
        described["required"] = list(described["properties"])
        for field in described["properties"].values():
            field.pop("default", None)
    made["$defs"][kind.__name__]["properties"]["schema"]["const"] = msgspec.structs.fields(kind)[0].default
    return made


def _written(made: dict[str, Any], figures: str) -> bytes:
    for figure in ("ratio", "max_abs", "max_rel"):  # JSON has no infinity and no NaN
        made["$defs"][figures]["properties"][figure] = _NUMBER
    return msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n"


if __name__ == "__main__":
    FILE.write_bytes(schema())
    GATE_FILE.write_bytes(gate_schema())
    DIFFERENCE_FILE.write_bytes(difference_schema())
