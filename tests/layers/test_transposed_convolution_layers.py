"""Transposed convolutions by hand, and element by element: each is multiplied with the whole kernel, and added."""

import itertools

import numpy as np
import pytest
from exact import check, drawn, exact, filled, mpmath, steps

from conformance.errors import ConformanceError

LINE = {"x": np.array([1.0, 2]).reshape(1, 2, 1)}
KERNEL = {"kernel": np.array([1.0, 10, 100]).reshape(3, 1, 1)}


def row(found, step="output"):
    return found[step].ravel().tolist()


def test_what_overlaps_is_added():
    assert row(steps("conv_transpose1d", LINE, KERNEL)) == [1, 12, 120, 200]
    assert row(steps("conv_transpose1d", LINE, KERNEL, {"strides": 2})) == [1, 10, 102, 20, 200]
    assert row(steps("conv_transpose1d", LINE, KERNEL, {"dilation": 2})) == [1, 2, 10, 20, 100, 200]
    apart = [1, 10, 100, 0, 2, 20, 200]
    assert row(steps("conv_transpose1d", LINE, KERNEL, {"strides": 4})) == apart


@pytest.mark.parametrize(
    ("config", "choice", "expected"),
    [
        ({"padding": "same-upper"}, {}, [1, 10, 102, 20]),
        ({"padding": "same-lower"}, {}, [10, 102, 20, 200]),
        ({"padding": "same-upper"}, {"conv_transpose_padding": "crop-lower"}, [10, 102, 20, 200]),
        ({"padding": "same-upper"}, {"conv_transpose_padding": "crop-both"}, [10, 102, 20, 0]),
        ({"padding": [[1, 1]]}, {}, [10, 102, 20]),
        ({"padding": [[1, 1]], "output_padding": 1}, {}, [10, 102, 20, 200]),  # pytorch#8816: not zeros
        ({"padding": [[0, 0]], "output_padding": 1}, {}, [1, 10, 102, 20, 200, 0]),  # of which there are none more
    ],
)
def test_what_is_cut_off(config, choice, expected):
    found = steps("conv_transpose1d", LINE, KERNEL, {"strides": 2, **config}, **choice)
    assert row(found, "convolved") == [1, 10, 102, 20, 200]
    assert row(found) == expected


def test_same_with_a_kernel_shorter_than_its_stride_adds_zeros():
    assert row(steps("conv_transpose1d", LINE, KERNEL, {"strides": 4, "padding": "same-upper"})) == [
        1, 10, 100, 0, 2, 20, 200, 0
    ]  # fmt: skip


def test_a_kernel_that_is_not_flipped():
    found = steps("conv_transpose1d", LINE, KERNEL, {"strides": 2}, conv_transpose_kernel_layout="unflipped")
    assert row(found) == [100, 10, 201, 20, 2]


def test_causal_padding_is_none_of_its():
    with pytest.raises(ConformanceError, match="unknown padding 'causal'"):
        steps("conv_transpose1d", LINE, KERNEL, {"padding": "causal"})


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_against_50_digits(axes):
    sizes, window, strides, dilation = (3, 2, 2)[:axes], (2, 3, 2)[:axes], (2, 1, 3)[:axes], (1, 2, 1)[:axes]
    x, kernel, bias = drawn(0, 2, *sizes, 2), drawn(1, *window, 3, 2), drawn(2, 3)
    whole = [(n - 1) * s + (k - 1) * d + 1 for n, k, s, d in zip(sizes, window, strides, dilation, strict=True)]
    made = filled((2, *whole, 3), lambda *at: mpmath.mpf(0))
    given, weights, added = exact(x), exact(kernel), exact(bias)
    for b, c, o in itertools.product(range(2), range(2), range(3)):
        for i in itertools.product(*map(range, sizes)):
            for k in itertools.product(*map(range, window)):
                at = tuple(a * s + n * d for a, s, n, d in zip(i, strides, k, dilation, strict=True))
                made[(b, *at, o)] += given[(b, *i, c)] * weights[(*k, o, c)]
    config = {"strides": strides, "dilation": dilation}
    found = steps(f"conv_transpose{axes}d", {"x": x}, {"kernel": kernel, "bias": bias}, config)
    check(found, {"convolved": made, "output": filled(made.shape, lambda *at: made[at] + added[at[-1]])})
