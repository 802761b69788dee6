"""Which tensor of a trace is which step, for any layer."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from conformance.scanned import ScannedWalk
from conformance.walk import Placed, Walk

if TYPE_CHECKING:
    from conformance.flow import Flow
    from conformance.model import RoundingModel
    from conformance.trace import Trace


def align(
    flow: Flow, trace: Trace, model: RoundingModel, only: Collection[tuple[str, Any]] | None = None
) -> dict[str, Placed]:
    """Where every step of `flow` is in `trace`, with its isolated figures.

    The output is that of the observed run, so that it belongs to the steps; a trace without one has a
    single output for both. Conventions are tried on a fault: all that can act, or `only` those (keyword and
    value) that are given.
    Raises ConformanceError where the output has not the layer's shape.
    """
    kind = ScannedWalk if flow.layer.scan is not None else Walk
    walk = kind(flow, trace, model, only)
    walk.run()
    return walk.placed
