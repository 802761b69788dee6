"""A subject that stores everything it computes in a narrower format than it claims: autocast around a whole layer.

Each step is then the exact one on values of the narrow format, rounded once to that format. That is emulated step by
step from what was observed, and must come out within the unchanged tolerance of the claimed precision: a wide
tolerance would explain nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.align import align
from conformance.elementwise import to_bfloat16
from conformance.figures import compare
from conformance.model import RoundingModel
from conformance.precision import PRECISIONS
from conformance.variants import PRECISION
from conformance.walk import Placed, observed_values

if TYPE_CHECKING:
    from conformance.flow import Flow
    from conformance.trace import Trace

_FORMATS = {"float32": {"bfloat16": to_bfloat16}}  # claimed precision: what may be stored instead


def stored_narrower(flow: Flow, trace: Trace, model: RoundingModel) -> dict[str, Placed] | None:
    """The alignment of a subject whose every step comes out of some narrower format, each step that is off for it
    explained by `arithmetic.precision`; None where there is no such format."""
    for name, cast in _FORMATS.get(model.precision.name, {}).items():
        narrow = PRECISIONS[name]
        placed = align(flow, trace, RoundingModel(narrow), only=())
        observed = observed_values(placed)
        if flow.layer.scan is not None or not observed or any(p.faulty for p in placed.values()):
            continue
        given = replace(flow, values={n: narrow.round(v) if _is_float(v) else v for n, v in flow.values.items()})
        emulated = given.isolated(model, observed)
        if all(s.name not in observed or compare(cast(v), observed[s.name]).conforms for s, v in emulated):
            return _explained(flow, model, placed, {PRECISION: name})
    return None


def _explained(
    flow: Flow, model: RoundingModel, placed: dict[str, Placed], conventions: Mapping[str, Any]
) -> dict[str, Placed]:
    observed = observed_values(placed)
    for step, canonical in flow.isolated(model, observed):
        at = placed[step.name]
        if step.name in observed:
            at.isolated = compare(canonical, observed[step.name])
            at.faulty = not at.isolated.conforms
            at.conventions = conventions if at.faulty else {}
    return placed


def _is_float(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"
