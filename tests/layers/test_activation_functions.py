"""The functions of one value against 50 digits, at the values that were published, and where they are not finite."""

import mpmath
import numpy as np
import pytest
from exact import check, exact, filled, steps

from conformance.errors import ConformanceError

X = np.concatenate([np.linspace(-8, 8, 49) + 1 / 32, [1e-8, -1e-8, 30.0, -30.0, 0.0]]).reshape(6, 9)
ONE = mpmath.mpf(1)


def clipped(x, low, high):
    return min(max(x, mpmath.mpf(low)), mpmath.mpf(high))


def exponential(x, alpha, scale=ONE):
    return scale * (x if x > 0 else alpha * mpmath.expm1(x))


# Constants of SELU to 30 digits: Klambauer et al. (2017), appendix, where mean 0 and variance 1 are kept.
ALPHA, SCALE = mpmath.mpf("1.67326324235437728481704299167"), mpmath.mpf("1.05070098735548049341933498529")
FORMULAS = {
    "relu": lambda x: max(x, 0 * ONE),
    "relu6": lambda x: clipped(x, 0, 6),
    "leaky_relu": lambda x: x if x > 0 else x * mpmath.mpf(0.01),
    "elu": lambda x: exponential(x, ONE),
    "selu": lambda x: exponential(x, ALPHA, SCALE),
    "celu": lambda x: exponential(x, ONE),
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "mish": lambda x: x * mpmath.tanh(mpmath.log(1 + mpmath.exp(x))),
    "sigmoid": lambda x: (1 + mpmath.tanh(x / 2)) / 2,
    "log_sigmoid": lambda x: mpmath.log(1 / (1 + mpmath.exp(-x))),
    "hard_sigmoid": lambda x: clipped(x + 3, 0, 6) / 6,
    "hard_silu": lambda x: x * clipped(x + 3, 0, 6) / 6,
    "tanh": lambda x: (mpmath.exp(2 * x) - 1) / (mpmath.exp(2 * x) + 1),
    "softplus": lambda x: mpmath.log(1 + mpmath.exp(x)),
    "softsign": lambda x: x / (1 + abs(x)),
}


@pytest.mark.parametrize("layer", FORMULAS)
def test_against_50_digits(layer):
    check(steps(layer, {"x": X}), {"output": filled(X.shape, lambda *i: FORMULAS[layer](exact(X)[i]))})


@pytest.mark.parametrize("layer", FORMULAS)
def test_small_arguments_lose_no_digits(layer):
    x = np.array([1e-12, -1e-12, 3e-7, -3e-7])
    reference = [FORMULAS[layer](mpmath.mpf(float(v))) for v in x]
    found = steps(layer, {"x": x})["output"]
    assert [float(abs(f - r)) <= 8 * 2**-53 * float(abs(r)) for f, r in zip(found, reference, strict=True)] == [
        True
    ] * 4


@pytest.mark.parametrize("alpha", [0.3, 2.5])
def test_alpha(alpha):
    wide = mpmath.mpf(alpha)
    of = {"elu": lambda x: exponential(x, wide), "celu": lambda x: x if x > 0 else wide * mpmath.expm1(x / wide)}
    for layer, formula in of.items():
        reference = filled(X.shape, lambda *i, f=formula: f(exact(X)[i]))
        check(steps(layer, {"x": X}, config={"alpha": alpha}), {"output": reference})
        named = steps(layer, {"x": X}, elu_alpha=str(alpha))["output"]
        assert np.array_equal(named, steps(layer, {"x": X}, config={"alpha": alpha})["output"])


BY_HAND = {  # at -2, -0.5, 0, 1 and 7
    "relu": [0, 0, 0, 1, 7],
    "relu6": [0, 0, 0, 1, 6],
    "leaky_relu": [-0.02, -0.005, 0, 1, 7],
    "hard_sigmoid": [1 / 6, 2.5 / 6, 0.5, 4 / 6, 1],
    "hard_silu": [-2 / 6, -1.25 / 6, 0, 4 / 6, 7],
    "softsign": [-2 / 3, -1 / 3, 0, 0.5, 7 / 8],
    # Abramowitz and Stegun, table 4.4: exp(-2) = 0.13533 52832, exp(-0.5) = 0.60653 06597
    "elu": [-0.8646647168, -0.3934693403, 0, 1, 7],
    "celu": [-0.8646647168, -0.3934693403, 0, 1, 7],
    # table 4.15: tanh(2) = 0.96402 758, tanh(0.5) = 0.46211 716, tanh(1) = 0.76159 416
    "tanh": [-0.96402758, -0.46211716, 0, 0.76159416, 0.99999834],
    "sigmoid": [1 / (1 + 7.3890560989), 0.3775406688, 0.5, 0.7310585786, 0.9990889488],
    # log 2 at zero, and as ln(1 + e) = 1.3132616875
    "softplus": [0.1269280110, 0.4740769841, 0.6931471806, 1.3132616875, 7.0009114665],
    "log_sigmoid": [-2.1269280110, -0.9740769841, -0.6931471806, -0.3132616875, -0.0009114665],
}


@pytest.mark.parametrize("layer", BY_HAND)
def test_by_hand(layer):
    found = steps(layer, {"x": np.array([-2.0, -0.5, 0.0, 1.0, 7.0])})["output"]
    assert np.abs(found - BY_HAND[layer]).max() <= 6e-9


