"""Gated linear units against 50 digits and by hand."""

import math

import mpmath
import numpy as np
import pytest
from exact import check, drawn, exact, filled, steps

from conformance.errors import ConformanceError

X = drawn(3, 2, 4, 6, scale=2)
GATES = {"glu": lambda g: 1 / (1 + mpmath.exp(-g)), "swiglu": lambda g: g / (1 + mpmath.exp(-g))}


@pytest.mark.parametrize("layer", GATES)
@pytest.mark.parametrize("axis", [-1, 1, -2])
@pytest.mark.parametrize("order", ["value|gate", "gate|value"])
def test_against_50_digits(layer, axis, order):
    first, second = (exact(part) for part in np.split(X, 2, axis))
    value, gate = (first, second) if order == "value|gate" else (second, first)
    reference = filled(value.shape, lambda *i: value[i] * GATES[layer](gate[i]))
    check(steps(layer, {"x": X}, config={"axis": axis}, glu_halves=order), {"output": reference})


def test_by_hand():
    x = np.array([[3.0, -2.0, 0.0, math.log(3)]])  # sigmoid(log 3) is three quarters
    assert steps("glu", {"x": x})["output"] == pytest.approx(np.array([[1.5, -1.5]]))
    assert steps("swiglu", {"x": x})["output"] == pytest.approx(np.array([[0.0, -1.5 * math.log(3)]]))
    other = steps("glu", {"x": x}, glu_halves="gate|value")["output"]
    assert other == pytest.approx(np.array([[0.0, math.log(3) / (1 + math.exp(2))]]))


@pytest.mark.parametrize("layer", GATES)
def test_an_odd_axis_is_refused(layer):
    with pytest.raises(ConformanceError, match="an axis of 5 has no two halves"):
        steps(layer, {"x": np.ones((2, 5))})
    assert steps(layer, {"x": np.ones((2, 5))}, config={"axis": 0})["output"].shape == (1, 5)


@pytest.mark.parametrize("layer", GATES)
def test_nan_in_either_half_shows(layer):
    x = np.array([[np.nan, 1.0, 1.0, np.nan, 1.0, 1.0]]).reshape(3, 2)
    assert np.isnan(steps(layer, {"x": x})["output"]).ravel().tolist() == [True, True, False]
