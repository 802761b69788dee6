import math

import mpmath
import numpy as np
import pytest
from exact import check, drawn, exact, filled, softmax, steps, total


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_softmax_against_50_digits(axis):
    x = drawn(3, 2, 3, 4, scale=5)
    at = axis % 3

    def row(*index):
        return [exact(x)[(*index[:at], i, *index[at + 1 :])] for i in range(x.shape[at])]

    kept = tuple(1 if a == at else size for a, size in enumerate(x.shape))
    shifted = filled(x.shape, lambda *i: exact(x)[i] - max(row(*i)))
    powers = filled(x.shape, lambda *i: mpmath.exp(shifted[i]))
    reference = {
        "shifted": shifted,
        "exponentials": powers,
        "total": filled(kept, lambda *i: total(mpmath.exp(v - max(row(*i))) for v in row(*i))),
        "output": filled(x.shape, lambda *i: softmax(row(*i))[i[at]]),
    }
    check(steps("softmax", {"x": x}, config={"axis": axis}), reference)


def test_by_hand():
    found = steps("softmax", {"x": np.array([[0.0, math.log(2), math.log(5)]])})
    assert np.abs(found["output"] - [[1 / 8, 2 / 8, 5 / 8]]).max() <= 4 * 2**-53
    assert np.abs(found["total"] - 8 / 5).max() <= 4 * 2**-53


def test_rows_sum_to_one_far_from_zero():
    x = np.array([[1000.0, 1000.0], [-1000.0, -1001.0], [700.0, -700.0]])
    found = steps("softmax", {"x": x})["output"]
    tail = math.exp(-1) / (1 + math.exp(-1))
    assert np.abs(found[:2] - [[0.5, 0.5], [1 - tail, tail]]).max() <= 4 * 2**-53
    assert found[2].tolist() == [1.0, 0.0]


def test_a_row_of_minus_infinities_is_nan():
    with np.errstate(invalid="ignore"):
        found = steps("softmax", {"x": np.array([[-np.inf, -np.inf], [-np.inf, 0.0]])})["output"]
    assert np.isnan(found[0]).all()
    assert found[1].tolist() == [0, 1]


@pytest.mark.parametrize("axis", [-1, 0])
def test_log_softmax_against_50_digits(axis):
    x = drawn(3, 3, 4, scale=5)
    columns = exact(x) if axis == -1 else exact(x).T
    logs = np.array([[mpmath.log(p) for p in softmax(list(row))] for row in columns])
    found = steps("log_softmax", {"x": x}, config={"axis": axis})
    check({"output": found["output"]}, {"output": logs if axis == -1 else logs.T})
    plain = steps("softmax", {"x": x}, config={"axis": axis})
    assert list(found) == list(plain)
    assert all(np.array_equal(found[name], plain[name]) for name in ("shifted", "exponentials", "total"))


def test_log_softmax_stays_finite_where_a_softmax_is_zero():
    found = steps("log_softmax", {"x": np.array([[0.0, -1000.0], [1000.0, 1000.0]])})["output"]
    assert found[0].tolist() == [0, -1000]
    assert np.abs(found[1] + math.log(2)).max() <= 2**-53
    halves = steps("log_softmax", {"x": np.array([[0.0, math.log(2), math.log(5)]])})["output"]
    assert np.abs(halves - [[-math.log(8), -math.log(4), math.log(5 / 8)]]).max() <= 4 * 2**-53
