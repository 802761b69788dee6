"""The formulas of positions and of linear biases, evaluated with NumPy alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from conformance.conventions import Convention
from conformance.flow import Flow
from conformance.layers import get_layer
from formula_notation import evaluated, same, sides

DIM, PAIRS, BASE = 10, 5, 10000.0
POSITIONS = np.arange(7)


def _steps(layer: str, convention: Convention, value: str, config: Mapping[str, Any], inputs: Any) -> dict[str, Any]:
    flow = Flow.bind(get_layer(layer), config, inputs, {})
    return {step.name: np.asarray(v) for step, v in flow.run(None, {convention.keyword: value})}


def _waves(convention: Convention, value: str) -> Any:
    config = {"dim": DIM, "base": BASE}
    return _steps("sinusoidal_position", convention, value, config, {"positions": POSITIONS})["output"]


def layout(convention: Convention, value: str, text: str) -> bool:
    """Feature by feature; the angle of a pair is the canonical one."""
    i = np.arange(PAIRS)
    angle = POSITIONS / BASE ** (2 * i / DIM)[:, None]
    left, right = sides(text)
    made = np.full((DIM, len(POSITIONS)), np.nan)
    waves = evaluated(right, angle=angle, i=i)
    for at, wave in zip(re.findall(r"output\[(.*?)\]", left), waves, strict=True):
        made[evaluated(at, i=i, dim=DIM)] = wave
    return same(made.T, _waves(convention, value))


def angle(convention: Convention, value: str, text: str) -> bool:
    """The sine of the even features' angle, the cosine of the odd ones'."""
    j = np.arange(DIM)
    angles = evaluated(sides(text)[1], position=POSITIONS[:, None], j=j, dim=DIM, base=BASE)
    return same(np.where(j % 2 == 0, np.sin(angles), np.cos(angles)), _waves(convention, value))


def slopes(convention: Convention, value: str, text: str) -> bool:
    """Of twelve heads, four more than a power of two."""
    v = _steps("alibi", convention, value, {"heads": 12, "query": 2, "key": 2}, {})
    numbers = {"heads - n": "4", "heads": "12", "n": "8"}
    filled = re.sub(r"\b(heads - n|heads|n)\b", lambda m: numbers[m[1]], sides(text)[1])
    made = evaluated(re.sub(r"for h < (\d+)", r"for h in over(\1)", filled), over=range)
    return same(np.array(made), v["slopes"])


def bias(convention: Convention, value: str, text: str) -> bool:
    """Fewer queries than keys."""
    v = _steps("alibi", convention, value, {"heads": 4, "query": 3, "key": 5}, {})
    left, right = sides(text)
    assert left == "bias[i, j]"
    i, j = np.arange(3)[:, None], np.arange(5) + 0 * np.arange(3)[:, None]
    named = {"slopes": v["slopes"][:, None, None], "i": i, "j": j, "queries": 3, "keys": 5, "abs": np.abs}
    return same(evaluated(right, **named), v["bias"])


CHECKS = {
    "sinusoidal.layout": layout,
    "sinusoidal.spacing": angle,
    "sinusoidal.base": angle,
    "sinusoidal.first-position": angle,
    "alibi.slopes": slopes,
    "alibi.distance": bias,
    "alibi.alignment": bias,
}
