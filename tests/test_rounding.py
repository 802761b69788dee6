"""The rounding-aware array: what frameworks' arithmetic does stays within its tolerances, and is near them."""

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from conformance import elementwise
from conformance.figures import compare
from conformance.flow import Flow, carry
from conformance.layers import get_layer
from conformance.model import RoundingModel
from conformance.precision import precision
from conformance.rounding import RoundedArray

U = 2.0**-24
SINGLE = RoundingModel(precision("float32"))
DOUBLE = RoundingModel(precision("float64"))
WORST = RoundingModel(precision("float32"), worst_case=True)
NARROW = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
DRAWS = 100


def rounded(value, deviation=None, model=SINGLE):
    value = np.asarray(value, dtype=np.float64)
    return RoundedArray(value, None if deviation is None else np.broadcast_to(deviation, value.shape), model)


def single(values):
    return np.asarray(values, dtype=np.float32)


# -- every operation of the table ---------------------------------------------------------------------------

# Written once: for float32 arrays and for rounding-aware ones. Arguments of logarithms and roots are positive.
OPERATIONS = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "add a constant": lambda a, b: a + 0.1,
    "multiply by a constant": lambda a, b: 0.1 * a,
    "exp": lambda a, b: np.exp(a),
    "log": lambda a, b: np.log(np.abs(a)),
    "sqrt": lambda a, b: np.sqrt(np.abs(a)),
    "square": lambda a, b: np.square(a),
    "tanh": lambda a, b: np.tanh(a),
    "sin": lambda a, b: np.sin(a),
    "cos": lambda a, b: np.cos(a),
    "erf": lambda a, b: elementwise.erf(a),
    "sigmoid": lambda a, b: elementwise.sigmoid(a),
    "hard_sigmoid": lambda a, b: elementwise.hard_sigmoid(a),
    "hard_sigmoid_fifth": lambda a, b: elementwise.hard_sigmoid_fifth(a),
    "expm1": lambda a, b: np.expm1(a),
    "softplus": lambda a, b: elementwise.softplus(a),
    "silu": lambda a, b: elementwise.silu(a),
    "hard_silu": lambda a, b: elementwise.hard_silu(a),
    "sum": lambda a, b: np.sum(a, axis=-1),
    "sum of both axes": lambda a, b: np.sum(a, keepdims=True),
    "mean": lambda a, b: np.mean(a, axis=0),
    "matmul": lambda a, b: a @ np.swapaxes(b, 0, 1),
    "matmul of vectors": lambda a, b: a[0] @ b[1],
    "einsum": lambda a, b: np.einsum("ij,kj->ki", a, b),
    "einsum of three axes": lambda a, b: np.einsum("ij,ij->i", a, b),
}
EXACT = {
    "negative": lambda a, b: -a,
    "absolute": lambda a, b: np.abs(a),
    "relu": lambda a, b: elementwise.relu(a),
    "relu6": lambda a, b: elementwise.relu6(a),
    "maximum": np.maximum,
    "minimum": np.minimum,
    "max": lambda a, b: np.max(a, axis=-1),
    "max of all": lambda a, b: np.max(a),
}
SHAPE = 6, 24


def ratios(operation, observe, model, deviation=0.0):
    """The greatest ratio of each draw; the inputs carry `deviation` (relative to one) where it is given."""
    found = []
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        a, b = (model.precision.round(rng.normal(size=SHAPE)) for _ in range(2))
        carried = deviation if deviation else None
        expected = operation(rounded(a, carried, model), rounded(b, carried, model))
        seen = observe(*(x + deviation * rng.normal(size=SHAPE) for x in (a, b)))
        found.append(compare(expected, np.asarray(seen, dtype=np.float64)).ratio)
    return np.array(found)


@pytest.mark.parametrize("name", OPERATIONS)
def test_float32_is_within_the_tolerance_and_near_it(name):
    operation = OPERATIONS[name]
    found = ratios(operation, lambda a, b: operation(single(a), single(b)), SINGLE)
    assert found.max() <= 1
    assert np.percentile(found, 99) > 0.005


