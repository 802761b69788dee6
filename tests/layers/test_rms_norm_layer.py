"""RMS norm against 50 digits, by hand, and under its conventions."""

import math

import mpmath
import numpy as np
import pytest
from exact import check, drawn, exact, filled, steps, total

from conformance.errors import ConformanceError

ROW = np.array([[1.0, 1.0, 3.0, 5.0]])  # squares 1 1 9 25: their mean is 9


def test_against_50_digits():
    x, scale, bias = drawn(4, 2, 3, 7) + 2, drawn(5, 7), drawn(6, 7)
    epsilon = 1e-3
    values = exact(x)
    square = filled((2, 3, 1), lambda i, j, _: total(v**2 for v in values[i, j]) / 7)
    whole = filled(x.shape, lambda i, j, k: values[i, j, k] / mpmath.sqrt(square[i, j, 0] + mpmath.mpf(epsilon)))
    reference = {
        "mean_square": square,
        "normalized": whole,
        "output": filled(x.shape, lambda i, j, k: whole[i, j, k] * exact(scale)[k] + exact(bias)[k]),
    }
    check(steps("rms_norm", {"x": x}, {"scale": scale, "bias": bias}, {"epsilon": epsilon}), reference)


def test_by_hand():
    found = steps("rms_norm", {"x": ROW}, {"scale": np.array([1.0, 2.0, -1.0, 0.5])}, {"epsilon": 7.0})
    assert found["mean_square"].tolist() == [[9]]
    assert found["normalized"].tolist() == [[0.25, 0.25, 0.75, 1.25]]  # sqrt(9 + 7) = 4
    assert found["output"].tolist() == [[0.25, 0.5, -0.75, 0.625]]


def test_nothing_is_subtracted():
    """A constant row keeps its sign, where layer norm makes it zero."""
    assert np.allclose(steps("rms_norm", {"x": np.full((1, 5), -3.0)})["output"], -1, 0, 1e-6)


@pytest.mark.parametrize(
    ("conventions", "epsilon", "divisor"),
    [
        ({"norm_epsilon": "16"}, 7.0, 5),
        ({"norm_epsilon_placement": "outside-sqrt"}, 7.0, 10),
        ({"norm_epsilon_placement": "max"}, 7.0, 3),
        ({"norm_epsilon_placement": "max"}, 16.0, 4),
        ({"norm_epsilon_placement": "none"}, 7.0, 3),
    ],
)
def test_what_is_divided_by(conventions, epsilon, divisor):
    found = steps("rms_norm", {"x": ROW}, config={"epsilon": epsilon}, **conventions)
    assert np.abs(found["normalized"] - ROW / divisor).max() <= 2 * 2**-53


def test_a_scale_that_is_an_offset_from_one():
    scale = np.array([0.0, 1.0, -1.0, 0.5])
    plain = steps("rms_norm", {"x": ROW}, {"scale": 1 + scale})["output"]
    assert np.array_equal(
        steps("rms_norm", {"x": ROW}, {"scale": scale}, rms_norm_weight_offset="1+w")["output"], plain
    )
    without = steps("rms_norm", {"x": ROW}, rms_norm_weight_offset="1+w")
    assert np.array_equal(without["output"], without["normalized"])  # no scale, nothing to offset


def test_a_row_of_zeros_is_zero():
    assert steps("rms_norm", {"x": np.zeros((2, 3))})["output"].tolist() == np.zeros((2, 3)).tolist()
    with np.errstate(all="ignore"):
        gone = steps("rms_norm", {"x": np.zeros((1, 3))}, norm_epsilon_placement="none")["output"]
    assert np.isnan(gone).all()


def test_one_channel_is_a_sign():
    found = steps("rms_norm", {"x": np.array([[4.0], [-0.25]])}, config={"epsilon": 0.0})["output"]
    assert found.tolist() == [[1.0], [-1.0]]
    assert math.isclose(steps("rms_norm", {"x": np.array([[3.0]])}, config={"epsilon": 16.0})["output"].item(), 0.6)


def test_a_scale_of_another_size_is_refused():
    with pytest.raises(ConformanceError, match="'scale' is 3"):
        steps("rms_norm", {"x": ROW}, {"scale": np.ones(3)})
