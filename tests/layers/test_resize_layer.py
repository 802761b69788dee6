"""Resizing against values by hand, published figures, and sums of 50 digits over every element of the input."""

from fractions import Fraction

import mpmath
import numpy as np
import pytest
from exact import drawn, exact, filled, steps, total, units

from conformance.errors import ConformanceError

LINE = np.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1)


def run(x, **config):
    conventions = {k: config.pop(k) for k in list(config) if k.startswith("resize_")}
    return steps("resize", {"x": x}, {}, config, **conventions)


def row(x, **config):
    return run(x, **config)["output"].ravel().tolist()


# ---------------------------------------------------------------------------------------- coordinates
@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ("half-pixel", [-0.25, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25]),
        ("asymmetric", [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]),
        ("align-corners", [3 * j / 7 for j in range(8)]),
    ],
)
def test_where_the_elements_of_twice_as_large_a_line_lie(frame, expected):
    found = run(LINE, size=8, coordinates=frame)["coordinates"]
    assert found.shape == (8, 1)
    assert found.ravel() == pytest.approx(expected)
    assert run(LINE, size=8, resize_coordinates=frame)["coordinates"].ravel() == pytest.approx(expected)


def test_coordinates_of_an_image_are_one_for_each_axis():
    found = run(drawn(0, 1, 4, 6, 2), size=[2, 3])["coordinates"]
    assert found.shape == (2, 3, 2)
    assert found[:, 0, 0].tolist() == [0.5, 2.5]
    assert found[0, :, 1].tolist() == [0.5, 2.5, 4.5]


def test_a_scale_is_taken_as_it_is_written():
    """1.7 times 4 elements are 6.8, of which 6 come out: their coordinates are those of 6.8."""
    given = run(LINE, scale=1.7)["coordinates"].ravel()
    assert given == pytest.approx([(j + 0.5) / 1.7 - 0.5 for j in range(6)])
    other = run(LINE, scale=1.7, resize_scale="recomputed")["coordinates"].ravel()
    assert other == pytest.approx([(j + 0.5) * 4 / 6 - 0.5 for j in range(6)])
    # 0.29 * 100 is 28.999999999999996 in floating point.
    assert run(np.ones((1, 100, 1)), scale=0.29)["output"].shape == (1, 29, 1)


# -------------------------------------------------------------------------------------------- nearest
@pytest.mark.parametrize(
    ("how", "expected"), [("half-up", [2, 4]), ("half-down", [1, 3]), ("floor", [1, 3]), ("ceil", [2, 4])]
)
def test_which_of_two_neighbours_that_are_as_near_is_taken(how, expected):
    assert row(LINE, size=2, nearest_rounding=how) == expected  # 0.5 and 2.5
    assert row(LINE, size=2, resize_nearest_rounding=how) == expected


def test_nearest_elements_of_pytorchs_two_modes():
    """torch 2: nearest gives [1, 1, 2, 3, 3, 4] for six of four, and nearest-exact [1, 2, 2, 3, 4, 4]."""
    assert row(LINE, size=6, coordinates="asymmetric", nearest_rounding="floor") == [1, 1, 2, 3, 3, 4]
    assert row(LINE, size=6) == [1, 2, 2, 3, 4, 4]


