"""The formulas of resizing, evaluated with NumPy alone on a line of seven elements."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from conformance.conventions import Convention
from conformance.flow import Flow
from conformance.layers import get_layer
from formula_notation import evaluated, same, sides

X = np.random.default_rng(11).normal(size=(1, 7, 2))


def _ran(convention: Convention, value: str, **config: Any) -> dict[str, Any]:
    flow = Flow.bind(get_layer("resize"), config, {"x": X}, {})
    return {step.name: np.asarray(v) for step, v in flow.run(None, {convention.keyword: value})}


def kernel(t: Any, a: float = -0.75) -> Any:
    """Keys (1981), equation 4, with its coefficient left open."""
    t = np.abs(t)
    outer = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    return np.where(t <= 1, (a + 2) * t**3 - (a + 3) * t**2 + 1, np.where(t < 2, outer, 0))


def _summed(weights: Any, elements: Any) -> Any:
    """`out tap` and the elements that they weigh."""
    return np.einsum("ot,otc->oc", weights, X[0, np.clip(elements, 0, 6)])[None]


def coordinates(convention: Convention, value: str, text: str) -> bool:
    """Of eleven elements."""
    v = _ran(convention, value, size=11)
    return same(_along(text, 11, 11 / 7), v["coordinates"][:, 0])


def scaled(convention: Convention, value: str, text: str) -> bool:
    """Of 1.7 times as many, which are 11.9: eleven."""
    v = _ran(convention, value, scale=1.7)
    return same(_along(text, 11, 1.7), v["coordinates"][:, 0])


def _along(text: str, count: int, scale: float) -> Any:
    expression = re.sub(r"\bin\b", "inside", sides(text)[1])
    return evaluated(expression, j=np.arange(count), inside=7, out=count, scale=scale)


def nearest(convention: Convention, value: str, text: str) -> bool:
    """Of three and a half times fewer, where halves come up: 2 of 4 of the elements."""
    x = X[:, :4]
    flow = Flow.bind(get_layer("resize"), {"size": 2}, {"x": x}, {})
    made = np.asarray([v for _, v in flow.run(None, {convention.keyword: value})][-1])
    at = re.fullmatch(r"x\[(.*)\]", sides(text)[1])
    assert at is not None
    index = evaluated(at[1], coordinates=np.array([0.5, 2.5]), floor=np.floor, ceil=np.ceil)
    other = {"size": 5}  # and where a floor is not the nearest
    flow = Flow.bind(get_layer("resize"), other, {"x": x}, {})
    more = np.asarray([v for _, v in flow.run(None, {convention.keyword: value})][-1])
    places = (np.arange(5) + 0.5) * 4 / 5 - 0.5
    further = evaluated(at[1], coordinates=places, floor=np.floor, ceil=np.ceil)
    return same(x[:, index.astype(int)], made) and same(x[:, np.clip(further, 0, 3).astype(int)], more)


def cubic(convention: Convention, value: str, text: str) -> bool:
    """The weights of the two nearest, as the formula has them; of the other two, as Keys."""
    v = _ran(convention, value, size=11, mode="bicubic")
    at = v["coordinates"][:, 0]
    elements = np.floor(at).astype(int)[:, None] + np.arange(-1, 3)
    expression, _, a = sides(text)[1].partition(" for |t| <= 1, a = ")
    t = np.abs(at[:, None] - elements)
    inner = evaluated(expression.replace("|t|", "t"), t=t, a=float(a))
    return same(_summed(np.where(t <= 1, inner, kernel(t, float(a))), elements), v["output"])


def table(convention: Convention, value: str, text: str) -> bool:
    """Every weight by its formula."""
    v = _ran(convention, value, size=11, mode="bicubic")
    at = v["coordinates"][:, :1]
    elements = np.floor(at).astype(int) + np.arange(-1, 3)
    made = evaluated(sides(text)[1], kernel=kernel, coordinates=at, i=elements, round=np.round)
    return same(_summed(made, elements), v["output"])


def outside(convention: Convention, value: str, text: str) -> bool:
    """What is beyond the ends is weighed, or is not."""
    v = _ran(convention, value, size=11, mode="bicubic")
    at = v["coordinates"][:, :1]
    elements = np.arange(-3, 10) + np.zeros((11, 1), int)
    weights = kernel(at - elements)
    if text == "output = sum(weight * x[clip(i, 0, in - 1)])":
        return same(_summed(weights, elements), v["output"])
    assert text == "output = sum(weight * x[i] over 0 <= i < in) / sum(weight over 0 <= i < in)"
    weights = np.where((elements >= 0) & (elements < 7), weights, 0)
    return same(_summed(weights / weights.sum(1, keepdims=True), elements), v["output"])


def antialiased(convention: Convention, value: str, text: str) -> bool:
    """Of three elements, over all that the stretched kernel reaches."""
    v = _ran(convention, value, size=3, mode="bicubic")
    at = v["coordinates"][:, :1]
    elements = np.arange(-12, 19) + np.zeros((3, 1), int)
    expression, normalised, _ = re.sub(r"\bin\b", "inside", sides(text)[1]).partition(" / sum of the weights")
    weights = evaluated(expression, kernel=kernel, coordinates=at, i=elements, inside=7, out=3)
    return same(_summed(weights / weights.sum(1, keepdims=True) if normalised else weights, elements), v["output"])


CHECKS = {
    "resize.coordinates": coordinates,
    "resize.scale": scaled,
    "resize.nearest-rounding": nearest,
    "resize.cubic-coefficient": cubic,
    "resize.cubic-table": table,
    "resize.outside": outside,
    "resize.antialias": antialiased,
}
