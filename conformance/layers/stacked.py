"""Recurrent layers one upon another: what each gives is what the next one reads.

The names of each layer begin with its number, `l0.` for the first; those of a layer alone have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from conformance.errors import ConformanceError
from conformance.layer import Layer, Step


def prefixes(count: int) -> tuple[str, ...]:
    """What the names of each of `count` layers begin with."""
    return tuple(f"l{k}." for k in range(count)) if count > 1 else ("",)


def stacked(layer: Layer, config: Mapping[str, Any]) -> Layer:
    """`layer`, in one direction or in both, as often as `config` says (Graves, Mohamed and Hinton, Speech recognition
    with deep recurrent neural networks, 2013). The layers have one config.

    Raises ConformanceError where `layers` is no number of layers.
    """
    scan, count = layer.scan, config["layers"]
    assert scan is not None
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ConformanceError(f"{layer.name} has 1 or more 'layers', not {count!r}")
    shared = {*scan.over, scan.lengths, *layer.config}
    inputs = {n: axes for n, axes in layer.inputs.items() if n.rstrip("?") in shared}
    weights: dict[str, str] = {}
    steps: dict[str, Step] = {}
    flowing, axis, own = scan.over[0], _last(layer.inputs[scan.over[0]]), prefixes(count)
    width = axis
    for prefix in own:
        axes = {"state": f"{prefix}state", "unit": f"{prefix}unit", axis: width}
        inputs |= {f"{prefix}{n}": _renamed(a, axes) for n, a in layer.inputs.items() if n.rstrip("?") not in shared}
        weights |= {f"{prefix}{n}": _renamed(a, axes) for n, a in layer.weights.items()}
        steps |= layer.prefixed(prefix.rstrip("."), {n: n for n in shared} | {scan.over[0]: flowing})
        flowing, width = f"{prefix}{layer.output}", _given(layer, config, axes)

    def initial(values: Mapping[str, Any]) -> dict[str, Any]:
        """The states of every layer before the first time step that it meets."""
        assert layer.initial is not None
        made: dict[str, Any] = {}
        for prefix in own:
            held = {n.rstrip("?"): values[f"{prefix}{n.rstrip('?')}"] for n in layer.weights}
            made |= {f"{prefix}{n}": state for n, state in layer.initial({**values, **held}).items()}
        return made

    return replace(layer, inputs=inputs, weights=weights, steps=steps, scan=replace(scan, stack=own), initial=initial)


def _last(axes: str) -> str:
    return axes.split()[-1]


def _renamed(axes: str, names: Mapping[str, str]) -> str:
    """`axes`, of which those in `names` are called otherwise: `4*unit` becomes `4*l1.unit`."""
    parts = (word.rpartition("*") for word in axes.split())
    return " ".join(f"{factor}{star}{names.get(axis, axis)}" for factor, star, axis in parts)


def _given(layer: Layer, config: Mapping[str, Any], axes: Mapping[str, str]) -> str:
    """How wide what a layer gives is: its state, that of both directions where they stand side by side."""
    state = axes[_last(next(a for n, a in layer.inputs.items() if n.startswith("initial_hidden")))]
    both = config.get("direction") == "bidirectional" and config.get("merge", "concat") == "concat"
    return f"2*{state}" if both else state
