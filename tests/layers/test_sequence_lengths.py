"""Sequences of several lengths: each is what it is alone, cut to its length, and zero after it."""

import numpy as np
import pytest
from exact import drawn, steps

from conformance.errors import ConformanceError
from conformance.flow import Flow
from conformance.layers import get_layer
from conformance.model import RoundingModel
from conformance.precision import PRECISIONS

LENGTHS = np.array([3, 5, 1])
WIDTHS = {"lstm": 4, "gru": 3, "simple_rnn": 1}
DIRECTIONS = ("forward", "reverse", "bidirectional")


def given(layer, direction):
    width = WIDTHS[layer] * 2
    weights = {"kernel": drawn(1, 4, width), "recurrent_kernel": drawn(2, 2, width), "bias": drawn(3, width)}
    inputs = {"x": drawn(0, 3, 5, 4), "initial_hidden": drawn(4, 3, 2)}
    if direction == "bidirectional":
        weights |= {f"reverse_{n}": -w for n, w in weights.items()}
        inputs["reverse_initial_hidden"] = drawn(5, 3, 2)
    return inputs, weights, {"direction": direction}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("layer", WIDTHS)
def test_a_sequence_is_what_it_is_alone(layer, direction):
    inputs, weights, config = given(layer, direction)
    together = steps(layer, {**inputs, "lengths": LENGTHS}, weights, config)
    for i, length in enumerate(LENGTHS):
        one = {n: a[i : i + 1] for n, a in inputs.items()}
        alone = steps(layer, {**one, "x": one["x"][:, :length]}, weights, config)
        for name, value in together.items():
            assert np.abs(value[i, :length] - alone[name][0]).max() <= 16 * 2**-53
            assert not value[i, length:].any()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_full_lengths_change_nothing(direction):
    inputs, weights, config = given("lstm", direction)
    plain = steps("lstm", inputs, weights, config)
    full = steps("lstm", {**inputs, "lengths": np.array([5, 5, 5])}, weights, config)
    assert all(np.array_equal(full[n], plain[n]) for n in plain)


def test_zeros_after_the_end_have_no_rounding():
    inputs, weights, config = given("gru", "reverse")
    flow = Flow.bind(get_layer("gru", config), config, {**inputs, "lengths": LENGTHS}, weights)
    *_, (_, output) = flow.run(RoundingModel(PRECISIONS["float32"]))
    assert output.tolerance[0, 3:].max() < 1e-30
    assert output.tolerance[0, :3].min() > 1e-10


@pytest.mark.parametrize("lengths", [np.array([3, 6, 1]), np.array([3, 0, 1]), np.array([3.0, 5.0, 1.0])])
def test_lengths_that_no_sequence_has_are_refused(lengths):
    inputs, weights, config = given("gru", "forward")
    with pytest.raises(ConformanceError, match="whole numbers from 1 to the 5 time steps"):
        steps("gru", {**inputs, "lengths": lengths}, weights, config)
