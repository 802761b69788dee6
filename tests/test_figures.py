import math

import numpy as np
import pytest

from conformance.figures import compare, informative
from conformance.flow import Flow
from conformance.layers import get_layer
from conformance.model import RoundingModel
from conformance.precision import precision
from conformance.rounding import RoundedArray

SINGLE = RoundingModel(precision("float32"))
INF, NAN = math.inf, math.nan


def expected(value, tolerance, model=SINGLE):
    value = np.asarray(value, dtype=np.float64)
    deviation = np.broadcast_to(np.asarray(tolerance) / (model.multiple * model.both_sides), value.shape)
    return RoundedArray(value, deviation, model)


def test_the_greatest_error_in_tolerances():
    found = compare(expected([[1.0, 2.0], [4.0, -8.0]], [[1, 1], [1, 4]]), np.array([[1.5, 2.0], [4.0, -5.0]]))
    assert found.ratio == 0.75  # 3 / 4 against 0.5 / 1
    assert found.at == (1, 1)
    assert found.max_abs == 3
    assert found.max_rel == 0.5
    assert (found.outside, found.count) == (0, 4)
    assert found.conforms


def test_how_many_are_outside():
    found = compare(expected([1.0, 2.0, 3.0], 0.125), np.array([1.0, 2.25, 2.0]))
    assert (found.ratio, found.at, found.outside, found.count) == (8.0, (2,), 2, 3)
    assert not found.conforms


def test_a_ratio_of_one_conforms():
    assert compare(expected([1.0], 0.25), np.array([1.25])).conforms
    assert not compare(expected([1.0], 0.25), np.array([1.2500001])).conforms


def test_equal_values_have_no_error_whatever_the_tolerance():
    for tolerance in (0, 1, INF):
        found = compare(expected([1.0, 0.0], tolerance), np.array([1.0, 0.0]))
        assert (found.ratio, found.max_abs, found.max_rel) == (0, 0, 0)


def test_an_error_without_tolerance_is_infinite():
    found = compare(expected([1.0, 2.0], 0), np.array([1.0, 2.5]))
    assert (found.ratio, found.max_abs, found.at) == (INF, 0.5, (1,))


def test_an_infinite_tolerance_allows_any_number():
    assert compare(expected([1.0], INF), np.array([1e30])).ratio == 0


def test_the_place_of_the_greatest_error_where_no_tolerance_is_used():
    found = compare(expected([1.0, 2.0, 3.0], INF), np.array([1.0, 2.5, 3.25]))
    assert (found.ratio, found.at) == (0, (1,))


@pytest.mark.parametrize(
    ("value", "seen", "right"),
    [
        (NAN, NAN, True),
        (INF, INF, True),
        (-INF, -INF, True),
        (NAN, 1.0, False),
        (1.0, NAN, False),
        (INF, -INF, False),
        (INF, 1.0, False),
        (-INF, -3.4e38, False),
        (1.0, INF, False),
        (NAN, INF, False),
        (INF, NAN, False),
        (0.0, -0.0, True),
    ],
)
@pytest.mark.parametrize("tolerance", [0, 0.125, INF])
def test_nan_and_infinities(value, seen, right, tolerance):
    found = compare(expected([5.0, value], tolerance), np.array([5.0, seen]))
    if tolerance == INF and (value, seen) == (1.0, INF):
        right = True  # what may be any number may be beyond the range
    assert found.ratio == (0 if right else INF)
    assert found.max_abs == (0 if right else INF)
    assert found.outside == (not right)
    assert right or found.at == (1,)


def test_what_is_beyond_the_range_may_be_infinite():
    large = 3.5e38  # the greatest float32 is 3.403e38
    assert compare(expected([large, -large], 1e30), np.array([INF, -INF])).ratio == 0
    assert compare(expected([large], 1e30), np.array([-INF])).ratio == INF
    assert compare(expected([3.4e38], 1e30), np.array([INF])).ratio == INF
    assert compare(expected([3.4e38], 1e37), np.array([INF])).ratio == 0  # beyond it within the tolerance
    half = RoundingModel(precision("float16"))
    assert compare(expected([65519.0], 1.0, half), np.array([INF])).ratio == 0
    assert compare(expected([65000.0], 1.0, half), np.array([INF])).ratio == INF


def test_errors_beside_infinities_are_still_counted():
    found = compare(expected([INF, 1.0, NAN], 0.25), np.array([INF, 1.5, NAN]))
    assert (found.ratio, found.at, found.max_abs, found.max_rel) == (2, (1,), 0.5, 0.5)


def test_nothing_is_right():
    found = compare(expected(np.zeros((3, 0)), 0), np.zeros((3, 0)))
    assert (found.ratio, found.at, found.count) == (0, (), 0)


def test_a_single_number():
    found = compare(expected(2.0, 0.5), np.float32(2.25))
    assert (found.ratio, found.at, found.count) == (0.5, (), 1)


def test_narrow_numbers_are_compared_as_they_are():
    found = compare(expected([0.1], 2.0**-10), np.array([0.1], np.float16))
    assert found.max_abs == abs(float(np.float16(0.1)) - 0.1)


# -- no empty promise ---------------------------------------------------------------------------------------


def oracle(layer, x, weights=None, config=None, name="float32"):
    number_format = precision(name)
    given = {n: number_format.round(a) for n, a in (weights or {}).items()}
    flow = Flow.bind(get_layer(layer), config or {}, {"x": number_format.round(x)}, given)
    with np.errstate(all="ignore"):
        return {step.name: value for step, value in flow.run(RoundingModel(number_format))}


def recurrent(seed, unit, strength):
    rng = np.random.default_rng(seed)
    return {
        "kernel": rng.normal(size=(3, 4 * unit)),
        "recurrent_kernel": rng.normal(size=(unit, 4 * unit)) * strength,
    }


def test_a_layer_norm_of_nearly_constant_rows_is_uninformative():
    x = 1000 + 1e-3 * np.random.default_rng(0).normal(size=(4, 64))
    found = oracle("layer_norm", x)
    assert informative(found["mean"])
    assert not informative(found["output"])
    assert informative(oracle("layer_norm", x, name="float64")["output"])  # whose digits do suffice


def test_a_recurrence_that_explodes_is_uninformative():
    x = np.random.default_rng(1).normal(size=(2, 150, 3))
    verdicts = {k: informative(oracle("lstm", x, recurrent(2, 16, k))["output"]) for k in (0.3, 8)}
    assert verdicts == {0.3: True, 8: False}


@pytest.mark.parametrize("layer", ["softmax", "layer_norm", "gelu"])
@pytest.mark.parametrize("name", ["float32", "float64"])
def test_ordinary_data_are_informative(layer, name):
    found = oracle(layer, np.random.default_rng(3).normal(size=(5, 40)), name=name)
    assert all(informative(value) for value in found.values())


def test_more_than_half_must_be_wide():
    # The root mean square of four ones and of zeros is one: a tenth is the limit.
    assert informative(expected(np.ones(4), [0.2, 0.2, 0, 0]))
    assert not informative(expected(np.ones(4), [0.2, 0.2, 0.2, 0]))
    assert informative(expected(np.ones(4), 0.0999))


def test_zeros_with_tolerances_at_the_underflow_floor_are_informative():
    assert informative(expected(np.zeros(8), 2.0**-126))
    assert not informative(expected(np.zeros(8), 1e-10))


def test_infinities_take_no_part():
    assert informative(expected([-INF, -INF, -INF, 1.0], [0, 0, 0, 0.01]))
    assert informative(expected([NAN, INF], 0))
    assert informative(expected(np.zeros((0, 3)), 0))
