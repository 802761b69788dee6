"""The formulas of layers that move elements, evaluated with NumPy alone on small random arrays."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from conformance.conventions import Convention
from conformance.flow import Flow
from conformance.layers import get_layer
from formula_notation import evaluated, same, sides

AMOUNTS = {"height": (2, 1), "width": (1, 2)}


def _output(
    layer: str, convention: Convention, value: str, config: Mapping[str, Any], inputs: Any, weights: Any = None
) -> Any:
    flow = Flow.bind(get_layer(layer), config, inputs, weights or {})
    return np.asarray([v for _, v in flow.run(None, {convention.keyword: value})][-1])


def _normal(*shape: int) -> Any:
    return np.random.default_rng([3, *shape]).normal(size=shape)


def rows(convention: Convention, value: str, text: str) -> bool:
    """Of a table that has a row more than is asked for."""
    indices, table = np.array([[0, 2, 1], [3, 3, 2]]), _normal(5, 4)
    made = _output("embedding", convention, value, {}, {"indices": indices}, {"table": table})
    expression = re.sub(r"table\[([^]]*)\]", r"row(\1)", sides(text)[1])
    return same(evaluated(expression, row=lambda i: table[i], indices=indices, dim=4), made)


def flattened(convention: Convention, value: str, text: str) -> bool:
    """The axes of x are named in the order in which they are flattened."""
    x = _normal(2, 3, 4, 5)
    made = _output("flatten", convention, value, {}, {"x": x})
    axes = re.search(r"x\[(.*?)\]", text)
    assert axes is not None
    order = {"batch, *space, channel": (0, 1, 2, 3), "batch, channel, *space": (0, 3, 1, 2)}[axes[1]]
    if text.endswith("the first axis fastest"):
        return same(np.stack([sample.ravel(order="F") for sample in x]), made)
    return same(x.transpose(order).reshape(2, -1), made)


def padded(convention: Convention, value: str, text: str) -> bool:
    """numpy.pad's own modes, and the amounts in the order of their names."""
    x = _normal(2, 5, 7, 3)
    made = _output("pad", convention, value, {"padding": list(AMOUNTS.values())}, {"x": x})
    said = re.fullmatch(r"output = pad\(x, (.*)\)", text)
    assert said is not None
    names = said[1].split(", ")
    amounts = [AMOUNTS[n] for n in names] if names[0] in AMOUNTS else list(AMOUNTS.values())
    mode: Any = "constant" if names[0] in AMOUNTS else names[0]
    return same(np.pad(x, [(0, 0), *amounts, (0, 0)], mode=mode), made)


def shuffled(convention: Convention, value: str, text: str) -> bool:
    """Every element by its own indices."""
    r, out = 2, 3
    x = _normal(1, 2, 3, out * r * r)
    made = _output("pixel_shuffle", convention, value, {"factor": r}, {"x": x})
    channel = re.search(r"x\[h, w, (.*)\]", text)
    assert channel is not None
    mine = np.empty_like(made)
    for h, w, i, j, c in np.ndindex(2, 3, r, r, out):
        at = evaluated(channel[1], c=c, i=i, j=j, r=r, out=out)
        mine[0, h * r + i, w * r + j, c] = x[0, h, w, at]
    return same(mine, made)


def kept(convention: Convention, value: str, text: str) -> bool:
    """Dropout at inference."""
    x = _normal(2, 3)
    made = _output("dropout", convention, value, {"rate": 0.3}, {"x": x})
    return same(evaluated(sides(text)[1], x=x, rate=0.3), made) and math.isfinite(made.sum())


def adaptive(convention: Convention, value: str, text: str) -> bool:
    """Three windows of eight elements, none of which is as another choice has it."""
    x = _normal(2, 8, 8, 3)
    made = _output("adaptive_average_pool2d", convention, value, {"size": 3}, {"x": x})
    found = re.fullmatch(r"window i = x\[(.*) : (.*)\]", text)
    assert found is not None
    numbers = {"n": 8, "size": 3, "floor": math.floor, "ceil": math.ceil}
    windows = [slice(*(evaluated(end, i=i, **numbers) for end in found.groups())) for i in range(3)]
    means = [[x[:, rows, columns].mean((1, 2)) for columns in windows] for rows in windows]
    return same(np.moveaxis(np.array(means), 2, 0), made)


def bilinear(convention: Convention, value: str, text: str) -> bool:
    """Each output by itself; what a formula about the layout says is how the canonical buffer is read."""
    kernel, given = _normal(4, 4, 2), {"first": _normal(3, 4), "second": _normal(3, 4) + 1}
    made = _output("bilinear", convention, value, {}, given, {"kernel": kernel})
    if text.startswith("kernel["):
        axes = text.removeprefix("kernel[").removesuffix("]").split(", ")
        read = kernel.reshape([{"first": 4, "second": 4, "out": 2}[a] for a in axes])
        kernel = read.transpose([axes.index(a) for a in ("first", "second", "out")])
        text = "product = first @ kernel @ second"
    expression = sides(text.replace("kernel[o]", "kernel"))[1]
    rows = [dict(zip(given, row, strict=True)) for row in zip(*given.values(), strict=True)]
    expected = [[evaluated(expression, kernel=kernel[..., o], **row) for o in range(2)] for row in rows]
    return same(np.array(expected), made)


CHECKS = {
    "pool.adaptive-windows": adaptive,
    "bilinear.operands": bilinear,
    "bilinear.kernel-layout": bilinear,
    "embedding.padding-index": rows,
    "embedding.scale": rows,
    "flatten.order": flattened,
    "pad.mode": padded,
    "pad.axis-order": padded,
    "pixel_shuffle.mode": shuffled,
    "dropout.scaling": kept,
}
