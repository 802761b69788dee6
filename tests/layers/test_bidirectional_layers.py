"""Recurrent layers in both directions: beside the two directions alone, in which each is held against 50 digits."""

import numpy as np
import pytest
from exact import drawn, steps

from conformance.conventions import conventions
from conformance.errors import ConformanceError
from conformance.flow import Flow
from conformance.layers import get_layer
from formula_notation import evaluated, same, sides

BOTH = {"direction": "bidirectional"}
GATES = {"lstm": 4, "gru": 3, "simple_rnn": 1}


def weights(layer, seed=0, state=2):
    width = GATES[layer] * 2
    made = {"kernel": drawn(seed + 1, 3, width), "recurrent_kernel": drawn(seed + 2, state, width)}
    return {**made, "bias": drawn(seed + 3, width)}


def states(layer, seed=0, state=2):
    made = {"initial_hidden": drawn(seed + 5, 2, state)}
    return made | {"initial_cell": drawn(seed + 6, 2, 2)} if layer == "lstm" else made


def reversed_names(given):
    return {f"reverse_{n}": array for n, array in given.items()}


X = {"x": drawn(0, 2, 4, 3)}


@pytest.mark.parametrize("layer", GATES)
def test_each_direction_is_the_layer_in_that_direction(layer):
    first, second = weights(layer), weights(layer, 10)
    from_first, from_second = states(layer), states(layer, 10)
    found = steps(layer, {**X, **from_first, **reversed_names(from_second)}, {**first, **reversed_names(second)}, BOTH)
    forward = steps(layer, {**X, **from_first}, first)
    back = steps(layer, {**X, **from_second}, second, {"direction": "reverse"})
    assert np.array_equal(found.pop("output"), np.concatenate([forward["output"], back["output"]], axis=-1))
    for prefix, alone in (("", forward), ("reverse_", back)):
        last = {"": "forward_output", "reverse_": "reverse_output"}[prefix]
        for name, value in alone.items():
            if name != "output":
                assert np.array_equal(found.pop(f"{prefix}{name}"), value)
            elif last in found:  # where it is not the hidden state by another name
                assert np.array_equal(found.pop(last), value)
    assert not found


@pytest.mark.parametrize("layer", GATES)
def test_either_initial_state_may_come_alone(layer):
    held = {**weights(layer), **reversed_names(weights(layer, 10))}
    at_rest = steps(layer, X, held, BOTH)["output"]
    given = steps(layer, {**X, **reversed_names(states(layer))}, held, BOTH)["output"]
    assert np.array_equal(given[..., :2], at_rest[..., :2])
    assert not np.array_equal(given[..., 2:], at_rest[..., 2:])


def test_a_projection_of_each_direction():
    first, second = (weights("lstm", s, state=3) | {"projection": drawn(s + 4, 2, 3)} for s in (0, 10))
    found = steps("lstm", X, {**first, **reversed_names(second)}, BOTH)["output"]
    assert np.array_equal(found[..., :3], steps("lstm", X, first)["output"])
    assert np.array_equal(found[..., 3:], steps("lstm", X, second, {"direction": "reverse"})["output"])


def test_a_convention_holds_in_both_directions():
    held = {**weights("gru"), **reversed_names(weights("gru", 10))}
    found = steps("gru", X, held, BOTH, gru_update="z*n + (1-z)*h")
    back = steps("gru", X, weights("gru", 10), {"direction": "reverse"}, gru_update="z*n + (1-z)*h")
    assert np.array_equal(found["reverse_hidden"], back["hidden"])


@pytest.mark.parametrize("value", ["concat", "sum"])
def test_the_merge_is_as_its_formula_says(value):
    convention = conventions()["rnn.bidirectional-merge"]
    held = {**weights("gru"), **reversed_names(weights("gru", 10))}
    by_config = steps("gru", X, held, {**BOTH, "merge": value})
    by_choice = steps("gru", X, held, BOTH, rnn_bidirectional_merge=value)
    here, there = convention.compared("gru", value, "concat")
    join = {"concat": lambda a, b: np.concatenate([a, b], axis=-1)}
    assert same(evaluated(sides(there if value == "concat" else here)[1], **by_config, **join), by_config["output"])
    assert np.array_equal(by_config["output"], by_choice["output"])


def test_every_variant_of_the_merge_acts_at_its_step():
    (merge,) = [s for s in get_layer("lstm", BOTH).steps.values() if "rnn_bidirectional_merge" in s.conventions]
    assert merge.name == conventions()["rnn.bidirectional-merge"].step("lstm") == "output"


def test_an_unknown_merge_is_refused():
    held = {**weights("gru"), **reversed_names(weights("gru", 10))}
    with pytest.raises(ConformanceError, match="not 'product'"):
        steps("gru", X, held, {**BOTH, "merge": "product"})


def test_a_direction_that_lacks_its_weights_is_told():
    with pytest.raises(ConformanceError, match="'reverse_kernel' of gru is missing"):
        Flow.bind(get_layer("gru", BOTH), BOTH, X, weights("gru"))
