"""Pools against values by hand, and against sums and maxima of 50 digits, one window after another."""

import itertools

import mpmath
import numpy as np
import pytest
from exact import check, drawn, exact, filled, steps, total

from conformance.errors import ConformanceError

LINE = {"x": np.array([-3.0, -1.0, -4.0, -1.5, -9.0, -2.0]).reshape(1, 6, 1)}


def row(found):
    return found["output"].ravel().tolist()


# ------------------------------------------------------------------------------------------- by hand
def test_strides_are_the_size_where_none_are_given():
    assert row(steps("max_pool1d", LINE, config={"size": 3})) == [-1, -1.5]
    assert row(steps("average_pool1d", LINE, config={"size": 3})) == [-8 / 3, -12.5 / 3]
    assert row(steps("max_pool1d", LINE)) == [-1, -1.5, -2]  # a size of two


def test_windows_overlap():
    assert row(steps("max_pool1d", LINE, config={"size": 3, "strides": 1})) == [-1, -1, -1.5, -1.5]


def test_what_a_maximum_is_padded_with_is_never_the_largest():
    found = steps("max_pool1d", LINE, config={"size": 3, "strides": 2, "padding": "same-upper"})
    assert found["padded"].ravel().tolist() == [-3, -1, -4, -1.5, -9, -2, -np.inf]
    assert row(found) == [-1, -1.5, -2]
    zeros = {"size": 3, "strides": 2, "padding": "same-upper"}
    assert row(steps("max_pool1d", LINE, config=zeros, pool_padding_value="0")) == [-1, -1.5, 0]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("same-upper", [-8 / 3, -14.5 / 3, -11 / 2]),
        ("same-lower", [-4 / 2, -6.5 / 3, -12.5 / 3]),
        ("symmetric", [-4 / 2, -6.5 / 3, -12.5 / 3]),  # as many outputs; the zero behind is not reached
    ],
)
def test_same_padding_of_a_mean_is_not_counted(choice, expected):
    config = {"size": 3, "strides": 2, "padding": "same-upper"}
    assert row(steps("average_pool1d", LINE, config=config, conv_same_padding=choice)) == pytest.approx(expected)


def test_padding_that_is_counted():
    config = {"size": 3, "strides": 2, "padding": [[1, 1]], "count_include_pad": True}
    assert row(steps("average_pool1d", LINE, config=config)) == pytest.approx([-4 / 3, -6.5 / 3, -12.5 / 3])
    replicated = {"size": 3, "strides": 2, "padding": "same-upper", "count_include_pad": True}
    found = steps("average_pool1d", LINE, config=replicated, pool_padding_mode="replicate")
    assert row(found) == pytest.approx([-8 / 3, -14.5 / 3, -13 / 3])  # -9, -2 and -2 again


def test_a_number_of_windows_that_is_rounded_up():
    """PyTorch's documentation of MaxPool2d: a window may leave the bounds if it starts inside them."""
    config = {"size": 3, "strides": 2, "ceil_mode": True}
    assert row(steps("max_pool1d", LINE, config=config)) == [-1, -1.5, -2]
    # What hangs over is no padding: it is not counted, even where padding is.
    for counted in (False, True):
        whole = {**config, "count_include_pad": counted}
        assert row(steps("average_pool1d", LINE, config=whole)) == pytest.approx([-8 / 3, -14.5 / 3, -11 / 2])
    other = steps("average_pool1d", LINE, config=whole, pool_ceil_mode="ceil-divisor")
    assert row(other) == pytest.approx([-8 / 3, -14.5 / 3, -11 / 3])
    assert row(steps("average_pool1d", LINE, config=whole, pool_ceil_mode="floor")) == pytest.approx(
        [-8 / 3, -14.5 / 3]
    )


def test_a_window_that_would_start_in_the_padding_is_left_out():
    """pytorch#116420: five elements and one of padding on each side, windows of 2 at a stride of 3: two, not three."""
    x = {"x": np.arange(5.0).reshape(1, 5, 1)}
    config = {"size": 2, "strides": 3, "padding": [[1, 1]], "ceil_mode": True}
    assert row(steps("max_pool1d", x, config=config)) == [0, 3]


def test_the_published_example_of_a_divisor_at_the_edge():
    """pytorch#183528: what PyTorch gives, and what ONNX Runtime gave for the model exported from it."""
    x = {"x": np.arange(1.0, 17.0).reshape(1, 4, 4, 1)}
    config = {
        "size": 3, "strides": 2, "padding": [[1, 1], [1, 1]], "ceil_mode": True, "count_include_pad": True
    }  # fmt: skip
    expected = [1.5555556, 3.3333333, 2.0, 6.3333335, 11.0, 6.0, 4.5, 7.5, 4.0]
    assert row(steps("average_pool2d", x, config=config)) == pytest.approx(expected, rel=1e-6)
    exported = [1.5555556, 3.3333333, 1.3333334, 6.3333335, 11.0, 4.0, 3.0, 5.0, 1.7777778]
    found = steps("average_pool2d", x, config=config, pool_ceil_mode="ceil-divisor")
    assert row(found) == pytest.approx(exported, rel=1e-6)


