"""Sinusoidal positions and linear biases against 50 digits, against published values, and by hand."""

import mpmath
import numpy as np
import pytest
from exact import check, filled, steps

from conformance.errors import ConformanceError


@pytest.mark.parametrize("dim", [6, 7])
@pytest.mark.parametrize("positions", [np.arange(6), np.array([[3, 0], [1, 5]]), np.array([-0.75, 2.5])])
def test_sinusoidal_positions_beside_50_digits(dim, positions):
    def element(*index):
        *at, j = index
        angle = mpmath.mpf(float(positions[tuple(at)])) / mpmath.mpf(100) ** (mpmath.mpf(2 * (j // 2)) / dim)
        return mpmath.cos(angle) if j % 2 else mpmath.sin(angle)

    found = steps("sinusoidal_position", {"positions": positions}, config={"dim": dim, "base": 100.0})
    check(found, {"output": filled((*positions.shape, dim), element)}, most=8)  # of angles up to six


def test_the_first_positions_of_four_features():
    """The figures of machinelearningmastery.com's introduction to positional encoding: n = 100, d = 4."""
    found = steps("sinusoidal_position", {"positions": np.arange(3)}, config={"dim": 4, "base": 100.0})["output"]
    published = [
        [0, 1, 0, 1],
        [0.84147098, 0.54030231, 0.09983342, 0.99500417],
        [0.90929743, -0.41614684, 0.19866933, 0.98006658],
    ]
    assert np.abs(found - published).max() < 0.6e-8


def test_halves_of_an_odd_width_end_with_a_zero():
    """As tensor2tensor and fairseq have it."""
    given, config = {"positions": np.array([1])}, {"dim": 5}
    sines, cosines = np.sin([1, 0.01]), np.cos([1, 0.01])
    choice = {"sinusoidal_spacing": "i/(dim/2-1)", "sinusoidal_base": "100"}
    both = {layout: steps("sinusoidal_position", given, config=config, sinusoidal_layout=layout, **choice)["output"][0]
            for layout in ("sin|cos", "cos|sin")}  # fmt: skip
    assert np.allclose(both["sin|cos"], [*sines, *cosines, 0], rtol=1e-14, atol=0)
    assert np.allclose(both["cos|sin"], [*cosines, *sines, 0], rtol=1e-14, atol=0)


@pytest.mark.parametrize(("first", "counted"), [("1", 1), ("2", 2)])
def test_a_first_position_is_added(first, counted):
    here = steps("sinusoidal_position", {"positions": np.arange(4)}, config={"dim": 6}, sinusoidal_first_position=first)
    assert np.array_equal(
        here["output"], steps("sinusoidal_position", {"positions": np.arange(4) + counted}, config={"dim": 6})["output"]
    )


@pytest.mark.parametrize("config", [{}, {"dim": 0}, {"dim": 2.5}])
def test_a_width_must_be_given(config):
    with pytest.raises(ConformanceError, match="how many features"):
        steps("sinusoidal_position", {"positions": np.arange(4)}, config=config)


# What the paper's section 3 and its own code give.
SLOPES = {
    1: [1 / 256],
    2: [1 / 16, 1 / 256],
    3: [1 / 16, 1 / 256, 1 / 4],
    6: [1 / 4, 1 / 16, 1 / 64, 1 / 256, 1 / 2, 1 / 8],
    8: [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256],
    12: [2.0**-n for n in (1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5)],
    16: [2.0 ** -(n / 2) for n in range(1, 17)],
}


@pytest.mark.parametrize("heads", list(SLOPES))
def test_slopes_are_the_papers(heads):
    found = steps("alibi", {}, config={"heads": heads, "query": 1, "key": 1})["slopes"]
    assert np.allclose(found, SLOPES[heads], rtol=1e-15, atol=0)


def test_a_bias_by_hand():
    found = steps("alibi", {}, config={"heads": 2, "query": 2, "key": 3})["bias"]
    assert (found[0] * 16).tolist() == (found[1] * 256).tolist() == [[0, -1, -2], [-1, 0, -1]]


def test_under_a_causal_mask_all_but_the_reversed_sign_give_the_same_weights():
    """Softmax does not see what a row has in common."""
    scores = np.random.default_rng(5).normal(size=(1, 4, 6, 6))
    attended = np.tri(6, dtype=bool)
    weights = {}
    for distance in ("absolute", "signed", "key-position", "key-from-last", "sign-reversed"):
        bias = steps("alibi", {}, config={"heads": 4, "query": 6, "key": 6}, alibi_distance=distance)["bias"]
        powers = np.where(attended, np.exp(scores + bias), 0)
        weights[distance] = powers / powers.sum(-1, keepdims=True)
    same = {name for name, found in weights.items() if np.allclose(found, weights["absolute"], rtol=1e-13, atol=0)}
    assert same == {"absolute", "signed", "key-position", "key-from-last"}


@pytest.mark.parametrize("config", [{}, {"heads": 2, "query": 3}, {"heads": 0, "query": 1, "key": 1}])
def test_heads_and_lengths_must_be_given(config):
    with pytest.raises(ConformanceError, match="heads, query and key"):
        steps("alibi", {}, config=config)


@pytest.mark.parametrize(
    ("layer", "inputs", "config", "choice"),
    [
        ("alibi", {}, {"heads": 1, "query": 1, "key": 1}, {"alibi_slopes": "powers"}),
        ("alibi", {}, {"heads": 1, "query": 1, "key": 1}, {"alibi_distance": "squared"}),
        ("sinusoidal_position", {"positions": np.arange(2)}, {"dim": 2}, {"sinusoidal_layout": "halves"}),
    ],
)
def test_an_unknown_choice_is_refused(layer, inputs, config, choice):
    with pytest.raises(ConformanceError, match=f"'{next(iter(choice.values()))}'"):
        steps(layer, inputs, config=config, **choice)