@pytest.mark.parametrize("name", EXACT)
def test_what_does_not_round_has_no_tolerance(name):
    found = EXACT[name](rounded(np.linspace(-1, 1, 12).reshape(3, 4)), rounded(np.zeros((3, 4))))
    assert not found.tolerance.any()


@pytest.mark.parametrize("name", [*OPERATIONS, *EXACT])
def test_an_uncertain_input_makes_an_uncertain_output(name):
    """Inputs that are off by a millionth: the output, computed without rounding, is off by what is said."""
    operation = {**OPERATIONS, **EXACT}[name]
    found = ratios(operation, operation, SINGLE, 1e-6)
    assert found.max() <= 1
    assert np.percentile(found, 99) > 0.05


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("form", NARROW)
def test_narrow_formats_round_what_they_store(name, form):
    operation, narrow = OPERATIONS[name], NARROW[form]

    def observe(a, b):
        """Computed in float32, as frameworks do, and rounded to storage."""
        return np.asarray(operation(single(a), single(b)), dtype=np.float32).astype(narrow)

    found = ratios(operation, observe, RoundingModel(precision(form)))
    assert found.max() <= 1
    assert np.percentile(found, 99) > 0.005


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_worst_case_is_no_smaller_than_an_error(name):
    operation = OPERATIONS[name]
    found = ratios(operation, lambda a, b: operation(single(a), single(b)), WORST)
    # k u |f| is a deviation of an elementwise function, of which eight are a tolerance
    assert found.max() <= (1 if "sum" in name or "mat" in name or "ein" in name else 8)


# -- the formulas of DESIGN section 5 -----------------------------------------------------------------------


