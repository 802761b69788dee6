"""A row of layers: each reads what the one before gave. Steps, weights and config carry the part's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conformance.errors import ConformanceError
from conformance.layer import Layer


def make(config: Mapping[str, Any]) -> Layer:
    """The layer for `config`: its entry `parts` is a list of {name, layer, config}.

    A part reads the output of the part before in its first input; the first part reads `x`. Raises
    ConformanceError where a part is not one that can stand in a row.
    """
    from conformance.layers import get_layer

    parts = config.get("parts", [])
    steps, weights = {}, {}
    settings: dict[str, Any] = {"parts": parts}
    falls_back: dict[str, str] = {}
    axes, flowing = "...", "x"
    for number, part in enumerate(parts):
        try:
            name, layer = part["name"], get_layer(part["layer"], part.get("config"))
        except (KeyError, TypeError):
            raise ConformanceError(
                f"sequential: part {number} needs a 'name' and a 'layer', as in {{name='norm', layer='layer_norm'}}"
            ) from None
        if f"{name}.{layer.output}" in steps:
            raise ConformanceError(f"sequential: two parts are called {name!r}; give each its own name")
        if layer.scan is not None:
            raise ConformanceError(
                f"sequential: part {name!r} is a {layer.name}, and recurrent parts cannot stand in a row yet"
            )
        own = {**layer.complete(part.get("config", {}))}
        first = next(iter(layer.inputs))
        if number == 0:
            axes = layer.inputs[first]
        wiring = {first: flowing}
        for absent, stand_in in layer.falls_back.items():
            if f"{absent}?" in layer.inputs:
                wiring[absent] = wiring.get(stand_in, stand_in)
        steps.update(layer.prefixed(name, wiring))
        weights.update({f"{name}.{w}": a for w, a in layer.weights.items()})
        settings.update({f"{name}.{key}": value for key, value in own.items()})
        flowing = f"{name}.{layer.output}"
    return Layer(
        name="sequential",
        summary="Layers in a row, as in a small network.",
        formula="output = last(... second(first(x)))",
        source="a composition of the layers above",
        inputs={"x": axes},
        weights=weights,
        config=settings,
        steps=steps,
        falls_back=falls_back,
    )


MAKES = {"sequential": make}
