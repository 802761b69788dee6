"""A run or a diff as JSON: DESIGN section 11 fixes the fields, `run.schema.json` and `difference.schema.json`
describe them."""

from __future__ import annotations

from typing import Any

import msgspec

from conformance.difference import Difference
from conformance.result import Run


def render(run: Run | Difference) -> bytes:
    """`run` as indented JSON: the same run gives the same bytes, whatever the order of its mappings.

    A message may hold bytes that are no UTF-8 (lone surrogates, of a file's name for instance), which JSON
    cannot: they are written as backslash escapes.
    """
    try:
        encoded = msgspec.json.encode(run, order="deterministic")
    except UnicodeEncodeError:
        encoded = msgspec.json.encode(_escaped(msgspec.to_builtins(run)), order="deterministic")
    return msgspec.json.format(encoded, indent=1) + b"\n"


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_escaped(k): _escaped(v) for k, v in value.items()}
    return [_escaped(v) for v in value] if isinstance(value, list) else value
