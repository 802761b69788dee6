import math

import mpmath
import numpy as np
import pytest
from exact import check, drawn, exact, filled, steps, total


@pytest.mark.parametrize("axes", [1, 2])
def test_layer_norm_against_50_digits(axes):
    x = drawn(4, 2, 3, 5) + 2
    scale, bias = drawn(5, *x.shape[-axes:]), drawn(6, *x.shape[-axes:])
    epsilon = 1e-3
    kept = (*x.shape[:-axes], *(1,) * axes)
    values = exact(x)
    n = math.prod(x.shape[-axes:])

    def sample(*index):
        return [values[(*index[: 3 - axes], *rest)] for rest in np.ndindex(x.shape[-axes:])]

    mean = filled(kept, lambda *i: total(sample(*i)) / n)
    variance = filled(kept, lambda *i: total((v - mean[i]) ** 2 for v in sample(*i)) / n)

    def normalized(*i):
        at = tuple(0 if size == 1 else k for k, size in zip(i, kept, strict=True))
        return (values[i] - mean[at]) / mpmath.sqrt(variance[at] + mpmath.mpf(epsilon))

    whole = filled(x.shape, normalized)
    reference = {
        "mean": mean,
        "variance": variance,
        "normalized": whole,
        "output": filled(x.shape, lambda *i: whole[i] * exact(scale)[i[-axes:]] + exact(bias)[i[-axes:]]),
    }
    found = steps("layer_norm", {"x": x}, {"scale": scale, "bias": bias}, {"axes": axes, "epsilon": epsilon})
    check(found, reference)


ROW = np.array([[1.0, 2.0, 3.0, 6.0]])  # mean 3, deviations -2 -1 0 3, squares 14


def test_by_hand():
    found = steps("layer_norm", {"x": ROW}, config={"epsilon": 0.5})
    assert found["mean"].tolist() == [[3]]
    assert found["variance"].tolist() == [[3.5]]
    assert found["normalized"].tolist() == [[-1, -0.5, 0, 1.5]]  # sqrt(3.5 + 0.5) = 2
    assert np.array_equal(found["output"], found["normalized"])


def test_scale_and_bias_may_come_alone():
    scaled = steps("layer_norm", {"x": ROW}, {"scale": np.array([1.0, 2, 3, 4])}, {"epsilon": 0.5})
    assert scaled["output"].tolist() == [[-1, -1, 0, 6]]
    shifted = steps("layer_norm", {"x": ROW}, {"bias": np.array([1.0, 2, 3, 4])}, {"epsilon": 0.5})
    assert shifted["output"].tolist() == [[0, 1.5, 3, 5.5]]


def test_a_constant_row_is_zero():
    found = steps("layer_norm", {"x": np.full((2, 7), 0.1)})["normalized"]
    assert np.abs(found).max() <= 2**-53 / math.sqrt(1e-5)


@pytest.mark.parametrize(
    ("conventions", "epsilon", "divisor"),
    [
        ({"norm_epsilon": "12.5"}, 0.5, 4),
        ({"norm_epsilon": 12.5}, 0.5, 4),
        ({"norm_epsilon_placement": "outside-sqrt"}, 0.5, math.sqrt(3.5) + 0.5),
        ({"norm_epsilon_placement": "max"}, 0.5, math.sqrt(3.5)),
        ({"norm_epsilon_placement": "max"}, 16.0, 4),
        ({"norm_epsilon_placement": "none"}, 0.5, math.sqrt(3.5)),
        ({"norm_epsilon_placement": "inside-sqrt"}, 0.5, 2),
        ({"norm_variance": "bessel"}, 0.5, math.sqrt(14 / 3 + 0.5)),
        ({"norm_variance": "fast"}, 0.5, 2),
    ],
)
def test_what_the_deviations_are_divided_by(conventions, epsilon, divisor):
    found = steps("layer_norm", {"x": ROW}, config={"epsilon": epsilon}, **conventions)
    expected = np.array([[-2, -1, 0, 3]]) / divisor
    assert np.abs(found["normalized"] - expected).max() <= 4 * 2**-53


def test_a_variance_of_the_sample():
    sample = steps("layer_norm", {"x": ROW}, norm_variance="bessel")["variance"]
    assert np.abs(sample - 14 / 3).max() <= 2 * 2**-53 * 14 / 3
    single = steps("layer_norm", {"x": np.array([[2.0]])}, norm_variance="bessel")
    assert np.isnan(single["variance"]).all()  # 0 / 0, as torch.var says


def test_the_fast_variance_cancels_where_the_mean_is_large():
    x = np.array([[1e9, 1e9 + 1]])
    assert steps("layer_norm", {"x": x})["variance"].tolist() == [[0.25]]
    assert steps("layer_norm", {"x": x}, norm_variance="fast")["variance"].tolist() == [[0.0]]


@pytest.mark.parametrize(
    ("choice", "over", "mean"),
    [
        ("<config>", 2, [[[2.0], [6.0]], [[10.0], [14.0]]]),
        ("all-but-batch", (1, 2), [[[4.0]], [[12.0]]]),
        ("batch", 0, [[[5.0, 7.0], [9.0, 11.0]]]),
    ],
)
def test_which_axes_are_averaged(choice, over, mean):
    x = np.array([[[1.0, 3.0], [5.0, 7.0]], [[9.0, 11.0], [13.0, 15.0]]])
    found = steps("layer_norm", {"x": x}, norm_axes=choice)
    assert found["mean"].tolist() == mean
    assert np.array_equal(found["variance"], np.var(x, axis=over, keepdims=True))
