import math

import mpmath
import numpy as np
import pytest
from exact import check, drawn, exact, filled, steps, total

from conformance.errors import ConformanceError

B, T, IN, H, P = 2, 4, 3, 2, 3


def sigmoid(x):
    return 1 / (1 + mpmath.exp(-x))


def hard_sigmoid(x):
    return min(max(x / 6 + mpmath.mpf("0.5"), mpmath.mpf(0)), mpmath.mpf(1))


FUNCTIONS = {
    "tanh": mpmath.tanh,
    "sigmoid": sigmoid,
    "hard_sigmoid": hard_sigmoid,
    "relu": lambda x: max(x, mpmath.mpf(0)),
    "linear": lambda x: x,
}


def reference(inputs, weights, *, reverse=False, activation="tanh", recurrent_activation="sigmoid"):
    """Gers, Schmidhuber, Cummins (2000) with Sak, Senior, Beaufays (2014)'s projection, one number at a time."""
    x, kernel, recurrent = (exact(a) for a in (inputs["x"], weights["kernel"], weights["recurrent_kernel"]))
    unit = kernel.shape[1] // 4
    state = recurrent.shape[0]
    names = ["input_gate", "forget_gate", "cell_candidate", "output_gate", "cell", "hidden", "output"]
    made = {n: filled((B, T, state if n == "output" else unit), lambda *_: None) for n in names}
    before_h = exact(inputs.get("initial_hidden", np.zeros((B, state))))
    before_c = exact(inputs.get("initial_cell", np.zeros((B, unit))))
    act, gated = FUNCTIONS[activation], FUNCTIONS[recurrent_activation]

    for t in reversed(range(T)) if reverse else range(T):
        for b in range(B):
            for number, name in enumerate(names[:4]):
                for u in range(unit):
                    column = number * unit + u
                    inner = total(x[b, t, i] * kernel[i, column] for i in range(x.shape[2]))
                    inner += total(before_h[b, s] * recurrent[s, column] for s in range(state))
                    if "bias" in weights:
                        inner += mpmath.mpf(float(weights["bias"][column]))
                    made[name][b, t, u] = act(inner) if name == "cell_candidate" else gated(inner)
            for u in range(unit):
                gates = [made[n][b, t, u] for n in names[:4]]
                made["cell"][b, t, u] = gates[1] * before_c[b, u] + gates[0] * gates[2]
                made["hidden"][b, t, u] = gates[3] * act(made["cell"][b, t, u])
            for s in range(state):
                made["output"][b, t, s] = (
                    made["hidden"][b, t, s]
                    if "projection" not in weights
                    else total(
                        made["hidden"][b, t, u] * mpmath.mpf(float(weights["projection"][u, s])) for u in range(unit)
                    )
                )
        before_h, before_c = made["output"][:, t], made["cell"][:, t]
    return made


def made(state=H, *, bias=True, projection=False, initial=False):
    inputs = {"x": drawn(0, B, T, IN)}
    weights = {"kernel": drawn(1, IN, 4 * H), "recurrent_kernel": drawn(2, state, 4 * H, scale=0.7)}
    if bias:
        weights["bias"] = drawn(3, 4 * H)
    if projection:
        weights["projection"] = drawn(4, H, state)
    if initial:
        inputs |= {"initial_hidden": drawn(5, B, state), "initial_cell": drawn(6, B, H)}
    return inputs, weights


CASES = {
    "plain": (made(), {}),
    "no bias": (made(bias=False), {}),
    "initial states": (made(initial=True), {}),
    "reverse": (made(initial=True), {"direction": "reverse"}),
    "projection": (made(P, projection=True, initial=True), {}),
    "projection, reverse": (made(P, projection=True), {"direction": "reverse"}),
    "hard sigmoid": (made(), {"recurrent_activation": "hard_sigmoid"}),
    "relu": (made(), {"activation": "relu"}),
}


@pytest.mark.parametrize("name", CASES)
def test_lstm_against_50_digits(name):
    (inputs, weights), config = CASES[name]
    options = {k: v for k, v in config.items() if k != "direction"}
    expected = reference(inputs, weights, reverse="direction" in config, **options)
    check(steps("lstm", inputs, weights, config), expected, most=4 * T)  # errors pass on from time to time


def test_one_initial_state_may_come_alone():
    inputs, weights = made(initial=True)
    for name in ("initial_hidden", "initial_cell"):
        given = {n: inputs[n] for n in ("x", name)}
        check(steps("lstm", given, weights), reference(given, weights), most=4 * T)


