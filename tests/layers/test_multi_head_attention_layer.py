import math

import numpy as np
import pytest
from exact import check, drawn, steps
from exact_attention import bottom_right, multi_head, top_left

MHA = "multi_head_attention"
B, Q, K, C, KC, VC, OUT = 2, 3, 4, 5, 3, 6, 4


def made(heads, kv_heads, dim, value_dim, *, cross=False, biases=True, output=True):
    """Inputs and weights with sizes that all differ."""
    inputs = {"query_input": drawn(0, B, Q, C)}
    channels = C, C
    if cross:
        inputs |= {"key_input": drawn(1, B, K, KC), "value_input": drawn(2, B, K, VC)}
        channels = KC, VC
    widths = {"query": heads * dim, "key": kv_heads * dim, "value": kv_heads * value_dim}
    weights = {
        f"{n}_kernel": drawn(i, c, widths[n]) for i, (n, c) in enumerate(zip(widths, (C, *channels), strict=True), 3)
    }
    if output:
        weights["output_kernel"] = drawn(6, heads * value_dim, OUT)
    if biases:
        weights |= {f"{n}_bias": drawn(7, w) for n, w in widths.items()}
        if output:
            weights["output_bias"] = drawn(8, OUT)
    return inputs, weights


CASES = {
    "self": (made(2, 2, 3, 3), {"heads": 2}, {}),
    "one head": (made(1, 1, 3, 2), {}, {}),
    "cross": (made(2, 2, 3, 2, cross=True), {"heads": 2}, {}),
    "no biases": (made(2, 2, 3, 2, biases=False), {"heads": 2}, {}),
    "no output projection": (made(2, 2, 3, 2, output=False), {"heads": 2}, {}),
    "grouped": (made(4, 2, 3, 2), {"heads": 4, "kv_heads": 2}, {}),
    "one key head": (made(3, 1, 2, 2), {"heads": 3, "kv_heads": 1}, {}),
    "scale": (made(2, 2, 3, 2), {"heads": 2, "scale": 1.0}, {"scale": 1}),
    "causal": (made(2, 2, 3, 2), {"heads": 2, "causal": "top-left"}, {"sees": top_left}),
    "causal cross": (
        made(2, 2, 3, 2, cross=True), {"heads": 2, "causal": "bottom-right"}, {"sees": bottom_right}
    ),
    "window": (
        made(2, 2, 3, 2), {"heads": 2, "window": 1}, {"sees": lambda i, j, q, k: abs(i - j) <= 1}
    ),
    "softcap": (made(2, 2, 3, 2), {"heads": 2, "softcap": 2.0}, {"softcap": 2}),
    "rotary": (made(2, 2, 4, 2), {"heads": 2, "rotary": {"base": 100.0}}, {"base": 100}),
    "rotary, grouped, causal": (
        made(4, 2, 4, 2), {"heads": 4, "kv_heads": 2, "rotary": {"base": 10000.0}, "causal": "top-left"},
        {"base": 10000, "sees": top_left},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_against_50_digits(name):
    (inputs, weights), config, options = CASES[name]
    reference = multi_head(inputs, weights, config.get("heads", 1), config.get("kv_heads"), **options)
    check(steps(MHA, inputs, weights, config), reference, most=12)  # some kinds of step follow upon six others


def test_a_padding_mask_against_50_digits():
    inputs, weights = made(2, 2, 3, 2, cross=True)
    mask = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], bool)
    found = steps(MHA, {**inputs, "mask": mask}, weights, {"heads": 2})
    check(found, multi_head(inputs, weights, 2, mask=mask[:, None, None, :]), most=12)


def test_the_value_input_is_the_key_input_where_it_is_not_given():
    inputs, weights = made(2, 2, 3, 2, cross=True)
    weights["value_kernel"] = drawn(20, KC, 4)
    once = steps(MHA, {n: inputs[n] for n in ("query_input", "key_input")}, weights, {"heads": 2})
    twice = steps(MHA, {**inputs, "value_input": inputs["key_input"]}, weights, {"heads": 2})
    assert np.array_equal(once["output"], twice["output"])


def test_rotary_without_settings_takes_the_usual_ones():
    inputs, weights = made(2, 2, 4, 2)
    found = steps(MHA, inputs, weights, {"heads": 2, "rotary": True})
    check(found, multi_head(inputs, weights, 2, base=10000), most=12)


# -- by hand ------------------------------------------------------------------------------------------------

ONE_TO_SIX = np.arange(1.0, 7.0).reshape(1, 1, 6)
IDENTITY = {f"{n}_kernel": np.eye(6) for n in ("query", "key", "value")}


@pytest.mark.parametrize(
    ("heads", "first"), [(2, (1 + 4 + 9) / math.sqrt(3)), (3, (1 + 4) / math.sqrt(2)), (1, 91 / math.sqrt(6))]
)
def test_head_split_by_hand(heads, first):
    found = steps(MHA, {"query_input": ONE_TO_SIX}, IDENTITY, {"heads": heads})
    assert abs(found["scaled"][0, 0, 0, 0] - first) <= 2 * 2**-53 * first


