"""A run or a diff as JSON: DESIGN section 11 fixes the fields, `run.schema.json` and `difference.schema.json`
describe them."""

from __future__ import annotations

import msgspec

from conformance.difference import Difference
from conformance.result import Run, escaped


def render(run: Run | Difference) -> bytes:
    """`run` as indented JSON: the same run gives the same bytes, whatever the order of its mappings.

    A message may hold bytes that are no UTF-8 (lone surrogates, of a file's name for instance), which JSON
    cannot: they are written as backslash escapes.
    """
    try:
        encoded = msgspec.json.encode(run, order="deterministic")
    except UnicodeEncodeError:
        encoded = msgspec.json.encode(escaped(msgspec.to_builtins(run)), order="deterministic")
    return msgspec.json.format(encoded, indent=1) + b"\n"