def test_an_unknown_direction_is_refused():
    inputs, weights = made()
    with pytest.raises(ConformanceError, match="'backward'"):
        steps("lstm", inputs, weights, {"direction": "backward"})


def test_an_input_without_time_steps_is_refused():
    inputs, weights = made()
    with pytest.raises(ConformanceError, match="'x' has no time steps"):
        steps("lstm", {"x": inputs["x"][:, :0]}, weights)


# -- by hand, and the conventions ---------------------------------------------------------------------------

S2, TANH1 = 1 / (1 + math.exp(-2)), math.tanh(1)
ONE = {"x": np.array([[[1.0], [0.0]]])}  # two time steps of one feature, one unit


def one_unit(i=0.0, f=0.0, g=0.0, o=0.0, bias=(0.0, 0.0, 0.0, 0.0), recurrent=(0.0, 0.0, 0.0, 0.0)):
    return {"kernel": np.array([[i, f, g, o]]), "recurrent_kernel": np.array([recurrent]), "bias": np.array(bias)}


def close(found, expected):
    return np.abs(found[0, :, 0] - expected).max() <= 8 * 2**-53


def test_by_hand():
    """Kernel 2, 0, 1, 0: the first time step opens the input gate and fills the cell, the second halves it."""
    found = steps("lstm", ONE, one_unit(i=2, g=1))
    cell = S2 * TANH1
    assert close(found["input_gate"], [S2, 0.5])
    assert close(found["forget_gate"], [0.5, 0.5])
    assert close(found["cell_candidate"], [TANH1, 0])
    assert close(found["cell"], [cell, cell / 2])
    assert close(found["output"], [math.tanh(cell) / 2, math.tanh(cell / 2) / 2])


def test_the_gates_stand_in_the_order_i_f_g_o():
    for position, name in enumerate(["input_gate", "forget_gate", "cell_candidate", "output_gate"]):
        kernel = [0.0] * 4
        kernel[position] = 1.0
        found = steps("lstm", ONE, one_unit(*kernel))
        moved = [n for n in found if n.endswith(("gate", "candidate")) and found[n][0, 0, 0] != found[n][0, 1, 0]]
        assert moved == [name]


def test_the_output_of_a_reversed_layer_is_in_the_order_of_the_input():
    found = steps("lstm", ONE, one_unit(i=2, g=1), {"direction": "reverse"})
    assert close(found["cell"], [S2 * TANH1, 0])  # the last time step comes first, and leaves nothing


def test_hidden_states_come_back_through_the_recurrent_kernel():
    found = steps("lstm", ONE, one_unit(i=2, g=1, recurrent=(0, 0, 0, 3)))
    hidden = math.tanh(S2 * TANH1) / 2
    assert close(found["output_gate"], [0.5, 1 / (1 + math.exp(-3 * hidden))])


def test_a_bias_that_is_doubled():
    bias = (1.0, 0.5, 0.25, -1.0)
    weights = one_unit(1, 1, 1, 1, bias=bias)
    found = steps("lstm", ONE, weights, lstm_bias="doubled")
    twice = steps("lstm", ONE, {**weights, "bias": 2 * weights["bias"]})
    assert all(np.array_equal(found[n], twice[n]) for n in found)
    assert close(found["input_gate"], [1 / (1 + math.exp(-3)), S2])
    without = {n: weights[n] for n in ("kernel", "recurrent_kernel")}
    plain, doubled = steps("lstm", ONE, without), steps("lstm", ONE, without, lstm_bias="doubled")
    assert np.array_equal(plain["output"], doubled["output"])


def test_a_forget_bias_that_is_added_at_run_time():
    found = steps("lstm", ONE, one_unit(i=2, f=1, g=1), lstm_forget_bias="1")
    assert close(found["forget_gate"], [S2, 1 / (1 + math.exp(-1))])
    assert close(found["input_gate"], [S2, 0.5])


def test_the_recurrent_activation_is_that_of_the_three_gates():
    """Keras 1's hard sigmoid is 0.2 x + 0.5; MATLAB's option is the same."""
    found = steps("lstm", ONE, one_unit(1, 2, 3, 4), lstm_recurrent_activation="hard_sigmoid")
    assert close(found["input_gate"], [0.7, 0.5])
    assert close(found["forget_gate"], [0.9, 0.5])
    assert close(found["cell_candidate"], [math.tanh(3), 0])
    assert close(found["output_gate"], [1, 0.5])
    asked = {"recurrent_activation": "hard_sigmoid"}
    back = steps("lstm", ONE, one_unit(1, 2, 3, 4), asked, lstm_recurrent_activation="sigmoid")
    assert close(back["input_gate"], [1 / (1 + math.exp(-1)), 0.5])
