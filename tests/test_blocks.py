"""Large arrays are computed a block at a time, and when they are read: as small ones are, number for number."""

import math

import numpy as np
import pytest

from conformance import blocks, elementwise, squares
from conformance.model import RoundingModel
from conformance.precision import precision
from conformance.rounding import RoundedArray

SINGLE, DOUBLE = (RoundingModel(precision(name)) for name in ("float32", "float64"))
WORST = RoundingModel(precision("float32"), worst_case=True)
BFLOAT = RoundingModel(precision("bfloat16"))


@pytest.mark.parametrize("shape", [(7,), (3, 5), (1, 1, 9), (4, 1, 3), (0, 3), (3, 0), (), (2, 3, 4, 5)])
@pytest.mark.parametrize("most", [1, 4, 7, 1000])
def test_blocks_part_an_array_in_order(shape, most):
    array = np.arange(math.prod(shape)).reshape(shape)
    parts = [array[block] for block in blocks.blocks(shape, most)]
    assert np.concatenate([p.ravel() for p in parts] or [array.ravel()]).tolist() == array.ravel().tolist()
    assert all(p.size <= most for p in parts)


def test_an_operand_meets_a_block_where_it_is_broadcast_to_it():
    rng = np.random.default_rng(0)
    whole = rng.normal(size=(4, 6, 5))
    for shape in [(4, 6, 5), (6, 5), (5,), (), (1, 6, 1), (4, 1, 5), (6, 1)]:
        operand = rng.normal(size=shape)
        for block in blocks.blocks(whole.shape, 7):
            part = operand[blocks.meeting(block, shape, whole.ndim)]
            assert np.array_equal(whole[block] + part, (whole + operand)[block])


OPERATIONS = {
    "sum": lambda x, y: x + y,
    "product": lambda x, y: x * y,
    "quotient": lambda x, y: x / y,
    "maximum": np.maximum,
    "square": lambda x, y: np.square(x),
    "exp": lambda x, y: np.exp(x),
    "relu": lambda x, y: elementwise.relu(x),
    "three in a row": lambda x, y: np.tanh((x - y) * y + x),
    "read twice": lambda x, y: (lambda d: d * d + np.square(d) / d)(x - y),
    "sum of squares": lambda x, y: np.sum(np.square(x - y), axis=-1, keepdims=True),
    "mean over the first": lambda x, y: np.mean(x * y, axis=0),
    "mean of all": lambda x, y: np.mean(x * y),
    "mean of exponentials": lambda x, y: np.mean(np.exp(x), axis=(0, 1)),
    "largest": lambda x, y: np.max(x - y, axis=1),
    "a slice of what is to be computed": lambda x, y: (x * y)[:, 1:2],
    "a choice of it": lambda x, y: np.where(np.ones(x.shape, bool), x * y, 0.0),
}
SECOND = {"whole": (3, 5, 7), "row": (7,), "column": (3, 5, 1), "number": ()}


def given(model, shape, second):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=shape), rng.normal(size=second) + 3
    return x, y, RoundedArray(x, rng.random(shape) * 1e-6, model), RoundedArray(y, rng.random(second) * 1e-6, model)


@pytest.mark.parametrize("model", [SINGLE, DOUBLE, WORST, BFLOAT], ids=["float32", "float64", "worst", "bfloat16"])
@pytest.mark.parametrize("second", SECOND)
@pytest.mark.parametrize("name", OPERATIONS)
def test_what_is_computed_in_blocks_is_what_is_computed_at_once(name, second, model, monkeypatch):
    """The same operation with blocks of a few elements, and without any."""
    _, _, a, b = given(model, (3, 5, 7), SECOND[second])
    expected = OPERATIONS[name](a, b)
    monkeypatch.setattr(blocks, "LARGE", 1)
    monkeypatch.setattr(blocks.blocks, "__defaults__", (11,))
    found = OPERATIONS[name](a, b)
    assert found.shape == expected.shape
    assert found.value == pytest.approx(expected.value, rel=1e-14, abs=1e-14)
    assert found.deviation == pytest.approx(expected.deviation, rel=1e-6)
    assert found.deviation.dtype == expected.deviation.dtype


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("name", OPERATIONS)
def test_what_is_not_finite_is_certain_in_blocks_too(name, odd, monkeypatch):
    x, _, a, b = given(SINGLE, (3, 5, 7), (7,))
    x[1, 2, 3] = odd
    a = RoundedArray(x, a.deviation, SINGLE)
    expected = OPERATIONS[name](a, b)
    monkeypatch.setattr(blocks, "LARGE", 1)
    monkeypatch.setattr(blocks.blocks, "__defaults__", (11,))
    found = OPERATIONS[name](a, b)
    assert found.value == pytest.approx(expected.value, rel=1e-14, abs=1e-14, nan_ok=True)
    assert found.deviation == pytest.approx(expected.deviation, rel=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e12, 1e-30, 1e200])
@pytest.mark.parametrize("uncertain", [(False, False), (True, False), (True, True)])
def test_sums_of_squares_in_float32_give_the_deviations_of_float64(scale, uncertain, monkeypatch):
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(9, 40)) * scale, rng.normal(size=(40, 8))
    a[3], a[4, 5] = 0, 1e-9 * scale
    deviations = [
        rng.random(x.shape) * 1e-6 * s if u else None for x, u, s in zip((a, b), uncertain, (scale, 1), strict=True)
    ]
    x, y = (RoundedArray(v, d, SINGLE) for v, d in zip((a, b), deviations, strict=True))
    expected = x @ y
    monkeypatch.setattr("conformance.rounding.MANY", 1)
    found = x @ y
    assert np.array_equal(found.value, expected.value)
    assert found.deviation == pytest.approx(expected.deviation, rel=2e-6)


def test_sums_that_would_vanish_in_float32_are_taken_in_float64(monkeypatch):
    """A row of 1e-18 beside one of 1: products of its squares with those of 1e-18 are nothing in float32."""
    a, b = np.array([[1.0, 1.0], [1e-18, 1e-18]]), np.array([[1.0, 1e-18], [1.0, 1e-18]])
    monkeypatch.setattr("conformance.rounding.MANY", 1)
    found = RoundedArray(a, None, SINGLE) @ RoundedArray(b, None, SINGLE)
    u, floor = 2.0**-24, 2.0**-129
    for i, j in np.ndindex(2, 2):
        p = a[i] * b[:, j]
        wanted = u * math.sqrt((p**2).sum() + 2 * (p.sum() ** 2 / 3 + (p**2).sum() / 2)) + floor
        assert found.deviation[i, j] == pytest.approx(wanted, rel=1e-6, abs=2.0**-149)
    assert squares.of_squares(np.matmul, squares.Squared([a]), squares.Squared([b]), True)[1] == 1.0