def test_the_element_is_told_in_integers():
    """floor(j * (in / out)) in float64 is another element for many sizes; j * in // out never is."""
    for inside, count in ((49, 98), (93, 31), (7, 187), (103, 206), (58, 29), (61, 183)):
        x = np.arange(float(inside)).reshape(1, -1, 1)
        found = row(x, size=count, coordinates="asymmetric", nearest_rounding="floor")
        assert found == [j * inside // count for j in range(count)]


# ------------------------------------------------------------------------------- bilinear and bicubic
def test_bilinear_by_hand():
    assert row(LINE, size=8, mode="bilinear") == [1, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75, 4]
    assert row(LINE, size=8, mode="bilinear", coordinates="asymmetric") == [1, 1.5, 2, 2.5, 3, 3.5, 4, 4]
    assert row(LINE, size=7, mode="bilinear", coordinates="align-corners") == [1, 1.5, 2, 2.5, 3, 3.5, 4]
    assert row(LINE, size=1, mode="bilinear", coordinates="align-corners") == [1]


def test_the_published_example_of_a_cubic_resize():
    """ONNX, Operators.md, Resize: resize_upsample_scales_cubic and its forms, first rows."""
    x = np.arange(1.0, 17.0).reshape(1, 4, 4, 1)
    first = run(x, scale=2, mode="bicubic")["output"][0, 0, :, 0]
    figures = [0.47265625, 0.76953125, 1.24609375, 1.875, 2.28125, 2.91015625, 3.38671875, 3.68359375]
    assert first == pytest.approx(figures, abs=1e-8)
    excluded = run(x, scale=2, mode="bicubic", cubic_coefficient=-0.5, outside="excluded")["output"][0, 0, :, 0]
    figures = [0.55882353, 0.81494204, 1.35698249, 1.89705882, 2.39705882, 2.93713516, 3.47917561, 3.73529412]
    assert excluded == pytest.approx(figures, abs=1e-8)


def test_a_straight_line_stays_straight_where_the_kernel_has_its_neighbours():
    """Keys: the kernel reproduces polynomials of the second degree with -0.5, of the first with any coefficient."""
    x = np.arange(12.0)
    for power in (1, 2):
        found = run((x**power).reshape(1, -1, 1), size=24, mode="bicubic", cubic_coefficient=-0.5)
        at, made = found["coordinates"].ravel(), found["output"].ravel()
        inner = (at > 1) & (at < 10)
        assert made[inner] == pytest.approx(at[inner] ** power)


def kernel(mode, a, t):
    t = abs(t)
    if mode == "bilinear":
        return max(1 - t, mpmath.mpf(0))
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else mpmath.mpf(0)


@pytest.mark.parametrize("count", [3, 5, 9, 13])
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("outside", ["edge", "excluded"])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_the_sum_over_every_element(mode, outside, antialias, count):
    inside, a = 7, mpmath.mpf("-0.75")
    x = drawn(3, 2, inside, 3)
    stretch = max(Fraction(inside, count), Fraction(1)) if antialias else Fraction(1)

    def element(b, j, c):
        at = Fraction(2 * j + 1, 2) * Fraction(inside, count) - Fraction(1, 2)
        reach = range(-9, inside + 9) if outside == "edge" else range(inside)
        pairs = []
        for i in reach:
            t = (i - at) / stretch
            pairs.append((kernel(mode, a, mpmath.mpf(t.numerator) / t.denominator), min(max(i, 0), inside - 1)))
        whole = total(w for w, _ in pairs)
        return total(w * exact(x)[b, i, c] for w, i in pairs if w) / whole

    found = run(x, size=count, mode=mode, outside=outside, antialias=antialias)["output"]
    assert units(found, filled((2, count, 3), element)) < 20


def test_weights_of_a_table_are_those_of_rounded_distances():
    """8 of 7: all lie at multiples of 1/16, which is 64/1024; of 10, the first at -0.15: 0.85 is 870/1024."""
    x = drawn(1, 1, 7, 2)
    eighth = {"size": 8, "mode": "bicubic"}
    assert np.array_equal(run(x, **eighth)["output"], run(x, **eighth, resize_cubic_table="1024")["output"])
    tenth = {"size": 10, "mode": "bicubic"}
    exact_row, table_row = (run(x, **tenth, resize_cubic_table=t)["output"] for t in ("exact", "1024"))
    t, a = 870 / 1024, -0.75
    near, far = ((a + 2) * d**3 - (a + 3) * d**2 + 1 for d in (1 - t, t))
    outer, outest = (a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a for d in (1 + t, 2 - t))
    first = (outer + far) * x[0, 0] + near * x[0, 0] + outest * x[0, 1]
    assert table_row[0, 0] == pytest.approx(first)
    assert not np.allclose(exact_row[0, 0], first, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "size"),
        ({"size": 3, "scale": 2}, "size"),
        ({"size": [3, 4]}, "axes"),
        ({"size": 3, "mode": "lanczos"}, "mode"),
        ({"size": 3, "coordinates": "corners"}, "coordinates"),
        ({"size": 3, "nearest_rounding": "up"}, "nearest_rounding"),
        ({"size": 3, "mode": "bilinear", "outside": "zero"}, "outside"),
    ],
)
def test_what_is_not_said_or_not_known_is_refused(config, said):
    with pytest.raises(ConformanceError, match=said):
        run(LINE, **config)
