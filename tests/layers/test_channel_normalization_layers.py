"""Group norm and instance norm against 50 digits, by hand, as one another, and under their conventions."""

import mpmath
import numpy as np
import pytest
from exact import check, drawn, exact, filled, steps, total

from conformance.errors import ConformanceError

EPSILON = 1e-3


def moments(values):
    mean = total(values) / len(values)
    return mean, total((v - mean) ** 2 for v in values) / len(values)


def test_group_norm_against_50_digits():
    """Group g of 3 owns channels 2g and 2g + 1."""
    x, scale, bias = drawn(4, 2, 3, 5, 6) + 2, drawn(5, 6), drawn(6, 6)
    values = exact(x)
    found = {
        (n, g): moments([values[n, h, w, c] for h in range(3) for w in range(5) for c in (2 * g, 2 * g + 1)])
        for n in range(2)
        for g in range(3)
    }

    def normalized(n, h, w, c):
        mean, variance = found[n, c // 2]
        return (values[n, h, w, c] - mean) / mpmath.sqrt(variance + mpmath.mpf(EPSILON))

    whole = filled(x.shape, normalized)
    reference = {
        "mean": filled((2, 1, 1, 3, 1), lambda n, _, __, g, ___: found[n, g][0]),
        "variance": filled((2, 1, 1, 3, 1), lambda n, _, __, g, ___: found[n, g][1]),
        "normalized": whole,
        "output": filled(x.shape, lambda *i: whole[i] * exact(scale)[i[-1]] + exact(bias)[i[-1]]),
    }
    check(steps("group_norm", {"x": x}, {"scale": scale, "bias": bias}, {"groups": 3, "epsilon": EPSILON}), reference)


def test_instance_norm_against_50_digits():
    x, scale, bias = drawn(4, 2, 7, 3) - 1, drawn(5, 3), drawn(6, 3)
    values = exact(x)
    found = {(n, c): moments([values[n, t, c] for t in range(7)]) for n in range(2) for c in range(3)}
    root = {key: mpmath.sqrt(variance + mpmath.mpf(EPSILON)) for key, (_, variance) in found.items()}
    whole = filled(x.shape, lambda n, t, c: (values[n, t, c] - found[n, c][0]) / root[n, c])
    reference = {
        "mean": filled((2, 1, 3), lambda n, _, c: found[n, c][0]),
        "variance": filled((2, 1, 3), lambda n, _, c: found[n, c][1]),
        "normalized": whole,
        "output": filled(x.shape, lambda *i: whole[i] * exact(scale)[i[-1]] + exact(bias)[i[-1]]),
    }
    check(steps("instance_norm", {"x": x}, {"scale": scale, "bias": bias}, {"epsilon": EPSILON}), reference)


# Two places in space, four channels: in groups of two in a row, 1 3 | 5 7 and 10 30 | 50 70.
X = np.array([[[1.0, 3.0, 10.0, 30.0], [5.0, 7.0, 50.0, 70.0]]])


def test_by_hand():
    found = steps("group_norm", {"x": X}, config={"groups": 2, "epsilon": 4.0})
    assert found["mean"].ravel().tolist() == [4, 40]
    assert found["variance"].ravel().tolist() == [5, 500]
    assert found["normalized"][0, :, :2].tolist() == [[-1, -1 / 3], [1 / 3, 1]]  # sqrt(5 + 4) = 3
    apart = steps("instance_norm", {"x": X}, config={"epsilon": 5.0})
    assert apart["mean"].ravel().tolist() == [3, 5, 30, 50]
    assert apart["variance"].ravel().tolist() == [4, 4, 400, 400]
    assert apart["normalized"][0, :, 0].tolist() == [-2 / 3, 2 / 3]  # sqrt(4 + 5) = 3


def test_interleaved_groups_are_every_other_channel():
    found = steps("group_norm", {"x": X}, config={"groups": 2}, group_norm_grouping="interleaved")
    assert found["mean"].ravel().tolist() == [(1 + 10 + 5 + 50) / 4, (3 + 30 + 7 + 70) / 4]
    swapped = X[..., [0, 2, 1, 3]]  # the groups next to one another
    plain = steps("group_norm", {"x": swapped}, config={"groups": 2})
    assert np.array_equal(found["output"], plain["output"][..., [0, 2, 1, 3]])
    assert np.array_equal(found["variance"], plain["variance"])


def test_a_group_for_each_channel_is_an_instance_norm():
    x = drawn(1, 2, 3, 4, 5)
    weights = {"scale": drawn(2, 5), "bias": drawn(3, 5)}
    alone = steps("group_norm", {"x": x}, weights, {"groups": 5})
    assert np.array_equal(alone["output"], steps("instance_norm", {"x": x}, weights)["output"])


def test_one_group_without_space_is_a_layer_norm():
    x = drawn(1, 3, 7)
    one = steps("group_norm", {"x": x}, {"scale": drawn(2, 7)}, {"groups": 1})
    assert np.array_equal(one["output"], steps("layer_norm", {"x": x}, {"scale": drawn(2, 7)})["output"])


@pytest.mark.parametrize(
    ("layer", "config", "choice", "mean"),
    [
        ("group_norm", {"groups": 2}, "all-but-batch", [22.0]),
        ("group_norm", {"groups": 2}, "batch", X.ravel().tolist()),
        ("instance_norm", {}, "all-but-batch", [22.0]),
        ("instance_norm", {}, "batch", X.ravel().tolist()),
    ],
)
def test_which_axes_are_averaged(layer, config, choice, mean):
    found = steps(layer, {"x": X}, config=config, norm_axes=choice)
    assert found["mean"].ravel().tolist() == mean
    assert found["output"].shape == X.shape


@pytest.mark.parametrize(
    ("conventions", "divisor"),
    [
        ({"norm_epsilon": "12"}, 4),
        ({"norm_epsilon_placement": "outside-sqrt"}, 2 + 5),
        ({"norm_epsilon_placement": "max"}, np.sqrt(5)),
        ({"norm_epsilon_placement": "none"}, 2),
        ({"norm_variance": "bessel"}, np.sqrt(8 + 5)),  # of two values
        ({"norm_variance": "fast"}, 3),
    ],
)
def test_what_the_deviations_are_divided_by(conventions, divisor):
    found = steps("instance_norm", {"x": X[..., :1]}, config={"epsilon": 5.0}, **conventions)["normalized"]
    assert np.allclose(found.ravel(), np.array([-2, 2]) / divisor, 1e-15, 0)
    whole = steps("group_norm", {"x": X[..., :1]}, config={"epsilon": 5.0, "groups": 1}, **conventions)
    assert np.array_equal(whole["normalized"], found)


def test_channels_that_do_not_fit_into_the_groups_are_an_error():
    with pytest.raises(ConformanceError, match="4 channels cannot be in 3 equal groups"):
        steps("group_norm", {"x": X}, config={"groups": 3})
    with pytest.raises(ConformanceError, match="0 equal groups"):
        steps("group_norm", {"x": X}, config={"groups": 0})