LIMITS = {  # at minus infinity and infinity
    "relu": (0, np.inf),
    "relu6": (0, 6),
    "leaky_relu": (-np.inf, np.inf),
    "elu": (-1, np.inf),
    "celu": (-1, np.inf),
    "selu": (-1.7580993408473766, np.inf),
    "sigmoid": (0, 1),
    "log_sigmoid": (-np.inf, 0),
    "hard_sigmoid": (0, 1),
    "tanh": (-1, 1),
    "softplus": (0, np.inf),
    "silu": (np.nan, np.inf),
    "mish": (np.nan, np.inf),
    "hard_silu": (np.nan, np.inf),
}


@pytest.mark.parametrize("layer", LIMITS)
def test_what_is_not_finite(layer):
    """NaN stays NaN; a product of infinity and zero is none of the limits, it is NaN."""
    with np.errstate(over="raise", invalid="ignore"):
        found = steps(layer, {"x": np.array([-np.inf, np.inf, np.nan])})["output"]
    assert np.array_equal(found, [*LIMITS[layer], np.nan], equal_nan=True)


@pytest.mark.parametrize("layer", ["sigmoid", "log_sigmoid", "softplus", "silu", "mish", "elu", "selu", "celu", "tanh"])
def test_nothing_overflows(layer):
    with np.errstate(over="raise", invalid="raise"):
        found = steps(layer, {"x": np.array([-1e3, -800.0, 800.0, 1e3])})["output"]
    assert np.isfinite(found).all()
    if layer == "log_sigmoid":
        assert found.tolist() == [-1000, -800, 0, 0]


def test_selu_keeps_mean_and_variance():
    """Of a normal distribution, by quadrature: that is what its two numbers are for."""
    nodes, weights = np.polynomial.legendre.leggauss(400)
    mean = square = 0.0
    for low, high in ((-12.0, 0.0), (0.0, 12.0)):  # smooth on either side of zero
        x = (high - low) / 2 * nodes + (high + low) / 2
        density = weights * (high - low) / 2 * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
        y = steps("selu", {"x": x})["output"]
        mean, square = mean + (density * y).sum(), square + (density * y**2).sum()
    assert abs(mean) < 1e-13
    assert abs(square - 1) < 1e-13


def test_the_slope_of_a_hard_sigmoid():
    x = np.array([-3.0, -2.5, -1.0, 0.0, 1.0, 2.5, 3.0])
    assert steps("hard_sigmoid", {"x": x})["output"] == pytest.approx([0, 1 / 12, 1 / 3, 0.5, 2 / 3, 11 / 12, 1])
    found = steps("hard_sigmoid", {"x": x}, hard_sigmoid_form="0.2x+0.5")["output"]
    assert found == pytest.approx([0, 0, 0.3, 0.5, 0.7, 1, 1])


def test_softplus_with_a_threshold_is_off_above_it():
    x = np.array([19.9, 20.0, 20.1, 22.0, 40.0])
    off = (
        steps("softplus", {"x": x})["output"]
        - steps("softplus", {"x": x}, softplus_threshold="linear-above-20")["output"]
    )
    assert off[:2].tolist() == [0, 0]
    assert off[2:4] == pytest.approx(np.exp(-x[2:4]), rel=1e-4)  # log(1 + exp(x)) - x
    assert off[4] == 0  # less than half a unit of the last digit


@pytest.mark.parametrize("slope", [0.01, 0.3, 1.5, -0.5])
def test_the_slope_of_a_leaky_relu(slope):
    x = np.array([-4.0, -1.0, 0.0, 3.0])
    found = steps("leaky_relu", {"x": x}, config={"slope": slope})["output"]
    assert found.tolist() == [-4 * slope, -slope, 0, 3]
    assert np.array_equal(found, steps("leaky_relu", {"x": x}, leaky_relu_slope=str(slope))["output"])


def test_a_slope_for_each_channel_or_one_for_all():
    x = np.array([[[-1.0, -1.0, -2.0], [1.0, -3.0, 0.0]]])
    found = steps("prelu", {"x": x}, {"slope": np.array([0.5, -2.0, 0.25])})["output"]
    assert found.tolist() == [[[-0.5, 2.0, -0.5], [1.0, 6.0, 0.0]]]
    one = steps("prelu", {"x": x}, {"slope": np.array([0.1])})["output"]
    assert one.tolist() == steps("leaky_relu", {"x": x}, config={"slope": 0.1})["output"].tolist()
    whole = steps("prelu", {"x": x}, {"slope": np.arange(6.0).reshape(2, 3)})["output"]
    assert whole.tolist() == [[[0, -1, -4], [1, -12, 0]]]


def test_slopes_that_do_not_fit_are_refused():
    with pytest.raises(ConformanceError, match=r"'output' cannot be computed from x 2x3, slope 2"):
        steps("prelu", {"x": np.ones((2, 3))}, {"slope": np.ones(2)})
    with pytest.raises(ConformanceError, match="slope 4x2x3"):  # it would make more of x than there is
        steps("prelu", {"x": np.ones((2, 3))}, {"slope": np.ones((4, 2, 3))})
