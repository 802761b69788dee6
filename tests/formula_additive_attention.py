"""The formulas of additive attention, evaluated with NumPy alone: its own, and those of attention in its words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from conformance.conventions import Convention
from conformance.flow import Flow
from conformance.layers import get_layer
from formula_notation import evaluated, same, sides

MASK = np.array([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1]], dtype=bool)
EMPTY = np.array([[0] * 5, [1, 0, 1, 1, 1]], dtype=bool)


def _ran(convention: Convention, value: str, mask: Any = MASK) -> dict[str, Any]:
    """As many queries as keys, and as wide."""
    rng = np.random.default_rng(8)
    inputs = {"query": rng.normal(size=(2, 5, 4)), "value": rng.normal(size=(2, 5, 4)), "mask": mask}
    weights = {f"{n}_kernel": rng.normal(size=(4, 3)) for n in ("query", "key")} | {"scale": rng.normal(size=3)}
    choice = {} if value == convention.canonical else {convention.keyword: value}
    flow = Flow.bind(get_layer("additive_attention"), {}, inputs, weights)
    with np.errstate(all="ignore"):
        made = {step.name: np.asarray(v) for step, v in flow.run(None, choice)}
    return {**weights, **made, "given": inputs, "mask": mask[:, None]}


def _step(convention: Convention, value: str, text: str) -> bool:
    v = _ran(convention, value)
    step, expression = sides(text)
    return same(evaluated(expression, **_turned(v, "mask")), v[step])


def _turned(v: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {**v, name: np.broadcast_to(v[name], v["scores"].shape)}


def _softmax_axis(convention: Convention, value: str, text: str) -> bool:
    v = _ran(convention, value, np.ones((2, 5), dtype=bool))
    axis = ["batch", "query", "key"].index(text.rpartition("axis=")[2].removesuffix(")"))
    powers = np.exp(v["masked"] - v["masked"].max(axis, keepdims=True))
    return same(powers / powers.sum(axis, keepdims=True), v["weights"])


def _empty_row(convention: Convention, value: str, text: str) -> bool:
    said = text.removeprefix("weights = ").removesuffix(" where every key is masked")
    return same(np.full((5, 5), evaluated(said, keys=5)), _ran(convention, value, EMPTY)["weights"][0])


def _projections(convention: Convention, value: str, text: str) -> bool:
    v = _ran(convention, value)
    given = {**v, "query": v["given"]["query"], "key": v["given"]["value"]}
    made = evaluated(sides(text)[1], **given)
    return all(same(mine, v[name]) for name, mine in zip(("query", "key"), made, strict=True))


CHECKS = {"additive.kernel-order": _projections, "additive.sharpness": _step}
MASKS = {
    "attention.softmax-axis": _softmax_axis,
    "attention.mask-polarity": _step,
    "attention.mask-fill": _step,
    "attention.mask-axis": _step,
    "attention.fully-masked-row": _empty_row,
}
