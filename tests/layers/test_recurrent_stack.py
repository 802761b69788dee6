"""Recurrent layers one upon another: beside the layers by themselves, each of which is held against 50 digits."""

import numpy as np
import pytest
from exact import drawn, steps

from conformance.errors import ConformanceError
from conformance.flow import Flow
from conformance.layers import get_layer
from conformance.layers.stacked import prefixes

WIDTHS = {"lstm": 4, "gru": 3, "simple_rnn": 1}
LENGTHS = np.array([3, 5, 1])


def cell(layer, seed, channels, units=2):
    """The weights and the first states of one cell."""
    width = WIDTHS[layer] * units
    weights = {"kernel": drawn(seed + 1, channels, width), "recurrent_kernel": drawn(seed + 2, units, width)}
    weights["bias"] = drawn(seed + 3, width)
    states = {"initial_hidden": drawn(seed + 4, 3, units)}
    return weights, states | ({"initial_cell": drawn(seed + 5, 3, units)} if layer == "lstm" else {})


def layers(layer, direction, *widths):
    """The weights and first states of layers of so many units, by the names that they have alone."""
    made, both = [], direction == "bidirectional"
    for k, (channels, units) in enumerate(zip((4, *(w * (1 + both) for w in widths)), widths, strict=False)):
        weights, states = cell(layer, 10 * k, channels, units)
        if both:
            back = cell(layer, 10 * k + 100, channels, units)
            weights |= {f"reverse_{n}": a for n, a in back[0].items()}
            states |= {f"reverse_{n}": a for n, a in back[1].items()}
        made.append((weights, states))
    return made


def stacked(held):
    """All of them, by the names that they have in a stack."""
    return [{f"l{k}.{n}": a for k, one in enumerate(held) for n, a in one[part].items()} for part in (0, 1)]


X = {"x": drawn(0, 3, 5, 4)}


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("layer", WIDTHS)
@pytest.mark.parametrize("given", [X, {**X, "lengths": LENGTHS}], ids=["whole", "lengths"])
def test_each_layer_reads_what_the_one_before_gives(layer, direction, given):
    held = layers(layer, direction, 2, 3, 2)
    weights, states = stacked(held)
    found = steps(layer, {**given, **states}, weights, {"layers": 3, "direction": direction})
    x = given["x"]
    for k, (own, start) in enumerate(held):
        alone = steps(layer, {**given, **start, "x": x}, own, {"direction": direction})
        for name, value in alone.items():
            assert np.array_equal(found.pop(f"l{k}.{name}"), value)
        x = alone["output"]
    assert not found


@pytest.mark.parametrize("layer", WIDTHS)
def test_a_state_that_is_not_given_is_zero(layer):
    weights, states = stacked(layers(layer, "forward", 2, 2))
    some = {n: a for n, a in states.items() if n.startswith("l1.")}
    rest = {n: np.zeros_like(a) for n, a in states.items() if n not in some}
    config = {"layers": 2}
    found, expected = (steps(layer, {**X, **some, **more}, weights, config)["l1.output"] for more in ({}, rest))
    assert np.array_equal(found, expected)
    assert not np.array_equal(found, steps(layer, X, weights, config)["l1.output"])


def test_one_layer_has_the_names_that_it_has_alone():
    assert get_layer("lstm", {"layers": 1}) is get_layer("lstm")
    assert prefixes(1) == ("",)


def test_a_projection_is_what_the_next_layer_reads():
    config = {"layers": 2}
    weights = {"l0.kernel": drawn(1, 4, 12), "l0.recurrent_kernel": drawn(2, 2, 12), "l0.projection": drawn(3, 3, 2)}
    weights |= {"l1.kernel": drawn(4, 2, 12), "l1.recurrent_kernel": drawn(5, 2, 12), "l1.projection": drawn(6, 3, 2)}
    Flow.bind(get_layer("lstm", config), config, X, weights)
    with pytest.raises(ConformanceError, match=r"'l1\.kernel' is 3x12"):
        Flow.bind(get_layer("lstm", config), config, X, {**weights, "l1.kernel": drawn(4, 3, 12)})


def test_the_sizes_of_the_layers_go_together():
    held = layers("gru", "bidirectional", 2, 2)
    weights, states = stacked(held)
    config = {"layers": 2, "direction": "bidirectional"}
    layer = get_layer("gru", config)
    assert layer.weights["l1.reverse_kernel"] == "2*l0.unit 3*l1.unit"
    with pytest.raises(ConformanceError, match=r"'l1.initial_hidden' is 1x2 .*batch is 3"):
        Flow.bind(layer, config, {**X, **states, "l1.initial_hidden": drawn(0, 1, 2)}, weights)
    added_up = {**config, "merge": "sum"}
    assert get_layer("gru", added_up).weights["l1.kernel"] == "l0.unit 3*l1.unit"


def test_a_convention_holds_in_all_layers_or_in_one():
    weights, _ = stacked(layers("gru", "forward", 2, 2))
    config, other = {"layers": 2}, "z*n + (1-z)*h"
    everywhere = steps("gru", X, weights, config, gru_update=other)
    in_the_second = steps("gru", X, weights, config, **{"l1.gru_update": other})
    plain = steps("gru", X, weights, config)
    assert np.array_equal(in_the_second["l0.output"], plain["l0.output"])
    second = {n.removeprefix("l1."): a for n, a in weights.items() if n.startswith("l1.")}
    alone = steps("gru", {"x": plain["l0.output"]}, second, gru_update=other)
    assert np.array_equal(in_the_second["l1.output"], alone["output"])
    assert not np.array_equal(everywhere["l0.output"], plain["l0.output"])


@pytest.mark.parametrize("count", [0, -1, 2.0, "2", None])
def test_a_number_of_layers_that_is_none_is_refused(count):
    with pytest.raises(ConformanceError, match="lstm has 1 or more 'layers', not"):
        get_layer("lstm", {"layers": count})
