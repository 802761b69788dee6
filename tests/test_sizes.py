"""Sizes of named axes, and inputs that are generated from them."""

from __future__ import annotations

import numpy as np
import pytest

from conformance import sizes
from conformance.layers import get_layer
from conformance.precision import precision

SINGLE = precision("float32")


@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [
        ("channel hdim", (12, 8), {"channel": 12, "hdim": 8}),
        ("in 4*unit", (5, 12), {"in": 5, "unit": 3}),
        ("in 4*unit", (5, 13), None),
        ("window_height window_width in/groups out", (3, 2, 4, 6), {"in": 8, "out": 6}),
        ("*batch in", (2, 3, 5), {"*batch": (2, 3), "in": 5}),
        ("channel hdim", (12, 8, 1), None),
    ],
)
def test_axes_are_solved_for(axes: str, shape: tuple[int, ...], expected: dict[str, object] | None) -> None:
    found = sizes.unified(axes, shape, {}, {"groups": 2})
    assert (found is None) == (expected is None)
    if expected is not None:
        assert found is not None
        assert {n: found[n] for n in expected} == expected


def test_a_size_that_contradicts_does_not_fit() -> None:
    assert sizes.unified("channel hdim", (12, 8), {"channel": 11}, {}) is None
    assert sizes.unified("square square", (3, 4), {}, {}) is None


@pytest.mark.parametrize(
    ("layer", "weights", "config", "shapes"),
    [
        ("linear", {"kernel": (5, 7)}, {}, {"x": (2, 5, 5)}),
        ("layer_norm", {"scale": (3, 4)}, {"axes": 2}, {"x": (2, 5, 3, 4)}),
        ("lstm", {"kernel": (6, 16), "recurrent_kernel": (4, 16)}, {}, {"x": (2, 5, 6)}),
        ("conv2d", {"kernel": (3, 3, 4, 6)}, {"groups": 2}, {"x": (2, 11, 13, 8)}),
        (
            "multi_head_attention",
            {"query_kernel": (12, 8), "key_kernel": (12, 8), "value_kernel": (12, 8)},
            {},
            {"query_input": (2, 5, 12)},
        ),
        (
            "multi_head_attention",  # keys of another width cannot be the query's input
            {"query_kernel": (12, 8), "key_kernel": (10, 8), "value_kernel": (10, 8)},
            {},
            {"query_input": (2, 5, 12), "key_input": (2, 7, 10), "value_input": (2, 7, 10)},
        ),
        (
            "scaled_dot_product_attention",
            {},
            {"kv_heads": None},
            {"query": (2, 3, 5, 8), "key": (2, 3, 7, 8), "value": (2, 3, 7, 8)},
        ),
    ],
)
def test_inputs_are_generated_to_fit(
    layer: str, weights: dict[str, tuple[int, ...]], config: dict[str, object], shapes: dict[str, tuple[int, ...]]
) -> None:
    settled = sizes.of_weights(get_layer(layer), {n: np.zeros(s) for n, s in weights.items()}, config)
    made = sizes.generated(get_layer(layer), settled, config, SINGLE)
    assert {n: a.shape for n, a in made.items()} == shapes
    again = sizes.generated(get_layer(layer), settled, config, SINGLE)
    assert all(np.array_equal(made[n], again[n]) and np.isfinite(made[n]).all() for n in made)


def test_rows_of_a_norm_have_small_and_usual_deviations() -> None:
    made = sizes.generated(get_layer("layer_norm"), {"*axes": (200,)}, {}, SINGLE)["x"]
    deviations = made.std(-1).ravel()
    assert deviations.min() < 0.02
    assert deviations.max() > 0.5


def test_positions_are_counted_and_what_has_no_inputs_is_given_none() -> None:
    made = sizes.generated(get_layer("sinusoidal_position"), {}, {"dim": 4}, SINGLE)
    assert made["positions"].tolist() == list(range(13))
    assert sizes.generated(get_layer("alibi"), {}, {}, SINGLE) == {}


def test_what_is_not_projected_is_as_wide_as_what_it_is_added_to() -> None:
    made = sizes.generated(get_layer("additive_attention"), {"dim": 6}, {}, SINGLE)
    assert {n: a.shape[-1] for n, a in made.items()} == {"query": 6, "value": 6}
    wide = sizes.generated(
        get_layer("additive_attention"), {"dim": 6, "query_channel": 5, "key_channel": 9}, {}, SINGLE
    )
    assert {n: a.shape[-1] for n, a in wide.items()} == {"query": 5, "value": 9}
