import math

import mpmath
import numpy as np
import pytest
from exact import check, drawn, exact, filled, steps

from conformance.errors import ConformanceError


def turned(x, pairs, interleaved, turn, sign=1):
    """(a, b) -> (a cos t - b sin t, b cos t + a sin t) for every pair of features."""

    def element(b, t, h, d):
        if d >= 2 * pairs:
            return x[b, t, h, d]
        i, second = (d // 2, d % 2) if interleaved else (d % pairs, d // pairs)
        first_at, second_at = (2 * i, 2 * i + 1) if interleaved else (i, i + pairs)
        cosine, sine = mpmath.cos(turn(b, t, i)), sign * mpmath.sin(turn(b, t, i))
        one, two = x[b, t, h, first_at], x[b, t, h, second_at]
        return two * cosine + one * sine if second else one * cosine - two * sine

    return filled(x.shape, element)


@pytest.mark.parametrize("pairing", ["half-split", "interleaved"])
@pytest.mark.parametrize("dim", [None, 4])
def test_rotary_embedding_against_50_digits(pairing, dim):
    x, base = drawn(7, 2, 5, 3, 6), 100.0
    width = 6 if dim is None else dim
    pairs = width // 2

    def turn(b, t, i):
        return t * mpmath.mpf(base) ** (mpmath.mpf(-2 * i) / width)

    reference = {
        "angles": filled((5, pairs), lambda t, i: turn(0, t, i)),
        "rotated": turned(exact(x), pairs, pairing == "interleaved", turn),
    }
    check(steps("rotary_embedding", {"x": x}, config={"base": base, "dim": dim, "pairing": pairing}), reference)


def test_positions_are_taken_as_they_are_given():
    x, positions = drawn(8, 2, 3, 1, 4), np.array([[0, 2, 7], [5, 1, 0]])

    def turn(b, t, i):
        return int(positions[b, t]) * mpmath.mpf(10000) ** (mpmath.mpf(-2 * i) / 4)

    reference = {
        "angles": filled((2, 3, 2), turn),
        "rotated": turned(exact(x), 2, False, turn),
    }
    check(steps("rotary_embedding", {"x": x, "positions": positions}), reference, most=16)  # angles up to 7


QUARTER = {"x": np.array([[[[1.0, 2.0, 3.0, 4.0]]]]), "positions": np.array([1])}
ANGLE = 0.01  # of the second pair, with base 10000 and four features


def rotated_by(first, second):
    (a, b), (c, d) = first, second
    cos, sin, low_cos, low_sin = math.cos(1), math.sin(1), math.cos(ANGLE), math.sin(ANGLE)
    return (a * cos - b * sin, b * cos + a * sin), (c * low_cos - d * low_sin, d * low_cos + c * low_sin)


def close(found, expected):
    return np.abs(found.ravel() - expected).max() <= 16 * 2**-53


def test_half_split_by_hand():
    (a, b), (c, d) = rotated_by((1, 3), (2, 4))
    assert close(steps("rotary_embedding", QUARTER)["rotated"], [a, c, b, d])


def test_the_conventions_of_pairing_direction_and_base():
    (a, b), (c, d) = rotated_by((1, 2), (3, 4))
    assert close(steps("rotary_embedding", QUARTER, rope_pairing="interleaved")["rotated"], [a, b, c, d])
    cos, sin, low_cos, low_sin = math.cos(1), math.sin(1), math.cos(ANGLE), math.sin(ANGLE)
    back = [cos + 3 * sin, 2 * low_cos + 4 * low_sin, 3 * cos - sin, 4 * low_cos - 2 * low_sin]
    assert close(steps("rotary_embedding", QUARTER, rope_direction="-sin")["rotated"], back)
    assert close(steps("rotary_embedding", QUARTER, rope_base="400")["angles"], [1, 1 / 20])
    assert close(steps("rotary_embedding", QUARTER, rope_base=25)["angles"], [1, 1 / 5])
    assert close(steps("rotary_embedding", QUARTER, config={"base": 400.0})["angles"], [1, 1 / 20])


def test_an_unknown_pairing_is_refused():
    with pytest.raises(ConformanceError, match="'neox'"):
        steps("rotary_embedding", QUARTER, config={"pairing": "neox"})
