"""A recurrent layer in both directions: two cells of their own weights, one from the first time step on, the other
from the last, and what becomes of their outputs.

The forward cell's names are those of the layer in one direction; the reverse cell's begin with `reverse_`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.errors import ConformanceError
from conformance.layer import REVERSE, Layer, Step

if TYPE_CHECKING:
    from jaxtyping import Float

    from conformance.array import Array


def output(
    forward: Float[Array, "batch unit"],
    reverse: Float[Array, "batch unit"],
    merge: str,
    *,
    rnn_bidirectional_merge: str = "<config>",
) -> Float[Array, "batch both"]:
    form = merge if rnn_bidirectional_merge == "<config>" else rnn_bidirectional_merge
    if form == "concat":
        return np.concatenate([forward, reverse], axis=-1)
    if form == "sum":
        return forward + reverse
    raise ConformanceError(f"the outputs of two directions are merged by 'concat' or 'sum', not {form!r}")


def in_both_directions(layer: Layer) -> Layer:
    """`layer` with a second cell that runs from the last time step to the first (Schuster and Paliwal, 1997)."""
    scan = layer.scan
    assert scan is not None
    first = _renamed(layer, "", "forward_output")
    second = _renamed(layer, REVERSE, f"{REVERSE}output")
    ends = [next(n for n in reversed(cell)) for cell in (first, second)]
    merged = Step.of("output", output)
    merged = replace(merged, reads={**merged.reads, "forward": ends[0], "reverse": ends[1]})
    inputs = {name: axes for name, axes in layer.inputs.items() if name.rstrip("?") not in (*scan.over, scan.lengths)}

    def initial(values: Mapping[str, Any]) -> dict[str, Any]:
        """The states of both directions before the first time step that each of them meets."""
        assert layer.initial is not None
        of_reverse = {n: values[f"{REVERSE}{n.rstrip('?')}"] for n in layer.weights}
        back = layer.initial({**values, **{n.rstrip("?"): value for n, value in of_reverse.items()}})
        return {**layer.initial(values), **{f"{REVERSE}{n}": value for n, value in back.items()}}

    return replace(
        layer,
        inputs={**layer.inputs, **{f"{REVERSE}{name}": axes for name, axes in inputs.items()}},
        weights={**layer.weights, **{f"{REVERSE}{name}": axes for name, axes in layer.weights.items()}},
        steps={**first, **second, "output": merged},
        scan=replace(
            scan,
            carry={n: (_end(layer, step, "forward_output"), start) for n, (step, start) in scan.carry.items()},
            reverse={
                f"{REVERSE}{n}": (f"{REVERSE}{step}", f"{REVERSE}{start}") for n, (step, start) in scan.carry.items()
            },
            joined=("output",),
        ),
        initial=initial,
    )


def _end(layer: Layer, step: str, end: str) -> str:
    return end if step == layer.output else step


def _renamed(layer: Layer, prefix: str, end: str) -> dict[str, Step]:
    """The steps of one direction. The last is left out where it is what the state before it is."""
    assert layer.scan is not None
    own = {n.rstrip("?") for n in (*layer.inputs, *layer.weights)} | {*layer.steps, *layer.scan.carry}
    own -= {*layer.scan.over, layer.scan.lengths}
    kept = [s for s in layer.steps if s != layer.output or any(s == step for step, _ in layer.scan.carry.values())]
    made: dict[str, Step] = {}
    for key in kept:
        name = end if key == layer.output else f"{prefix}{key}"
        reads = {p: f"{prefix}{n}" if n in own else n for p, n in layer.steps[key].reads.items()}
        made[name] = replace(layer.steps[key], name=name, reads=reads)
    return made
