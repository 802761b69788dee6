"""What the config asks for, of a choice that a convention is about."""

import numpy as np
import pytest

from conformance.conventions import conventions
from conformance.flow import Flow
from conformance.layers import get_layer
from conformance.variants import alternatives, asked, layer_at

X = np.zeros((1, 5, 4))
ATTENTION = {"query_input": X}, {f"{name}_kernel": np.zeros((4, 4)) for name in ("query", "key", "value")}
NETWORK = {"parts": [
    {"name": "first", "layer": "layer_norm", "config": {"epsilon": 0.001}},
    {"name": "second", "layer": "layer_norm"},
    {"name": "last", "layer": "gelu", "config": {"approximation": "tanh"}},
]}  # fmt: skip


def flow(layer: str, config: dict[str, object]) -> Flow:
    inputs, weights = {
        "multi_head_attention": ATTENTION,
        "conv2d": ({"x": np.zeros((1, 4, 4, 2))}, {"kernel": np.zeros((2, 2, 2, 2))}),
        "sequential": ({"x": X}, {}),
    }[layer]
    return Flow.bind(get_layer(layer, config), config, inputs, weights)


@pytest.mark.parametrize(
    ("layer", "config", "step", "convention", "said"),
    [
        ("multi_head_attention", {}, "scaled", "attention.scale", "1/sqrt(head_dim)"),
        ("multi_head_attention", {"scale": 1}, "scaled", "attention.scale", "1"),
        ("multi_head_attention", {"scale": 0.5}, "scaled", "attention.scale", "0.5"),
        ("multi_head_attention", {"softcap": 7.0}, "softcapped", "attention.softcap", "before-mask"),
        ("multi_head_attention", {"causal": "bottom-right"}, "masked", "attention.causal-alignment", "bottom-right"),
        ("multi_head_attention", {"rotary": True}, "rotated_query", "rope.base", "10000"),
        ("multi_head_attention", {"rotary": {"base": 5e5}}, "rotated_query", "rope.base", "500000.0"),
        ("conv2d", {"padding": "same-lower"}, "padded", "conv.same-padding", "same-lower"),
        ("conv2d", {"groups": 1}, "convolved", "conv.groups", "contiguous"),
        ("sequential", NETWORK, "first.normalized", "norm.epsilon", "0.001"),
        ("sequential", NETWORK, "second.normalized", "norm.epsilon", "1e-05"),
        ("sequential", NETWORK, "last.output", "gelu.approximation", "tanh"),
    ],
)
def test_what_was_asked_for(layer: str, config: dict[str, object], step: str, convention: str, said: str) -> None:
    assert asked(flow(layer, config), step, conventions()[convention]) == said


def test_the_layer_of_a_step_is_that_of_its_part() -> None:
    assert layer_at(flow("sequential", NETWORK), "last.output") == "gelu"
    assert layer_at(flow("conv2d", {}), "padded") == "conv2d"


def test_what_is_in_force_is_not_tried() -> None:
    assert alternatives(flow("conv2d", {"padding": "same-lower"}), "conv_same_padding") == ["same-upper", "symmetric"]
