"""The correlation as products of matrices is the sum that its definition says, on every odd shape."""

import itertools

import numpy as np
import pytest

from conformance import correlation
from conformance.correlation import correlation as correlated


def by_definition(x, kernel, strides, dilation, groups):
    """output[p, o] = sum over offsets w and channels c of the group of x[stride p + dilation w, c] kernel[w, c, o]"""
    axes = x.ndim - 2
    size, (per_group, out) = kernel.shape[:axes], kernel.shape[axes:]
    spaces = zip(x.shape[1:-1], size, strides, dilation, strict=True)
    space = [(n - (k - 1) * d - 1) // s + 1 for n, k, s, d in spaces]
    made = np.zeros((x.shape[0], *space, out))
    for place in np.ndindex(x.shape[0], *space):
        for o, w in itertools.product(range(out), np.ndindex(*size)):
            at = tuple(p * s + i * d for p, s, i, d in zip(place[1:], strides, w, dilation, strict=True))
            first = o // (out // groups) * per_group
            made[(*place, o)] += x[(place[0], *at)][first : first + per_group] @ kernel[w][:, o]
    return made


CASES = {
    "one axis": ((2, 11, 6), (3, 6, 5), (1,), (1,), 1),
    "a stride that leaves elements over": ((2, 11, 3), (2, 3, 4), (3,), (1,), 1),
    "dilated": ((1, 13, 2), (3, 2, 3), (2,), (4,), 1),
    "two axes": ((3, 7, 5, 4), (3, 2, 4, 6), (2, 1), (1, 2), 1),
    "groups": ((2, 6, 5, 6), (2, 3, 2, 9), (1, 2), (1, 1), 3),
    "depthwise": ((2, 6, 5, 4), (3, 3, 1, 8), (1, 1), (1, 1), 4),
    "one channel": ((2, 9, 1), (4, 1, 3), (2,), (1,), 1),
    "three axes": ((1, 4, 5, 3, 2), (2, 2, 3, 2, 3), (1, 2, 1), (1, 1, 1), 1),
    "a window of one": ((2, 5, 4, 3), (1, 1, 3, 7), (1, 1), (1, 1), 1),
    "a window as large as the input": ((2, 4, 3), (4, 3, 2), (1,), (1,), 1),
    "one number": ((1, 1, 1), (1, 1, 1), (1,), (1,), 1),
    "no sample": ((0, 5, 3), (2, 3, 4), (1,), (1,), 1),
    "no output channel": ((2, 5, 3), (2, 3, 0), (1,), (1,), 1),
}


@pytest.mark.parametrize("gathered", [1, 50, 2**16])
@pytest.mark.parametrize("name", CASES)
def test_it_is_the_sum_of_its_definition(name, gathered, monkeypatch):
    shape, kernel_shape, *how = CASES[name]
    rng = np.random.default_rng(3)
    x, kernel = rng.normal(size=shape), rng.normal(size=kernel_shape)
    monkeypatch.setattr(correlation, "_GATHERED", gathered)
    found = correlated(x, kernel, *how)
    expected = by_definition(x, kernel, *how)
    groups = how[-1]
    assert found.shape == (*expected.shape[:-1], groups, kernel_shape[-1] // groups)
    assert found.reshape(expected.shape) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_float32_stays_float32():
    x, kernel = np.ones((1, 5, 2), np.float32), np.ones((2, 2, 3), np.float32)
    assert correlated(x, kernel, (1,), (1,), 1).dtype == np.float32


@pytest.mark.parametrize(
    ("shape", "kernel", "groups"), [((1, 5, 4), (2, 3, 2), 1), ((1, 5, 4), (2, 1, 2), 2), ((1, 2, 1), (3, 1, 1), 1)]
)
def test_what_does_not_fit_is_an_error(shape, kernel, groups):
    with pytest.raises(ValueError, match=r"channels|reshape|window"):
        correlated(np.ones(shape), np.ones(kernel), (1,), (1,), groups)
