import math

import mpmath
import numpy as np
import pytest
from exact import check, exact, filled, steps

from conformance.errors import ConformanceError
from conformance.layers.activation import activate

X = np.concatenate([np.linspace(-6, 6, 49), [1e-8, -1e-300, 30.0, -30.0, 0.0]]).reshape(6, 9)

FORMS = {
    "none": lambda x: x / 2 * (1 + mpmath.erf(x / mpmath.sqrt(2))),
    "tanh": lambda x: x / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3))),
    "sigmoid": lambda x: x / (1 + mpmath.exp(-mpmath.mpf("1.702") * x)),
}


@pytest.mark.parametrize("form", FORMS)
def test_gelu_against_50_digits(form):
    reference = filled(X.shape, lambda *i: FORMS[form](exact(X)[i]))
    check(steps("gelu", {"x": X}, config={"approximation": form}), {"output": reference})


@pytest.mark.parametrize("asked", FORMS)
@pytest.mark.parametrize("used", FORMS)
def test_the_convention_overrides_the_config(asked, used):
    found = steps("gelu", {"x": X}, config={"approximation": asked}, gelu_approximation=used)["output"]
    assert np.array_equal(found, steps("gelu", {"x": X}, config={"approximation": used})["output"])


def test_by_hand():
    found = steps("gelu", {"x": np.array([0.0, 1.0, -1.0])})["output"]
    # The normal distribution's value at one, Abramowitz and Stegun, table 26.1
    assert np.abs(found - [0, 0.84134474606854, -0.15865525393146]).max() < 1e-14


def test_the_approximations_are_as_far_off_as_is_known():
    x = np.linspace(-5, 5, 2001)
    plain = steps("gelu", {"x": x})["output"]
    off = {form: np.abs(steps("gelu", {"x": x}, gelu_approximation=form)["output"] - plain).max() for form in FORMS}
    assert off["none"] == 0
    assert 4.7e-4 < off["tanh"] < 4.8e-4  # spd#624
    assert 0.0203 < off["sigmoid"] < 0.0204


def test_an_unknown_form_is_refused():
    with pytest.raises(ConformanceError, match="no approximation 'erf'"):
        steps("gelu", {"x": X}, config={"approximation": "erf"})


BY_HAND = {
    "tanh": [-math.tanh(2), 0, math.tanh(2)],
    "sigmoid": [1 / (1 + math.exp(2)), 0.5, 1 / (1 + math.exp(-2))],
    "hard_sigmoid": [-2 / 6 + 0.5, 0.5, 2 / 6 + 0.5],
    "hard_sigmoid_fifth": [-0.4 + 0.5, 0.5, 0.9],
    "relu": [0, 0, 2],
    "linear": [-2, 0, 2],
}


@pytest.mark.parametrize("name", BY_HAND)
def test_activations_by_name(name):
    assert np.abs(activate(name, np.array([-2.0, 0.0, 2.0])) - BY_HAND[name]).max() <= 2**-53


def test_hard_sigmoids_are_cut_where_they_say():
    x = np.array([-3.0, 3.0, -2.5, 2.5, -100.0, 100.0])
    assert activate("hard_sigmoid", x)[[0, 1, 4, 5]].tolist() == [0, 1, 0, 1]
    assert activate("hard_sigmoid_fifth", x)[2:].tolist() == [0, 1, 0, 1]


def test_an_unknown_activation_is_refused_with_the_nearest():
    with pytest.raises(ConformanceError, match="did you mean 'sigmoid'"):
        activate("sigmiod", X)


def test_the_sigmoid_does_not_overflow():
    with np.errstate(over="raise"):
        found = activate("sigmoid", np.array([-800.0, 800.0, -np.inf, np.inf]))
    assert found.tolist() == [0, 1, 0, 1]