def test_illustrated_attention_by_hand():
    x = np.array([[[1.0, 0, 1, 0], [0, 2, 0, 2], [1, 1, 1, 1]]])
    weights = {
        "query_kernel": np.array([[1.0, 0, 1], [1, 0, 0], [0, 0, 1], [0, 1, 1]]),
        "key_kernel": np.array([[0.0, 0, 1], [1, 1, 0], [0, 1, 0], [1, 1, 0]]),
        "value_kernel": np.array([[0.0, 2, 0], [0, 3, 0], [1, 0, 3], [1, 1, 0]]),
    }
    found = steps(MHA, {"query_input": x}, weights, {"scale": 1.0})
    assert found["query"][0].tolist() == [[1, 0, 2], [2, 2, 2], [2, 1, 3]]
    assert found["key"][0].tolist() == [[0, 1, 1], [4, 4, 0], [2, 3, 1]]
    assert found["value"][0].tolist() == [[1, 2, 3], [2, 8, 0], [2, 6, 3]]
    assert found["scores"][0, 0].tolist() == [[2, 4, 4], [4, 16, 12], [4, 12, 10]]
    assert np.array_equal(found["scaled"], found["scores"])


# -- conventions --------------------------------------------------------------------------------------------

# One feature per number, so that a split or a merge shows as an order of numbers: time 2, features 10..15, 20..25
FEATURES = np.array([[[10.0, 11, 12, 13, 14, 15], [20, 21, 22, 23, 24, 25]]])
SPLITS = {
    "contiguous": [[[10, 11], [20, 21]], [[12, 13], [22, 23]], [[14, 15], [24, 25]]],
    "interleaved": [[[10, 13], [20, 23]], [[11, 14], [21, 24]], [[12, 15], [22, 25]]],
    "reshape-without-transpose": [[[10, 11], [12, 13]], [[14, 15], [20, 21]], [[22, 23], [24, 25]]],
}


@pytest.mark.parametrize("choice", SPLITS)
def test_head_split(choice):
    found = steps(MHA, {"query_input": FEATURES}, IDENTITY, {"heads": 3, "scale": 1.0}, attention_head_split=choice)
    heads = np.array(SPLITS[choice], dtype=float)
    scores = np.einsum("hqd,hkd->hqk", heads, heads)
    assert found["scores"][0].tolist() == scores.tolist()
    # The second key's score is the greater by far, so each context is its head's second value.
    assert np.abs(found["context"][0] - heads[:, 1:2]).max() < 1e-12


MERGES = {
    "contiguous": [[10, 11, 12, 13, 14, 15], [20, 21, 22, 23, 24, 25]],
    "interleaved": [[10, 12, 14, 11, 13, 15], [20, 22, 24, 21, 23, 25]],
    "reshape-without-transpose": [[10, 11, 20, 21, 12, 13], [22, 23, 14, 15, 24, 25]],
}


@pytest.mark.parametrize("choice", MERGES)
def test_head_merge(choice):
    mask = np.eye(2, dtype=bool)  # each query sees its own position: the context is the value
    inputs = {"query_input": FEATURES, "mask": mask}
    found = steps(MHA, inputs, IDENTITY, {"heads": 3}, attention_head_merge=choice)
    assert found["merged"][0].tolist() == MERGES[choice]


def test_kv_head_repeat():
    weights = {
        "query_kernel": np.ones((1, 4)),
        "key_kernel": np.array([[1.0, 10.0]]),
        "value_kernel": np.array([[3.0, 5.0]]),
    }
    config = {"heads": 4, "kv_heads": 2}
    for choice, key, value in (("blocked", [1, 1, 10, 10], [3, 3, 5, 5]), ("tiled", [1, 10, 1, 10], [3, 5, 3, 5])):
        found = steps(MHA, {"query_input": np.ones((1, 1, 1))}, weights, config, attention_kv_head_repeat=choice)
        assert found["scores"].ravel().tolist() == key
        assert found["context"].ravel().tolist() == value


@pytest.mark.parametrize(
    ("value", "factor"), [("1/sqrt(head_dim)", 1 / 2), ("1/sqrt(model_dim)", 1 / math.sqrt(8)), ("1/head_dim", 1 / 4),
                          ("1/sqrt(value_dim)", 1 / 3), ("1", 1), ("sqrt(head_dim)", 2), ("twice", 1 / 4)]
)  # fmt: skip
@pytest.mark.parametrize("rotary", [None, True])
def test_scale(value, factor, rotary):
    """The dimensions are those of a head, whether the step reads heads (rotary) or features side by side."""
    inputs, weights = made(2, 2, 4, 9)
    found = steps(MHA, inputs, weights, {"heads": 2, "rotary": rotary}, attention_scale=value)
    assert np.abs(found["scaled"] - found["scores"] * factor).max() <= 4 * 2**-53 * np.abs(found["scores"]).max()
