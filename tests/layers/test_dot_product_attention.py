import math

import mpmath
import numpy as np
import pytest
from exact import check, drawn, exact, steps
from exact_attention import attend, bottom_right, top_left

from conformance.errors import ConformanceError

B, H, Q, K, D, V = 2, 2, 3, 5, 4, 3
ATTENTION = "scaled_dot_product_attention"
CROSS = {"query": drawn(0, B, H, Q, D), "key": drawn(1, B, H, K, D), "value": drawn(2, B, H, K, V)}
EXACT = {name: exact(array) for name, array in CROSS.items()}


def test_plain():
    check(steps(ATTENTION, CROSS), attend(**EXACT))


def test_a_scale_that_is_given():
    check(steps(ATTENTION, CROSS, config={"scale": 0.3}), attend(**EXACT, scale=0.3))
    plain = steps(ATTENTION, CROSS, config={"scale": 1.0})
    assert np.array_equal(plain["scaled"], plain["scores"])


def test_grouped_queries():
    grouped = {"query": drawn(3, B, 6, Q, D), "key": drawn(4, B, 2, K, D), "value": drawn(5, B, 2, K, V)}
    found = steps(ATTENTION, grouped, config={"kv_heads": 2})
    check(found, attend(**{n: exact(a) for n, a in grouped.items()}))


@pytest.mark.parametrize(("causal", "sees"), [("top-left", top_left), ("bottom-right", bottom_right)])
@pytest.mark.parametrize("swapped", [False, True])
def test_causal(causal, sees, swapped):
    """Both ways round: more keys than queries, and fewer (where some rows of bottom-right are empty)."""
    inputs = dict(CROSS)
    if swapped:
        inputs = {"query": CROSS["key"], "key": CROSS["query"], "value": drawn(6, B, H, Q, V)}
    found = steps(ATTENTION, inputs, config={"causal": causal})
    check(found, attend(**{n: exact(a) for n, a in inputs.items()}, sees=sees))


