"""The sizes of named axes: `channel hdim` of a 12x8 array is channel = 12, hdim = 8.

An axis may be a multiple or a part of another: `4*unit`, `in/groups`. An axis with a star stands for any number.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.errors import ConformanceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.layer import Layer
    from conformance.precision import Precision

# Sizes that nothing settles: different, so that no two axes can be taken for each other; but many frameworks want
# values as wide as keys.
_USUAL = {"batch": 2, "time": 5, "query": 5, "key": 7, "head": 3, "dim": 8, "vdim": 8, "height": 11, "width": 13}
_OTHER = 7
_POSITIONS = 13
Sizes = dict[str, Any]


def unified(axes: str, shape: tuple[int, ...], sizes: Mapping[str, Any], config: Mapping[str, Any]) -> Sizes | None:
    """`sizes` with those that an array of `shape` with these `axes` adds; None where it contradicts them."""
    words = axes.split()
    stars = [w for w in words if w.startswith("*") or w == "..."]
    made = dict(sizes)
    if stars:
        position = words.index(stars[0])
        count = len(shape) - len(words) + 1
        if count < 0:
            return None
        made.setdefault(stars[0], shape[position : position + count])
        if stars[0] == "*axes" and made[stars[0]] != shape[position : position + count]:
            return None
        words = [*words[:position], *words[position + 1 :]]
        shape = (*shape[:position], *shape[position + count :])
    if len(words) != len(shape):
        return None
    for word, size in zip(words, shape, strict=True):
        name, value = _solved(word, size, config)
        if name and (value is None or made.setdefault(name, value) != value):
            return None
    return made


def _solved(word: str, size: int, config: Mapping[str, Any]) -> tuple[str, int | None]:
    """The axis that a word such as `4*unit` or `in/groups` tells of, and its size (None: it does not fit)."""
    if "*" in word:
        factor, _, name = word.partition("*")
        return name, size // int(factor) if size % int(factor) == 0 else None
    if "/" in word:
        name, _, divisor = word.partition("/")
        return name, size * int(config.get(divisor) or 1)
    return word, size


def of_weights(layer: Layer, weights: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Sizes:
    """The sizes that the weights of a layer settle."""
    made: Sizes = {}
    for name, axes in layer.weights.items():
        array = weights.get(name.rstrip("?"))
        if array is not None:
            made = unified(axes, array.shape, made, config) or made
    return made


def generated(layer: Layer, sizes: Mapping[str, Any], config: Mapping[str, Any], number: Precision) -> Sizes:
    """Seeded normal values for every input that the layer must have; for another that has a width of its own, too.

    Positions are counted.
    """
    if not layer.inputs:
        return {}
    sizes = _without_projection(layer, sizes)
    heads = config.get("heads") or config.get("kv_heads")
    usual = {**_USUAL, **({"head": heads} if heads else {})}
    usual["kv_head"] = config.get("kv_heads") or sizes.get("head", usual["head"])
    first = next(iter(layer.inputs.values())).split()[-1]
    made = {}
    for name, axes in layer.inputs.items():
        bare, words = name.rstrip("?"), axes.split()
        if axes == "...":
            continue
        width = sizes.get(words[-1])
        stand_in = layer.inputs.get(layer.falls_back.get(bare, ""), first).split()[-1]
        if name.endswith("?") and (bare not in layer.falls_back or width is None or width == sizes.get(stand_in)):
            continue
        shape: list[int] = []
        for word in words:
            if word.startswith("*"):
                shape += sizes.get(word) or [2, 5, *(sizes.get("*axes", (_OTHER,)) if word == "*shape" else ())]
            else:
                shape.append(sizes.get(word, usual.get(word, _OTHER)))
        if bare == "positions":
            made[bare] = np.arange(sizes.get("time") or _POSITIONS)
            continue
        values = drawn(bare, tuple(shape))
        if "epsilon" in layer.config:
            values *= _from_small_to_usual(shape)
        made[bare] = number.round(values)
    if not made:
        raise ConformanceError(f"{layer.name} has no input that can be generated: give its inputs")
    return made


def _without_projection(layer: Layer, sizes: Mapping[str, Any]) -> Sizes:
    """`sizes` with those that follow from what is left out: what is not projected is as wide as what it is added to,
    and an input is as wide as one that it stands in for."""
    made = dict(sizes)
    if "dim" in made:
        made = {"query_channel": made["dim"], "key_channel": made["dim"], **made}
    for name, stand_in in layer.falls_back.items():
        axes = [layer.inputs.get(n, "").split()[-1:] for n in (f"{name}?", stand_in)]
        if all(axes) and axes[0][0] in made:
            made.setdefault(axes[1][0], made[axes[0][0]])
    return made


def _from_small_to_usual(shape: Sequence[int]) -> NDArray[np.float64]:
    """A factor for each row, from 0.01 to 1: in a row of small deviation an epsilon shows."""
    rows = shape[:-1]
    return np.logspace(-2, 0, int(np.prod(rows))).reshape(*rows, 1)


def drawn(name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Normal values that depend on the name alone."""
    return np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape)
