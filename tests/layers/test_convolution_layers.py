from itertools import product

import numpy as np
import pytest
from exact import check, drawn, exact, filled, mpmath, steps, total
from scipy.signal import correlate

from conformance.errors import ConformanceError


def convolution(x, kernel, bias, margins, strides=(1, 1), dilation=(1, 1), groups=1):
    """Dumoulin and Visin (2016): a sum over the window's offsets and the group's channels."""
    batch, *sizes, channels = x.shape
    *window, per_group, out = kernel.shape
    whole = [before + size + after for (before, after), size in zip(margins, sizes, strict=True)]
    (top, _), (left, _) = margins

    def padded(b, i, j, c):
        y, x_ = i - top, j - left
        return x[b, y, x_, c] if 0 <= y < sizes[0] and 0 <= x_ < sizes[1] else mpmath.mpf(0)

    extents = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
    space = [(n - e) // s + 1 for n, e, s in zip(whole, extents, strides, strict=True)]

    def convolved(b, i, j, o):
        first = (o // (out // groups)) * per_group
        return total(
            padded(b, i * strides[0] + u * dilation[0], j * strides[1] + v * dilation[1], first + c)
            * kernel[u, v, c, o]
            for u in range(window[0])
            for v in range(window[1])
            for c in range(per_group)
        )

    made = filled((batch, *space, out), convolved)
    return {
        "padded": filled((batch, *whole, channels), padded),
        "convolved": made,
        "output": made if bias is None else filled(made.shape, lambda *at: made[at] + bias[at[-1]]),
    }


# config, margins by hand for an input of 5 x 6 and a kernel of 3 x 2
NONE = ((0, 0), (0, 0))
CASES = {
    "valid": ({}, NONE),
    "strides": ({"strides": 2}, NONE),
    "two strides": ({"strides": (2, 3)}, NONE),
    "dilation": ({"dilation": 2}, NONE),
    "two dilations": ({"dilation": [1, 3]}, NONE),
    "same-upper": ({"padding": "same-upper"}, ((1, 1), (0, 1))),
    "same-lower": ({"padding": "same-lower"}, ((1, 1), (1, 0))),
    # ceil(5/2) = 3 windows of 3 need 7 = 5 + 2; ceil(6/2) = 3 windows of 2 need 6
    "same-upper, stride 2": ({"padding": "same-upper", "strides": 2}, ((1, 1), (0, 0))),
    # ceil(5/3) = 2 windows of 3 need 6 = 5 + 1; ceil(6/4) = 2 windows of 2 need 6
    "same-upper, strides 3 4": ({"padding": "same-upper", "strides": (3, 4)}, ((0, 1), (0, 0))),
    "same-lower, strides 3 4": ({"padding": "same-lower", "strides": (3, 4)}, ((1, 0), (0, 0))),
    # extents 5 and 3: four and two zeros
    "same-lower, dilation 2": ({"padding": "same-lower", "dilation": 2}, ((2, 2), (1, 1))),
    # one window, which fits: nothing is needed
    "same-upper, stride 6": ({"padding": "same-upper", "strides": 6}, NONE),
    "explicit": ({"padding": ((1, 2), (0, 3))}, ((1, 2), (0, 3))),
    "explicit, as lists": ({"padding": [[2, 0], [1, 1]], "strides": [1, 2]}, ((2, 0), (1, 1))),
    "everything": (
        {"padding": ((1, 2), (2, 1)), "strides": (2, 1), "dilation": (2, 3), "groups": 2}, ((1, 2), (2, 1))
    ),
    "groups": ({"groups": 2}, NONE),
    "depthwise": ({"groups": 4}, NONE),
}  # fmt: skip


def pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)


@pytest.mark.parametrize("name", CASES)
def test_conv2d_against_50_digits(name):
    config, margins = CASES[name]
    groups = config.get("groups", 1)
    x, kernel, bias = drawn(0, 2, 5, 6, 4), drawn(1, 3, 2, 4 // groups, 8), drawn(2, 8)
    expected = convolution(
        exact(x), exact(kernel), exact(bias), margins,
        pair(config.get("strides", 1)), pair(config.get("dilation", 1)), groups,
    )  # fmt: skip
    check(steps("conv2d", {"x": x}, {"kernel": kernel, "bias": bias}, config), expected)


def test_without_a_bias():
    x, kernel = drawn(0, 1, 4, 5, 2), drawn(1, 2, 3, 2, 3)
    check(steps("conv2d", {"x": x}, {"kernel": kernel}), convolution(exact(x), exact(kernel), None, NONE))


def test_an_unknown_padding_is_refused():
    with pytest.raises(ConformanceError, match="unknown padding 'same'"):
        steps("conv2d", {"x": drawn(0, 1, 4, 5, 2)}, {"kernel": drawn(1, 2, 3, 2, 3)}, {"padding": "same"})


# -- by hand, and the conventions ---------------------------------------------------------------------------

IMAGE = {"x": np.arange(1.0, 10.0).reshape(1, 3, 3, 1)}  # 1 2 3 / 4 5 6 / 7 8 9
CORNER = {"kernel": np.array([[1.0, 10.0], [100.0, 1000.0]]).reshape(2, 2, 1, 1)}


def plane(array):
    return array[0, :, :, 0].tolist()


def test_by_hand():
    found = steps("conv2d", IMAGE, {**CORNER, "bias": np.array([0.5])})
    assert plane(found["convolved"]) == [[5421, 6532], [8754, 9865]]
    assert plane(found["output"]) == [[5421.5, 6532.5], [8754.5, 9865.5]]


def test_flip():
    found = steps("conv2d", IMAGE, CORNER, conv_flip="convolution")
    assert plane(found["convolved"]) == [[1245, 2356], [4578, 5689]]


@pytest.mark.parametrize(
    ("choice", "corners"),
    [("same-upper", [5421, 9]), ("same-lower", [1000, 9865]), ("symmetric", [1000, 9])],
)
def test_same_padding(choice, corners):
    config = {"padding": "same-upper"}
    found = plane(steps("conv2d", IMAGE, CORNER, config, conv_same_padding=choice)["convolved"])
    assert [found[0][0], found[-1][-1]] == corners
    assert len(found) == (4 if choice == "symmetric" else 3)


def test_symmetric_padding_moves_the_windows_of_an_even_size():
    """torch's padding = k // 2 with stride 2 (keras#9473): the same shape as "same", other windows."""
    x = {"x": np.arange(1.0, 17.0).reshape(1, 4, 4, 1)}
    kernel = {"kernel": np.ones((3, 3, 1, 1))}
    config = {"padding": "same-upper", "strides": 2}
    upper = plane(steps("conv2d", x, kernel, config)["convolved"])
    symmetric = plane(steps("conv2d", x, kernel, config, conv_same_padding="symmetric")["convolved"])
    # zeros below and to the right only: rows 1-3, 3-5; then zeros all round: rows 0-2, 2-4
    assert upper == [[54, 3 + 4 + 7 + 8 + 11 + 12], [9 + 10 + 11 + 13 + 14 + 15, 11 + 12 + 15 + 16]]
    assert symmetric == [[1 + 2 + 5 + 6, 2 + 3 + 4 + 6 + 7 + 8], [5 + 6 + 9 + 10 + 13 + 14, 99]]


def test_a_padding_that_was_not_same_is_left_alone():
    for padding in ("valid", ((1, 0), (0, 1))):
        plain = steps("conv2d", IMAGE, CORNER, {"padding": padding})
        other = steps("conv2d", IMAGE, CORNER, {"padding": padding}, conv_same_padding="same-lower")
        assert np.array_equal(plain["padded"], other["padded"])


def test_groups():
    """Two groups of one channel with two outputs each: 1 and 10 of the first, 100 and 1000 of the second."""
    x = {"x": np.array([2.0, 3.0]).reshape(1, 1, 1, 2)}
    kernel = {"kernel": np.array([1.0, 10.0, 100.0, 1000.0]).reshape(1, 1, 1, 4)}
    for choice, expected in (("contiguous", [2, 20, 300, 3000]), ("interleaved", [2, 300, 20, 3000])):
        found = steps("conv2d", x, kernel, {"groups": 2}, conv_groups=choice)
        assert found["convolved"].ravel().tolist() == expected


# -- along one axis, and along three ------------------------------------------------------------------------


def test_causal_padding_is_all_before():
    x, kernel = np.array([1.0, 2, 4]).reshape(1, 3, 1), np.array([1.0, 10]).reshape(2, 1, 1)
    found = steps("conv1d", {"x": x}, {"kernel": kernel}, {"padding": "causal", "dilation": 2})
    assert found["padded"].ravel().tolist() == [0, 0, 1, 2, 4]
    assert found["output"].ravel().tolist() == [10, 20, 41]


@pytest.mark.parametrize("axes", [1, 3])
def test_channels_are_correlations_of_scipys(axes):
    sizes, window = (7, 6, 5)[:axes], (3, 2, 4)[:axes]
    x, kernel, bias = drawn(0, 2, *sizes, 3), drawn(1, *window, 3, 4), drawn(2, 4)
    found = steps(f"conv{axes}d", {"x": x}, {"kernel": kernel, "bias": bias}, {"strides": 2})["output"]
    for sample, out in product(range(2), range(4)):
        whole = sum(correlate(x[sample, ..., c], kernel[..., c, out], "valid") for c in range(3)) + bias[out]
        assert np.allclose(found[sample, ..., out], whole[(slice(None, None, 2),) * axes], 1e-12, 1e-12)


def test_groups_along_three_axes_are_convolutions_side_by_side():
    x, kernel = drawn(0, 2, 4, 5, 6, 4), drawn(1, 3, 2, 2, 2, 6)
    found = steps("conv3d", {"x": x}, {"kernel": kernel}, {"groups": 2})["convolved"]
    apart = [
        steps("conv3d", {"x": x[..., 2 * g : 2 * g + 2]}, {"kernel": kernel[..., 3 * g : 3 * g + 3]})["convolved"]
        for g in range(2)
    ]
    assert np.allclose(found, np.concatenate(apart, -1), 1e-12, 1e-12)
