"""GRU and the simple recurrent layer, beside 50 digits and by hand."""

import math

import mpmath
import numpy as np
import pytest
from exact import check, drawn, exact, filled, steps, total

from conformance.errors import ConformanceError

B, T, IN, H = 2, 4, 3, 2
TANH, LOGISTIC = mpmath.tanh, lambda x: 1 / (1 + mpmath.exp(-x))
FUNCTIONS = {"tanh": TANH, "relu": lambda x: max(x, mpmath.mpf(0))}


def walk(inputs, weights, names, gates, step, *, reverse=False):
    """One number at a time: `step` makes of the sums of input and state, and the state before, the new state."""
    x, kernel, recurrent = (exact(a) for a in (inputs["x"], weights["kernel"], weights["recurrent_kernel"]))
    bias, of_state = (exact(weights.get(n, np.zeros(gates * H))) for n in ("bias", "recurrent_bias"))
    made = {n: filled((B, T, H), lambda *_: None) for n in names}
    before = exact(inputs.get("initial_hidden", np.zeros((B, H))))
    for t in reversed(range(T)) if reverse else range(T):
        for b in range(B):

            def given(column, t=t, b=b):
                return total(x[b, t, i] * kernel[i, column] for i in range(IN)) + bias[column]

            def state(column, scale=lambda s: 1, b=b, before=before):
                return total(scale(s) * before[b, s] * recurrent[s, column] for s in range(H))

            for name, values in step(given, state, of_state, before[b]).items():
                made[name][b, t] = values
        before = made["output"][:, t]
    return made


def gru(inputs, weights, *, reset="after", activation="tanh", **options):
    """Cho et al. (2014), section 2.3, and the form of cuDNN's documentation, in which r multiplies the product."""

    def step(given, state, of_state, before):
        r = [LOGISTIC(given(u) + state(u) + of_state[u]) for u in range(H)]
        z = [LOGISTIC(given(H + u) + state(H + u) + of_state[H + u]) for u in range(H)]
        n = []
        for u in range(H):
            column = 2 * H + u
            if reset == "after":
                inner = r[u] * (state(column) + of_state[column])
            else:
                inner = state(column, lambda s: r[s]) + of_state[column]
            n.append(FUNCTIONS[activation](given(column) + inner))
        h = [n[u] + z[u] * (before[u] - n[u]) for u in range(H)]
        return {"reset_gate": r, "update_gate": z, "candidate": n, "hidden": h, "output": h}

    return walk(inputs, weights, ["reset_gate", "update_gate", "candidate", "hidden", "output"], 3, step, **options)


def simple(inputs, weights, *, activation="tanh", **options):
    """Elman (1990)."""

    def step(given, state, of_state, before):
        h = [FUNCTIONS[activation](given(u) + state(u)) for u in range(H)]
        return {"hidden": h, "output": h}

    return walk(inputs, weights, ["hidden", "output"], 1, step, **options)


def made(gates, *, biases=("bias",), initial=False):
    inputs = {"x": drawn(0, B, T, IN)}
    weights = {"kernel": drawn(1, IN, gates * H), "recurrent_kernel": drawn(2, H, gates * H, scale=0.7)}
    weights |= {n: drawn(seed, gates * H) for seed, n in enumerate(biases, 3)}
    return (inputs | {"initial_hidden": drawn(5, B, H)} if initial else inputs), weights


BOTH = ("bias", "recurrent_bias")
CASES = {
    "plain": (made(3, biases=BOTH), {}),
    "no bias": (made(3, biases=()), {}),
    "a bias of the state alone": (made(3, biases=BOTH[1:]), {}),
    "reverse": (made(3, biases=BOTH, initial=True), {"direction": "reverse"}),
    "reset before": (made(3, biases=BOTH, initial=True), {"reset": "before"}),
    "relu": (made(3), {"activation": "relu"}),
}
SIMPLE = {
    "plain": (made(1), {}),
    "no bias": (made(1, biases=()), {}),
    "reverse": (made(1, initial=True), {"direction": "reverse"}),
    "relu": (made(1, initial=True), {"activation": "relu"}),
}


