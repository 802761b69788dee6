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


def grouping(convention: Convention, value: str, text: str) -> bool:
    """Each group is taken out of x as the formula says; its mean is the oracle's."""
    x = _normal(2, 3, 6)
    v = _ran("group_norm", {convention.keyword: value}, {"groups": 2}, x, {})
    expression = sides(text)[1]
    groups = [evaluated(expression, x=x, g=g, groups=2, size=3) for g in range(2)]
    return same(np.stack([part.mean((1, 2)) for part in groups], axis=-1), v["mean"].reshape(2, 2))


_MOVING = {"moving_mean": _normal(5, seed=4), "moving_variance": 1 + np.square(_normal(5, seed=5))}


def batch_norm(convention: Convention, value: str, text: str) -> bool:
    """What training leaves behind."""
    config = {"training": True, "momentum": 0.8, "epsilon": 0.02}
    v = _ran("batch_norm", {convention.keyword: value}, config, 1 + _normal(2, 3, 5), _MOVING)
    return _check({**v, "n": 6}, text)


def statistics(convention: Convention, value: str, text: str) -> bool:
    """In inference; the batch's mean and variance are those that training has."""
    x = 1 + _normal(2, 3, 5)
    training = _ran("batch_norm", {}, {"training": True}, x, _MOVING)
    v = _ran("batch_norm", {convention.keyword: value}, {"epsilon": 0.02}, x, _MOVING)
    return _check({**v, "mean": training["mean"], "variance": training["variance"]}, text)


CHECKS = {
    "batch_norm.momentum": batch_norm,
    "batch_norm.running-variance": batch_norm,
    "batch_norm.statistics": statistics,
    "group_norm.grouping": grouping,
    "rms_norm.weight-offset": weight_offset,
}