WINDOWS = {
    "one number": (1, None, lambda i, j, q, k: abs(j - i) <= 1),
    "none but itself": (0, None, lambda i, j, q, k: j == i),
    "left and right": ((2, 1), None, lambda i, j, q, k: -2 <= j - i <= 1),
    "causal": (1, "top-left", lambda i, j, q, k: 0 <= i - j <= 1),
    "causal, aligned at the end": (1, "bottom-right", lambda i, j, q, k: 0 <= (i - q) - (j - k) <= 1),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_window(name):
    window, causal, sees = WINDOWS[name]
    found = steps(ATTENTION, CROSS, config={"window": window, "causal": causal})
    check(found, attend(**EXACT, sees=sees))


def test_softcap():
    check(steps(ATTENTION, CROSS, config={"softcap": 0.7}), attend(**EXACT, softcap=0.7))
    found = steps(ATTENTION, CROSS, config={"softcap": 0.7, "causal": "top-left"})
    check(found, attend(**EXACT, softcap=0.7, sees=top_left))


BITS = np.random.default_rng(9)
MASKS = {
    "batch key": (m := BITS.random((B, K)) < 0.6, m[:, None, None, :]),
    "query key": (m := BITS.random((Q, K)) < 0.6, m[None, None]),
    "batch query key": (m := BITS.random((B, Q, K)) < 0.6, m[:, None]),
    "batch head query key": (m := BITS.random((B, H, Q, K)) < 0.6, m),
    "batch 1 query key": (m := BITS.random((B, 1, Q, K)) < 0.6, m),
    "1 head 1 key": (m := BITS.random((1, H, 1, K)) < 0.6, m),
    "all masked": (m := np.zeros((B, K), bool), m[:, None, None, :]),
}


@pytest.mark.parametrize("name", MASKS)
def test_boolean_masks(name):
    given, full = MASKS[name]
    check(steps(ATTENTION, {**CROSS, "mask": given}), attend(**EXACT, mask=full))


@pytest.mark.parametrize("name", MASKS)
def test_float_masks(name):
    given, full = MASKS[name]
    added = np.where(given, BITS.normal(size=given.shape), -np.inf)
    check(steps(ATTENTION, {**CROSS, "mask": added}), attend(**EXACT, mask=added.reshape(full.shape)))


def test_two_axes_are_batch_and_key_where_both_readings_fit():
    same = {n: a[:, :, :3] for n, a in CROSS.items()}
    same = {n: np.concatenate([a, a[:1]]) for n, a in same.items()}  # batch 3, query 3, key 3
    mask = np.array([[1, 0, 1], [1, 1, 0], [0, 1, 1]], bool)
    found = steps(ATTENTION, {**same, "mask": mask})["masked"]
    assert np.array_equal(np.isneginf(found), np.broadcast_to(~mask[:, None, None, :], found.shape))


def test_a_mask_and_causality_together():
    given, full = MASKS["batch query key"]
    found = steps(ATTENTION, {**CROSS, "mask": given}, config={"causal": "top-left"})
    check(found, attend(**EXACT, mask=full, sees=top_left))


def test_a_mask_that_does_not_fit_is_refused():
    with pytest.raises(ConformanceError, match=r"mask of shape 4x5 does not fit scores of batch 2, query 3, key 5"):
        steps(ATTENTION, {**CROSS, "mask": np.ones((4, 5), bool)})


def test_an_unknown_causal_is_refused():
    with pytest.raises(ConformanceError, match="'lower'"):
        steps(ATTENTION, CROSS, config={"causal": "lower"})


# -- by hand, and the conventions ---------------------------------------------------------------------------

LN2 = math.log(2)


def numbers(*rows):
    """`1 1 time dim`."""
    return np.array(rows, dtype=float)[None, None]


# Two queries, three keys, one feature: the scores are [0 1 2] and [0 2 4] times ln 2.
HAND = {"query": numbers([LN2], [2 * LN2]), "key": numbers([0], [1], [2]), "value": numbers([7, 0], [0, 7], [7, 7])}
SCORES = LN2 * np.array([[0, 1, 2], [0, 2, 4]])


def close(found, expected):
    found, expected = found[0, 0], np.asarray(expected, dtype=float)
    assert found.shape == expected.shape
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    error = np.abs(np.where(same, 0, found) - np.where(same, 0, expected))
    assert (error <= 8 * 2**-53 * np.maximum(1, np.abs(np.where(same, 0, expected)))).all()


def soft(rows):
    powers = np.exp(rows)
    return powers / powers.sum(-1, keepdims=True)


def test_by_hand():
    found = steps(ATTENTION, HAND)
    close(found["scores"], SCORES)
    close(found["weights"], [[1 / 7, 2 / 7, 4 / 7], [1 / 21, 4 / 21, 16 / 21]])
    close(found["context"], [[5, 6], [17 / 3, 20 / 3]])


WIDE = {"query": drawn(10, 1, 2, 3, 4), "key": drawn(11, 1, 2, 5, 4), "value": drawn(12, 1, 2, 5, 9)}


@pytest.mark.parametrize(
    ("value", "factor"),
    [
        ("1/sqrt(head_dim)", 1 / 2),
        ("1", 1),
        ("1/sqrt(model_dim)", 1 / math.sqrt(8)),
        ("1/sqrt(value_dim)", 1 / 3),
        ("1/head_dim", 1 / 4),
        ("sqrt(head_dim)", 2),
        ("twice", 1 / 4),
        ("0.3", 0.3),
        (0.3, 0.3),
    ],
)
def test_scale(value, factor):
    found = steps(ATTENTION, WIDE, attention_scale=value)
    assert np.abs(found["scaled"] - found["scores"] * factor).max() <= 2 * 2**-53 * np.abs(found["scores"]).max()


def test_twice_a_scale_that_is_given_is_its_square():
    found = steps(ATTENTION, WIDE, config={"scale": 0.3}, attention_scale="twice")
    assert np.abs(found["scaled"] - found["scores"] * 0.09).max() <= 4 * 2**-53 * np.abs(found["scores"]).max()


def test_softmax_axis():
    found = steps(ATTENTION, HAND, attention_softmax_axis="query")["weights"]
    close(found, [[1 / 2, 1 / 3, 1 / 5], [1 / 2, 2 / 3, 4 / 5]])


PARTLY = {**HAND, "mask": np.array([[True, True, False]])}


def test_mask_polarity():
    found = steps(ATTENTION, PARTLY, attention_mask_polarity="true-blocks")
    close(found["masked"], [[-np.inf, -np.inf, 2 * LN2], [-np.inf, -np.inf, 4 * LN2]])
    close(found["weights"], [[0, 0, 1], [0, 0, 1]])


def test_mask_polarity_does_not_turn_causality_round():
    found = steps(ATTENTION, PARTLY, config={"causal": "top-left"}, attention_mask_polarity="true-blocks")
    assert np.isneginf(found["masked"]).all()


@pytest.mark.parametrize(
    ("fill", "last"),
    [("-inf", [-np.inf, -np.inf]), ("-1e9", [-1e9, -1e9]), ("-1e4", [-1e4, -1e4]), ("-1e-25", [-1e-25, -1e-25]),
     ("0", [0, 0])],
)  # fmt: skip
def test_mask_fill(fill, last):
    found = steps(ATTENTION, PARTLY, attention_mask_fill=fill)
    expected = SCORES.copy()
    expected[:, 2] = last
    close(found["masked"], expected)
    close(found["weights"], soft(expected))


def test_mask_fill_added_as_zero_and_one():
    found = steps(ATTENTION, PARTLY, attention_mask_fill="additive-0-1")
    close(found["masked"], SCORES + np.array([1, 1, 0]))
    close(found["weights"], soft(SCORES + np.array([1, 1, 0])))


def test_mask_fill_after_the_softmax():
    found = steps(ATTENTION, PARTLY, attention_mask_fill="post-softmax")
    close(found["masked"], SCORES)
    close(found["weights"], [[1 / 7, 2 / 7, 0], [1 / 21, 4 / 21, 0]])  # not renormalised


def test_mask_fill_does_not_touch_a_float_mask():
    added = {**HAND, "mask": np.array([[0.0, 1.0, -np.inf]])}
    for fill in ("0", "-1e4", "additive-0-1", "post-softmax"):
        close(steps(ATTENTION, added, attention_mask_fill=fill)["masked"], SCORES + np.array([0, 1, -np.inf]))


def test_mask_axis():
    square = {n: a[:, :, :2] for n, a in PARTLY.items() if n != "mask"}
    found = steps(ATTENTION, {**square, "mask": np.array([[True, False]])}, attention_mask_axis="query")
    close(found["masked"], [[0, LN2], [-np.inf, -np.inf]])


def test_a_padding_mask_on_the_query_axis_needs_as_many_queries_as_keys():
    with pytest.raises(ValueError, match="broadcast"):
        steps(ATTENTION, PARTLY, attention_mask_axis="query")


@pytest.mark.parametrize(("choice", "row"), [("zero", 0), ("nan", np.nan), ("uniform", 1 / 3)])
def test_fully_masked_row(choice, row):
    mask = np.array([[True, True, True], [False, False, False]])
    found = steps(ATTENTION, {**HAND, "mask": mask}, attention_fully_masked_row=choice)
    close(found["weights"], [[1 / 7, 2 / 7, 4 / 7], [row] * 3])


def test_a_fully_masked_row_of_zeros_gives_no_context():
    mask = np.array([[True, True, True], [False, False, False]])
    close(steps(ATTENTION, {**HAND, "mask": mask})["context"], [[5, 6], [0, 0]])


def test_causal_alignment():
    for asked, used, last in (
        ("top-left", "bottom-right", [2, 3]),
        ("bottom-right", "top-left", [1, 2]),
        ("top-left", "<config>", [1, 2]),
    ):
        found = steps(ATTENTION, HAND, config={"causal": asked}, attention_causal_alignment=used)
        seen = [[j < n for j in range(3)] for n in last]
        close(found["masked"], np.where(seen, SCORES, -np.inf))


def test_causal_alignment_makes_nothing_causal_that_is_not():
    found = steps(ATTENTION, PARTLY, attention_causal_alignment="bottom-right")
    close(found["masked"], np.where([True, True, False], SCORES, -np.inf))


def test_softcap_after_the_mask():
    found = steps(ATTENTION, PARTLY, config={"softcap": 0.5}, attention_softcap="after-mask")
    close(found["softcapped"], SCORES)
    expected = np.where([True, True, False], 0.5 * np.tanh(SCORES / 0.5), -0.5)
    close(found["masked"], expected)
    close(found["weights"], soft(expected))


def test_softcap_after_a_mask_that_is_not_there_is_still_a_softcap():
    found = steps(ATTENTION, HAND, config={"softcap": 0.5}, attention_softcap="after-mask")
    close(found["softcapped"], 0.5 * np.tanh(SCORES / 0.5))


def test_kv_head_repeat():
    query = np.ones((1, 4, 1, 1))
    key = np.array([1.0, 10.0]).reshape(1, 2, 1, 1)
    for choice, expected in (("blocked", [1, 1, 10, 10]), ("tiled", [1, 10, 1, 10])):
        found = steps(ATTENTION, {"query": query, "key": key, "value": key}, attention_kv_head_repeat=choice)
        assert found["scores"].ravel().tolist() == expected
        assert found["context"].ravel().tolist() == expected


def test_infinite_exponent_range_is_no_excuse():
    """Scores of thousands: exp overflows in float64, the softmax must not."""
    large = {**HAND, "query": HAND["query"] * 5000}
    reference = attend(*(exact(large[n]) for n in ("query", "key", "value")))
    assert mpmath.isfinite(reference["weights"][0, 0, 0, 0])
    close(steps(ATTENTION, large)["weights"], [[0, 0, 1], [0, 0, 1]])