@pytest.mark.parametrize("name", CASES)
def test_gru_against_50_digits(name):
    (inputs, weights), config = CASES[name]
    options = {k: v for k, v in config.items() if k != "direction"}
    expected = gru(inputs, weights, reverse="direction" in config, **options)
    check(steps("gru", inputs, weights, config), expected, most=4 * T)  # errors pass on from time to time


@pytest.mark.parametrize("name", SIMPLE)
def test_simple_rnn_against_50_digits(name):
    (inputs, weights), config = SIMPLE[name]
    options = {k: v for k, v in config.items() if k != "direction"}
    expected = simple(inputs, weights, reverse="direction" in config, **options)
    check(steps("simple_rnn", inputs, weights, config), expected, most=4 * T)


def test_an_unknown_reset_is_refused():
    inputs, weights = made(3)
    with pytest.raises(ConformanceError, match="not 'never'"):
        steps("gru", inputs, weights, {"reset": "never"})


# -- by hand, and the conventions: one unit, one feature, one time step, after a state of one half ----------

X = {"x": np.array([[[1.0]]]), "initial_hidden": np.array([[0.5]])}


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def one_unit(**conventions):
    """Kernel 1, 2, 0.5; recurrent kernel 2, -2, 4; biases 0.5, -0.5, 0.25 and 1, 1, -1."""
    weights = {
        "kernel": np.array([[1.0, 2.0, 0.5]]),
        "recurrent_kernel": np.array([[2.0, -2.0, 4.0]]),
        "bias": np.array([0.5, -0.5, 0.25]),
        "recurrent_bias": np.array([1.0, 1.0, -1.0]),
    }
    config = conventions.pop("config", {})
    return {n: v[0, 0, 0] for n, v in steps("gru", X, weights, config, **conventions).items()}


R, Z = sigmoid(1 + 0.5 + 2 * 0.5 + 1), sigmoid(2 - 0.5 - 2 * 0.5 + 1)


def close(found, expected):
    return abs(found - expected) <= 8 * 2**-53


def test_by_hand():
    found = one_unit()
    n = math.tanh(0.5 + 0.25 + R * (4 * 0.5 - 1))
    assert close(found["reset_gate"], R)
    assert close(found["update_gate"], Z)
    assert close(found["candidate"], n)
    assert close(found["output"], (1 - Z) * n + Z * 0.5)


def test_the_reset_before_the_product():
    n = math.tanh(0.5 + 0.25 + 4 * (R * 0.5) - 1)
    assert close(one_unit(config={"reset": "before"})["candidate"], n)
    assert close(one_unit(gru_reset="before")["candidate"], n)


def test_the_bias_of_the_state_outside_the_reset():
    found = one_unit(gru_candidate_bias="merged-outside")
    assert close(found["candidate"], math.tanh(0.5 + 0.25 - 1 + R * 4 * 0.5))


def test_the_update_the_other_way():
    found = one_unit(gru_update="z*n + (1-z)*h")
    assert close(found["output"], Z * found["candidate"] + (1 - Z) * 0.5)


def test_the_gates_in_the_order_of_keras():
    found = one_unit(gru_gate_order="z,r,n")
    assert close(found["update_gate"], R)
    assert close(found["reset_gate"], Z)


def test_the_summed_bias_in_both_places():
    found = one_unit(lstm_bias="doubled")
    assert close(found["reset_gate"], sigmoid(1 + 2 * 1.5 + 2 * 0.5))
    r = sigmoid(1 + 2 * 1.5 + 2 * 0.5)
    assert close(found["candidate"], math.tanh(0.5 - 0.75 + r * (4 * 0.5 - 0.75)))