def test_the_variance_of_an_inner_product():
    """u**2 (sum p**2 + n (S**2/3 + sum p**2 / 2))."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 17)), rng.normal(size=(17, 4))
    for i, j in np.ndindex(3, 4):
        p = a[i] * b[:, j]
        expected = U * math.sqrt((p**2).sum() + 17 * (p.sum() ** 2 / 3 + (p**2).sum() / 2))
        found = (rounded(a) @ rounded(b)).deviation[i, j]
        assert abs(found - expected) <= 1e-6 * expected + 2.0**-126


def test_the_variance_of_a_sum_has_no_rounded_products():
    p = np.random.default_rng(1).normal(size=50)
    expected = U * math.sqrt(50 * (p.sum() ** 2 / 3 + (p**2).sum() / 2))
    assert abs(np.sum(rounded(p)).deviation - expected) <= 1e-6 * expected


def test_one_term_is_not_added_to_anything():
    assert np.sum(rounded([[0.3], [0.7]]), axis=1).deviation == pytest.approx([0, 0], abs=2.0**-126)
    product = rounded([[0.3]]) @ rounded([[0.7]])
    assert abs(product.deviation[0, 0] - 0.21 * U) <= 1e-6 * U


def test_deviations_of_the_terms_add_in_quadrature():
    expected = math.sqrt(3**2 + 4**2) * 1e-3
    assert abs(np.sum(rounded([0.0, 0.0], [3e-3, 4e-3])).deviation - expected) <= 1e-6 * expected
    weighted = rounded([[0.0, 0.0]], [[3e-3, 4e-3]]) @ rounded([[2.0], [1.0]])
    expected = math.sqrt((3 * 2) ** 2 + (4 * 1) ** 2) * 1e-3
    assert abs(weighted.deviation[0, 0] - expected) <= 1e-6 * expected


@pytest.mark.parametrize("model", [SINGLE, DOUBLE], ids=["float32", "float64"])
def test_one_rounding_of_every_value_is_a_short_cut_and_no_other_answer(model):
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(3, 17)), rng.normal(size=(4, 17))
    u = model.precision.accumulate
    for first in (carry(a, model), rounded(a, np.abs(a) * u, model), rounded(a, None, model)):
        for second in (carry(b, model), rounded(b, np.abs(b) * u, model), rounded(b, None, model)):
            found = first @ np.swapaxes(second, 0, 1)
            p = a[:, None] * b[None]
            inputs = (first.deviation is not None) + (second.deviation is not None)
            variance = (p**2).sum(-1) * (1 + inputs) + 17 * (p.sum(-1) ** 2 / 3 + (p**2).sum(-1) / 2)
            assert found.deviation == pytest.approx(u * np.sqrt(variance), rel=1e-5)
    for changed in (carry(a, model) + 1.0, carry(a, model) * carry(a, model), np.exp(carry(a, model))):
        assert changed.relative is None
    turned = np.moveaxis(carry(a, model), 0, 1)[::-1]
    assert turned.deviation == pytest.approx(np.abs(turned.value) * u, rel=1e-6)


def test_a_constant_carries_one_rounding():
    assert (rounded(0.0) + 0.1).deviation == pytest.approx(0.1 * U * math.sqrt(2), rel=1e-6)  # its own, and the sum's
    assert (rounded(np.ones(3)) * 3.0).deviation == pytest.approx([3 * U * math.sqrt(2)] * 3, rel=1e-6)


def test_an_array_beside_a_rounded_one_is_exact():
    assert (rounded(np.ones(3)) * np.full(3, 3.0)).deviation == pytest.approx([3 * U] * 3, rel=1e-6)


def test_the_product_of_two_uncertain_values_has_a_second_order_term():
    found = rounded(0.0, 1e-3) * rounded(0.0, 2e-3)
    assert found.deviation == pytest.approx(8 * 1e-3 * 2e-3, rel=1e-6)
    found = rounded([[0.0]], [[1e-3]]) @ rounded([[0.0]], [[2e-3]])
    assert found.deviation == pytest.approx(8 * 1e-3 * 2e-3, rel=1e-6)


@pytest.mark.parametrize(
    ("function", "low", "high"),
    [(np.tanh, -1, 1), (elementwise.sigmoid, 0, 1), (elementwise.erf, -1, 1), (np.cos, -1, 1), (np.sin, -1, 1),
     (elementwise.hard_sigmoid, 0, 1)],
)  # fmt: skip
@pytest.mark.parametrize("deviation", [1.0, 1e6, 1e30, np.inf])
def test_the_secant_is_capped_by_the_range(function, low, high, deviation):
    value = np.array([-30.0, -1.0, 0.0, 0.5, 20.0])
    found = function(rounded(value, deviation))
    assert (found.tolerance <= (high - low) * 1.001).all() or deviation == np.inf


def test_the_largest_of_uncertain_values_may_be_another_one():
    found = np.max(rounded([[1.0, 0.9], [1.0, -9.0]], [[0.01, 0.1], [0.01, 0.1]]), axis=1)
    assert found.value.tolist() == [1, 1]
    assert found.tolerance == pytest.approx([0.7, 0.08], rel=1e-6)  # 0.9 + 0.8 - 1, and its own


def test_the_secant_is_that_of_the_steeper_side():
    assert np.log(rounded([1.0], 0.1)).tolerance[0] == pytest.approx(-math.log(0.2), rel=1e-6)  # above: 0.588
    assert np.exp(rounded([0.0], 0.1)).tolerance[0] == pytest.approx(math.exp(0.8) - 1, rel=1e-6)  # below: 0.551
    assert np.square(rounded([0.0], 0.1)).tolerance[0] == pytest.approx(0.64, rel=1e-6)  # where the slope is zero


def test_the_secant_does_not_follow_a_slope_out_of_the_domain():
    assert np.isfinite(np.sqrt(rounded([1e-12], 1e-3)).tolerance).all()
    root = np.sqrt(rounded([0.0], 1e-3)).tolerance[0]
    assert root == pytest.approx(math.sqrt(8e-3), rel=1e-3)


def test_division_by_what_may_be_zero_says_nothing():
    assert (rounded([1.0]) / rounded([1e-3], 1e-3)).tolerance[0] == np.inf
    assert (rounded([1.0]) / rounded([1e-2], 1e-3)).tolerance[0] == pytest.approx(1 / (1e-2 - 8e-3) - 100, rel=1e-3)


def test_float64_counts_both_sides():
    value = np.random.default_rng(3).normal(size=(4, 5))
    found = (rounded(value, model=DOUBLE) * rounded(value, model=DOUBLE)).tolerance
    assert found == pytest.approx(8 * math.sqrt(2) * 2.0**-53 * value**2, rel=1e-12)
    assert (rounded(value) * rounded(value)).tolerance == pytest.approx(8 * U * value**2, rel=1e-6)


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e-150, 1e-20, 1.0, 1e20, 1e100])
def test_a_float64_tolerance_follows_its_value_down_to_the_smallest(size):
    value = rounded(np.array([3.0, -0.7]) * size, model=DOUBLE)
    floor = 2 * 2.0**-1022
    for found in (
        value * 0.1,
        value / 7.0,
        value + value,
        np.tanh(value),
        value @ rounded(np.ones((2, 2)), model=DOUBLE),
    ):
        wanted = 8 * 2.0**-53 * np.abs(found.value)
        assert (found.tolerance >= 0.9 * wanted).all()
        assert (found.tolerance <= 8 * wanted + floor).all() or found.value[0] > 1  # tanh of a large number


def test_what_is_below_the_smallest_normal_number_may_be_flushed():
    found = rounded([1e-39]) * rounded([1.0])
    assert compare(found, np.array([0.0])).ratio <= 1
    assert compare(found, np.array([4e-38])).ratio > 1


def test_a_stored_value_is_rounded_to_its_format():
    for form, u, spacing in (("bfloat16", 2.0**-8, 2.0**-133), ("float16", 2.0**-11, 2.0**-24)):
        model = RoundingModel(precision(form))
        found = rounded([3.0], model=model) * rounded([1.0], model=model)
        assert found.deviation[0] == pytest.approx(3 * (u + U) + spacing / 2, rel=1e-5, abs=2.0**-14)
        assert found.deviation[0] >= 3 * u


# -- layers, as frameworks compute them ---------------------------------------------------------------------


def oracle(layer, inputs, weights=None, config=None, model=SINGLE):
    flow = Flow.bind(get_layer(layer), config or {}, inputs, weights or {})
    return {step.name: value for step, value in flow.run(model)}


def flushed(x):
    return np.where(np.abs(x) < 2.0**-126, np.float32(0), x)


def test_softmax_far_in_the_tail_conforms_with_flush_to_zero():
    x = single([[0.0, -95.0, -3.0], [95.0, 0.0, 1.0]])
    powers = flushed(np.exp(x - x.max(-1, keepdims=True)))
    assert powers[0, 1] == 0
    observed = flushed(powers / powers.sum(-1, keepdims=True))
    figures = compare(oracle("softmax", {"x": x.astype(np.float64)})["output"], observed)
    assert figures.ratio <= 1
    wrong = observed + single([[0, 4e-38, 0], [0, 0, 0]])  # where 5e-42 belongs
    assert compare(oracle("softmax", {"x": x.astype(np.float64)})["output"], wrong).ratio > 1


def test_a_constant_row_of_a_layer_norm_does_not_explode():
    x = np.full((2, 64), np.float32(0.1))
    found = oracle("layer_norm", {"x": x.astype(np.float64)})
    assert found["normalized"].tolerance.max() < 1e-3
    mean = x.mean(-1, keepdims=True)
    variance = np.square(x - mean).mean(-1, keepdims=True)
    assert compare(found["normalized"], (x - mean) / np.sqrt(variance + np.float32(1e-5))).ratio <= 1


@pytest.mark.parametrize("model", [SINGLE, DOUBLE], ids=["float32", "float64"])
def test_logits_that_span_hundreds(model):
    """exp(-400) squared is no number in float64, yet its tolerance is one."""
    x = model.precision.round(np.random.default_rng(5).normal(size=(50, 64)) * 150)
    form = np.float32 if model is SINGLE else np.longdouble
    narrow = x.astype(form)
    powers = np.exp(narrow - narrow.max(-1, keepdims=True))
    observed = (powers / powers.sum(-1, keepdims=True)).astype(np.float64)
    assert compare(oracle("softmax", {"x": x}, model=model)["output"], observed).ratio <= 1


SIDE = 1000


def image_average(model):
    """The average of a constant image, as the oracle has it: 1000 x 1000 times 0.1."""
    return np.mean(rounded(np.full(SIDE * SIDE, np.float64(np.float32(0.1))), model=model))


def test_sequential_sums_of_a_constant_image_are_covered_by_the_worst_case_alone():
    terms = np.full(SIDE * SIDE, np.float32(0.1))
    observed = np.cumsum(terms)[-1] / np.float32(SIDE * SIDE)  # one after the other
    assert compare(image_average(SINGLE), observed).ratio > 10
    assert compare(image_average(WORST), observed).ratio <= 1


def test_sequential_sums_of_a_random_image_are_covered():
    terms = single(np.random.default_rng(6).normal(size=SIDE * SIDE))
    observed = np.cumsum(terms)[-1]
    assert compare(np.sum(rounded(terms)), observed).ratio <= 1


# -- what must not be done ----------------------------------------------------------------------------------

X = rounded(np.arange(6.0).reshape(2, 3), 1e-3)
PLAIN = np.arange(6.0).reshape(2, 3)
FORBIDDEN = {
    "asarray": lambda: np.asarray(X),
    "array": lambda: np.array(X),
    "bool": lambda: bool(X),
    "if": lambda: 1 if X else 0,
    "float": lambda: float(rounded(1.0)),
    "int": lambda: int(rounded(1.0)),
    "iteration": lambda: list(X),
    "less": lambda: X < 1,
    "equal": lambda: X == X,  # on purpose
    "greater than an array": lambda: PLAIN > X,
    "hash": lambda: {X},
    "as_strided": lambda: np.lib.stride_tricks.as_strided(X, (2, 2)),
    "power": lambda: X**2,
    "floor division": lambda: X // 2,
    "in place": lambda: X.__iadd__(1),
    "into an array": lambda: PLAIN.copy().__iadd__(X),
    "item": lambda: PLAIN.copy().__setitem__(slice(None), X),
    "copyto": lambda: np.copyto(PLAIN.copy(), X),
    "out": lambda: np.exp(X, out=np.zeros((2, 3))),
    "where argument": lambda: np.exp(X, where=PLAIN > 1),
    "reduce": lambda: np.add.reduce(X),
    "sum with a dtype": lambda: np.sum(X, dtype=np.float32),
    "computed mask": lambda: np.where(X, 1.0, 2.0),
    "index": lambda: PLAIN[X],
    "dot": lambda: np.dot(X, X),
    "norm": lambda: np.linalg.norm(X),
    "sort": lambda: np.sort(X),
    "argmax": lambda: np.argmax(X),
    "var": lambda: np.var(X),
    "round": lambda: np.round(X),
    "clip": lambda: np.clip(X, 0, 1),
    "isnan": lambda: np.isnan(X),
    "cumsum": lambda: np.cumsum(X),
    "einsum of one": lambda: np.einsum("ij->j", X),
    "einsum without a result": lambda: np.einsum("ij,jk", X, PLAIN.T),
    "allclose": lambda: np.allclose(X, X),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_everything_else_is_a_type_error(name):
    with pytest.raises(TypeError):
        FORBIDDEN[name]()


# -- structure ----------------------------------------------------------------------------------------------


@st.composite
def arrays(draw, minimum=1):
    """Values with a deviation of their own, so that one that moved shows."""
    shape = draw(hnp.array_shapes(min_dims=minimum, max_dims=4, max_side=4))
    count = math.prod(shape)
    order = draw(st.permutations(range(count)))
    value = np.array(order, dtype=np.float64).reshape(shape)
    return RoundedArray(value, (value + 1) / 1024, SINGLE)


def same_places(found, value):
    assert np.array_equal(found.value, value)
    assert found.deviation.dtype == np.float32
    assert np.array_equal(found.deviation, (value + 1) / 1024)


STRUCTURAL = {
    "reshape": lambda x: np.reshape(x, (-1,)),
    "ravel": np.ravel,
    "transpose": np.transpose,
    "swapaxes": lambda x: np.swapaxes(x, 0, -1),
    "moveaxis": lambda x: np.moveaxis(x, 0, -1),
    "expand_dims": lambda x: np.expand_dims(x, 1),
    "squeeze": np.squeeze,
    "broadcast_to": lambda x: np.broadcast_to(x, (3, *x.shape)),
    "flip": np.flip,
    "roll": lambda x: np.roll(x, 1, axis=-1),
    "take": lambda x: np.take(x, [0, -1], axis=0),
    "repeat": lambda x: np.repeat(x, 2, axis=-1),
    "tile": lambda x: np.tile(x, 2),
    "windows": lambda x: np.lib.stride_tricks.sliding_window_view(x, 1, axis=0),
    "index": lambda x: x[0, ..., None],
    "slice": lambda x: x[::-1][..., :1],
    "concatenate": lambda x: np.concatenate([x, x], axis=-1),
    "stack": lambda x: np.stack([x, x, x], axis=1),
    "where": lambda x: np.where(np.ones(x.shape, bool), x, x),
    "reflected pad": lambda x: np.pad(x, [(0, 0)] * (x.ndim - 1) + [(1, 0)], mode="edge"),
}


@pytest.mark.parametrize("name", STRUCTURAL)
@given(x=arrays())
@settings(max_examples=25, deadline=None)
def test_deviations_move_with_their_values(name, x):
    same_places(STRUCTURAL[name](x), STRUCTURAL[name](x.value))


@pytest.mark.parametrize("name", STRUCTURAL)
@given(x=arrays())
@settings(max_examples=5, deadline=None)
def test_what_is_exact_stays_exact(name, x):
    assert not STRUCTURAL[name](rounded(x.value)).tolerance.any()


@given(x=arrays(), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_a_choice_keeps_the_deviation_of_what_was_chosen(x, seed):
    mask = np.random.default_rng(seed).random(x.shape) < 0.5
    found = np.where(mask, x, -x)
    assert np.array_equal(found.value, np.where(mask, x.value, -x.value))
    assert np.array_equal(found.deviation, x.deviation)
    chosen = np.where(mask, x, 0.0)
    assert np.array_equal(chosen.deviation, np.where(mask, x.deviation, 0))


@given(x=arrays())
@settings(max_examples=10, deadline=None)
def test_padding_is_exact(x):
    found = np.pad(x, 1)
    inside = (slice(1, -1),) * x.ndim
    same_places(found[inside], x.value)
    assert found.deviation.sum() == pytest.approx(x.deviation.sum(), rel=1e-6)


@given(x=arrays())
@settings(max_examples=10, deadline=None)
def test_joining_exact_and_uncertain_arrays_keeps_both(x):
    found = np.concatenate([x, x.value], axis=0)
    n = x.shape[0]
    assert np.array_equal(found.deviation[:n], x.deviation)
    assert not found.deviation[n:].any()


def test_a_constant_that_is_chosen_carries_its_rounding():
    found = np.where([True, False], rounded([1.0, 1.0], 1e-3), 0.1)
    assert found.deviation == pytest.approx([1e-3, 0.1 * U], rel=1e-6)


def test_infinities_and_nan_are_certain():
    found = rounded([-np.inf, np.inf, np.nan, 1.0], 1e-3)
    assert found.deviation == pytest.approx([0, 0, 0, 1e-3], rel=1e-6)


def test_no_warning_is_given_where_infinities_cancel(recwarn):
    rounded([-np.inf, np.inf, 1.0], 1e-3)
    _ = np.exp(rounded([1e4, -np.inf])) - np.exp(rounded([1e4, 0.0]))
    assert not recwarn.list


def test_length_shape_and_words():
    assert (len(X), X.shape, X.ndim, X.size) == (2, (2, 3), 2, 6)
    assert (np.shape(X), np.ndim(X), np.size(X)) == ((2, 3), 2, 6)
    assert "tolerance" in repr(X)
    assert np.isneginf(rounded([-np.inf, 0.0])).tolist() == [True, False]
