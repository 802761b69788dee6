"""The JSON Schema of a run, made from the types that are written. `python -m conformance_reports.json_schema`
brings the published file up to date.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from conformance.result import STATUSES, Run

FILE = Path(__file__).with_name("run.schema.json")
"""The published schema."""


def schema() -> bytes:
    """The schema, as the bytes of its file. Every field is required: all are always written."""
    made: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A run of conformance",
        **msgspec.json.schema(Run),
    }
    types = made["$defs"]
    for described in types.values():
        described["required"] = list(described["properties"])
        for field in described["properties"].values():
            field.pop("default", None)
    types["Run"]["properties"]["schema"]["const"] = msgspec.structs.fields(Run)[0].default
    types["Run"]["properties"]["summary"]["propertyNames"] = {"enum": list(STATUSES)}
    types["Case"]["properties"]["status"]["enum"] = list(STATUSES)
    for figure in ("ratio", "max_abs", "max_rel"):  # JSON has no infinity and no NaN
        types["Deviation"]["properties"][figure] = {
            "anyOf": [{"type": "number"}, {"enum": ["inf", "-inf", "nan"]}],
        }
    return msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n"


if __name__ == "__main__":
    FILE.write_bytes(schema())
