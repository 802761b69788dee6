"""The formulas of normalisation, evaluated with NumPy alone on small random arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from conformance.conventions import Convention
from conformance.flow import Flow
from conformance.layers import get_layer
from formula_notation import evaluated, same, sides


def _ran(
    layer: str, choice: Mapping[str, Any], config: Mapping[str, Any], x: Any, weights: Mapping[str, Any]
) -> dict[str, Any]:
    flow = Flow.bind(get_layer(layer), config, {"x": x}, weights)
    with np.errstate(all="ignore"):
        return {**flow.values, **{step.name: np.asarray(v) for step, v in flow.run(None, choice)}}


def _normal(*shape: int, seed: int = 3) -> Any:
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def _check(v: Mapping[str, Any], text: str) -> bool:
    step, expression = sides(text)
    return same(evaluated(expression, **v), v[step])


def weight_offset(convention: Convention, value: str, text: str) -> bool:
    """The scale of an RMS norm."""
    weights = {"scale": _normal(5)}
    return _check(_ran("rms_norm", {convention.keyword: value}, {}, _normal(2, 3, 5), weights), text)


CHECKS = {"rms_norm.weight-offset": weight_offset}
