"""The oracle's steps beside the same steps in 50 digits: mpmath numbers in plain Python loops.

Arrays of mpmath numbers are NumPy object arrays, which are used as containers only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import mpmath
import numpy as np
from numpy.typing import NDArray

from conformance.flow import Flow
from conformance.layers import get_layer

mpmath.mp.dps = 50

U = 2.0**-53
Number = Any
Exact = NDArray[Any]


def exact(array: NDArray[Any]) -> Exact:
    """Every element as an mpmath number, without a rounding."""
    made = np.empty(array.shape, dtype=object)
    for index in np.ndindex(array.shape):
        made[index] = mpmath.mpf(float(array[index]))
    return made


def filled(shape: tuple[int, ...], element: Callable[..., Number]) -> Exact:
    """An array whose element at an index is `element(*index)`."""
    made = np.empty(shape, dtype=object)
    for index in np.ndindex(shape):
        made[index] = element(*index)
    return made


def total(terms: Iterable[Number]) -> Number:
    """A sum, term by term."""
    result = mpmath.mpf(0)
    for term in terms:
        result = result + term
    return result


def softmax(row: list[Number]) -> list[Number]:
    """exp(x) / sum(exp(x)); with 50 digits and any exponent, no shift is needed."""
    powers = [mpmath.exp(x) for x in row]
    whole = total(powers)
    return [p / whole for p in powers]


def affine(x: Exact, kernel: Exact, bias: Exact | None) -> Exact:
    """x @ kernel + bias along the last axis."""
    width, out = kernel.shape

    def element(*index: int) -> Number:
        *rows, o = index
        product = total(x[(*rows, i)] * kernel[i, o] for i in range(width))
        return product if bias is None else product + bias[o]

    return filled((*x.shape[:-1], out), element)


def steps(
    layer: str,
    inputs: Mapping[str, NDArray[Any]],
    weights: Mapping[str, NDArray[Any]] | None = None,
    config: Mapping[str, Any] | None = None,
    **conventions: Any,
) -> dict[str, NDArray[Any]]:
    """Every step of the oracle's layer, in float64."""
    settings = dict(config or {})
    made = get_layer(layer, settings)
    flow = Flow.bind(made, {} if layer == "sequential" else settings, inputs, weights or {})
    return {step.name: np.array(value) for step, value in flow.run(None, conventions)}


def units(value: NDArray[Any], reference: Exact) -> float:
    """The greatest error, in units of 2**-53 of the greatest magnitude of the reference."""
    assert value.shape == reference.shape
    worst, size = mpmath.mpf(0), mpmath.mpf(0)
    for index in np.ndindex(value.shape):
        want = reference[index]
        if mpmath.isinf(want):
            assert value[index] == float(want)
            continue
        worst = max(worst, abs(mpmath.mpf(float(value[index])) - want))
        size = max(size, abs(want))
    return float(worst / (size * U)) if size else float(worst)


def check(found: Mapping[str, NDArray[Any]], reference: Mapping[str, Exact], most: float = 6) -> None:
    """Every step is there, in order, and within `most` units."""
    assert list(found) == list(reference)
    off = {name: units(found[name], reference[name]) for name in reference}
    assert {name: u for name, u in off.items() if u > most} == {}


def drawn(seed: int, *shape: int, scale: float = 1.0) -> NDArray[np.float64]:
    """Normal numbers."""
    return np.random.default_rng(seed).normal(size=shape) * scale