def test_adaptive_windows_overlap_where_they_must():
    """Seven elements in three: 0-2, 2-4 and 4-6."""
    x = {"x": np.array([1.0, 2, 4, 8, 16, 32, 64]).reshape(1, 7, 1, 1)}
    found = steps("adaptive_average_pool2d", x, config={"size": [3, 1]})
    assert row(found) == pytest.approx([7 / 3, 28 / 3, 112 / 3])
    assert row(steps("adaptive_average_pool2d", x)) == pytest.approx([127 / 7])
    twice = {"x": np.array([1.0, 2, 4]).reshape(1, 3, 1, 1)}  # more windows than elements
    assert row(steps("adaptive_average_pool2d", twice, config={"size": [4, 1]})) == pytest.approx([1, 1.5, 3, 4])
    with pytest.raises(ConformanceError, match="at least one element along an axis, not 0"):
        steps("adaptive_average_pool2d", x, config={"size": 0})


# ----------------------------------------------------------------------------------- window by window
def windows(x, size, strides, pads):
    """The elements of x in each window, by `batch *out channel`: those of the padding are None."""
    space = x.shape[1:-1]
    counts = [(n + sum(p) - k) // s + 1 for n, p, k, s in zip(space, pads, size, strides, strict=True)]

    def elements(*index):
        b, *at, c = index
        for offset in itertools.product(*map(range, size)):
            place = [i * s + o - before for i, s, o, (before, _) in zip(at, strides, offset, pads, strict=True)]
            inside = all(0 <= p < n for p, n in zip(place, space, strict=True))
            yield x[(b, *place, c)] if inside else None

    return (len(x), *counts, x.shape[-1]), elements


def padded(x, pads, value):
    shape = [n + sum(p) for n, p in zip(x.shape[1:-1], pads, strict=True)]

    def element(*index):
        b, *at, c = index
        place = [i - before for i, (before, _) in zip(at, pads, strict=True)]
        return x[(b, *place, c)] if all(0 <= p < n for p, n in zip(place, x.shape[1:-1], strict=True)) else value

    return filled((len(x), *shape, x.shape[-1]), element)


# axes, config, pads by hand for an input of 5, 5x6 or 5x6x4
CASES = {
    "line": (1, {"size": 2}, [(0, 0)]),
    "line, same": (1, {"size": 2, "strides": 2, "padding": "same-upper"}, [(0, 1)]),
    "plane": (2, {"size": (2, 3), "strides": (2, 1)}, [(0, 0)] * 2),
    "plane, same-upper": (2, {"size": 3, "strides": 2, "padding": "same-upper"}, [(1, 1), (0, 1)]),
    "plane, same-lower": (2, {"size": 3, "strides": 2, "padding": "same-lower"}, [(1, 1), (1, 0)]),
    "plane, explicit": (2, {"size": 3, "strides": 1, "padding": ((1, 2), (0, 1))}, [(1, 2), (0, 1)]),
    "volume": (3, {"size": (2, 3, 2), "strides": (1, 2, 2)}, [(0, 0)] * 3),
    "volume, same": (3, {"size": 3, "strides": 2, "padding": "same-upper"}, [(1, 1), (0, 1), (0, 1)]),
}


@pytest.mark.parametrize("name", CASES)
def test_against_50_digits(name):
    axes, config, pads = CASES[name]
    given = drawn(axes, 2, *(5, 6, 4)[:axes], 2) - 1
    x = exact(given)
    size, strides = (
        (n,) * axes if isinstance(n, int) else n for n in (config["size"], config.get("strides", config["size"]))
    )
    shape, elements = windows(x, size, strides, pads)
    inside = lambda *at: [e for e in elements(*at) if e is not None]  # noqa: E731
    largest = {
        "padded": padded(x, pads, mpmath.mpf("-inf")), "output": filled(shape, lambda *at: max(inside(*at)))
    }  # fmt: skip
    check(steps(f"max_pool{axes}d", {"x": given}, config=config), largest, most=0)
    zeros = padded(x, pads, mpmath.mpf(0))
    mean = filled(shape, lambda *at: total(inside(*at)) / len(inside(*at)))
    check(steps(f"average_pool{axes}d", {"x": given}, config=config), {"padded": zeros, "output": mean})
    count = int(np.prod(size))
    whole = filled(shape, lambda *at: total(inside(*at)) / count)
    found = steps(f"average_pool{axes}d", {"x": given}, config={**config, "count_include_pad": True})
    check(found, {"padded": zeros, "output": whole})


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_whole_channels_against_50_digits(axes):
    given = drawn(axes, 2, *(5, 6, 4)[:axes], 3)
    flat = exact(given.reshape(2, -1, 3))
    rows = flat.shape[1]
    mean = filled((2, 3), lambda b, c: total(flat[b, i, c] for i in range(rows)) / rows)
    check(steps("global_average_pool", {"x": given}), {"output": mean})
    largest = filled((2, 3), lambda b, c: max(flat[b, i, c] for i in range(rows)))
    check(steps("global_max_pool", {"x": given}), {"output": largest}, most=0)
