"""Every variant of a convention has a fixture that tells it from the canonical layer; the table can say otherwise."""

import math

import numpy as np
import pytest

from conformance import catalogue, discrimination
from conformance.conventions import Convention, Variant, of_layer
from conformance.discrimination import ENOUGH, separations
from conformance.fixture import fixtures
from conformance.layers import layer_names

TABLE = separations()

# What the shape of the output tells. Anything else that no fixture shows is a gap in the fixtures.
NOT_EXPRESSED = {(layer, "rnn.bidirectional-merge", "sum") for layer in ("lstm", "gru", "simple_rnn")}


# What no values can tell: a number of windows shows in the size of the output, and a maximum has no divisor.
NO_VALUES = {("conv1d", "conv.kernel-layout", "transposed-spatial")} | {
    (f"{kind}_pool{axes}d", "pool.ceil-mode", value)
    for axes in (1, 2, 3)
    for kind, value in (("max", "ceil"), ("max", "ceil-divisor"), ("average", "ceil"))
}


def row(found, *named):
    return next(s for s in found if (s.layer, s.convention, s.value) == named)


@pytest.mark.parametrize("found", TABLE, ids=lambda s: f"{s.layer}-{s.convention}-{s.value}")
def test_a_fixture_tells_the_variant_apart(found):
    if (found.layer, found.convention, found.value) in NOT_EXPRESSED:
        assert found.fixture is None
        assert found.why == "a sum of two directions has half the width, which tells it"
        return
    if (found.layer, found.convention, found.value) in NO_VALUES:
        assert found.fixture is None
        assert found.why in {
            "its output has another size, which tells it",
            "a maximum is divided by nothing",
            "one axis has none to be exchanged with",
        }
        return
    assert found.at_output >= 10, f"add a fixture that shows it: {found}"
    assert found.fixture in fixtures()
    assert found.dtype == "float32"  # float64 alone would do, but no variant is so small


def test_the_table_has_every_variant_of_every_layer():
    wanted = {
        (name, c.id, v.value)
        for name in layer_names()
        for c in of_layer(name)
        for v in c.variants
        if v.kind in ("replay", "weights") and c.id != "weights.mismatch" and not v.value.startswith("<")
    }
    numbers = {("layer_norm", "norm.epsilon", e) for e in ("0.001", "1e-06", "1e-12")}
    numbers |= {(layer, "rope.base", "500000.0") for layer in ("rotary_embedding", "multi_head_attention")}
    numbers |= {("sinusoidal_position", "sinusoidal.base", "1000.0")}
    numbers |= {("additive_attention", "additive.sharpness", "0.5")}
    numbers |= {("leaky_relu", "leaky_relu.slope", slope) for slope in ("0.3", "0.2", "0.01")}
    numbers |= {(layer, "elu.alpha", "1.0") for layer in ("elu", "celu")}
    made = [(s.layer, s.convention, s.value) for s in TABLE]
    assert set(made) >= wanted | numbers
    assert len(made) == len(set(made))
    assert not any(value.startswith("<") for _, _, value in made)
    assert made == sorted(made)


def test_without_the_fixture_that_shows_a_variant_the_table_says_so():
    all_forms = [f for f in fixtures().values() if f.id.startswith("multi-head-attention/")]
    whole, found = separations(all_forms), separations([f for f in all_forms if not f.id.endswith("/softcap")])
    gone = row(found, "multi_head_attention", "attention.softcap", "after-mask")
    assert (gone.fixture, gone.enough, gone.why) == (None, False, "no fixture shows it")
    assert sum(s.enough for s in found) == sum(s.enough for s in whole) - 1
    assert len(found) == len(TABLE)
    nothing = separations([])
    assert len(nothing) == len(TABLE)
    assert not any(s.enough for s in nothing)


def test_a_shape_that_gives_the_error_away_is_no_fixture_for_it():
    # a stride of 2 on 7 and 9 pads both sides alike; on 8 and 10 it does not, and the output is as large
    odd = separations([fixtures()["conv2d/same-upper-odd"]])
    assert row(odd, "conv2d", "conv.same-padding", "symmetric").fixture is None
    even = separations([fixtures()["conv2d/same-upper-even"]])
    shown = row(even, "conv2d", "conv.same-padding", "symmetric")
    assert (shown.step, shown.at_step, shown.enough) == ("padded", math.inf, True)  # 9x11 and 10x12
    # queries and keys of different lengths: the mask over the keys does not fit the queries
    cross = separations([fixtures()["dot-product-attention/mask"]])
    assert row(cross, "scaled_dot_product_attention", "attention.mask-axis", "query").fixture is None


def test_the_figures_are_those_of_a_calculation_by_hand():
    inputs, weights = fixtures()["conv2d/valid"].load()
    x, kernel = (a.astype(np.float32).astype(np.float64) for a in (inputs["x"], weights["kernel"]))
    patches = np.stack([x[:, i : i + 5, j : j + 6] for i in range(3) for j in range(3)], axis=3)  # of 7x8, by 3x3
    products = np.einsum("bhwkc,kco->bhwokc", patches, kernel.reshape(9, 3, 5))
    canonical, squares = products.sum((-1, -2)), np.square(products).sum((-1, -2))
    flipped = np.einsum("bhwkc,kco->bhwo", patches, kernel[::-1, ::-1].reshape(9, 3, 5))
    # DESIGN section 5: u**2 (sum p**2 + n (S**2 / 3 + sum p**2 / 2)), and eight deviations; here n is 27
    deviation = 2.0**-24 * np.sqrt(squares + 27 * (canonical**2 / 3 + squares / 2))
    wanted = (np.abs(flipped - canonical) / (8 * deviation)).max()
    found = row(separations([fixtures()["conv2d/valid"]]), "conv2d", "conv.flip", "convolution")
    assert (found.dtype, found.step) == ("float32", "convolved")
    assert found.at_step == pytest.approx(wanted, rel=1e-5)
    assert found.tolerances == found.at_output < found.at_step  # the bias adds to the tolerance


def test_float64_is_asked_where_float32_does_not_tell_enough():
    # at unit variance 1/sqrt(v + 1e-5) and 1/(sqrt(v) + 1e-5) differ by half an epsilon: 80 float32 roundings
    found = row(separations([fixtures()["layer-norm/plain"]]), "layer_norm", "norm.epsilon-placement", "outside-sqrt")
    assert found.dtype == "float64"
    assert 1e8 < found.at_output < 1e11  # as many times more as the roundoff is smaller


def test_an_output_of_nan_is_an_infinite_difference():
    nan = row(TABLE, "scaled_dot_product_attention", "attention.fully-masked-row", "nan")
    assert (nan.step, nan.at_step, nan.at_output) == ("weights", math.inf, math.inf)


def test_a_variant_that_only_a_step_shows_has_the_steps_figure():
    # softmax over the wrong axis shows in the weights; where all values are equal, not in the context
    only = discrimination.Separation("layer", "a.b", "c", "fixture", "float32", "weights", 50.0, 2.0)
    assert only.tolerances == 50
    assert only.enough
    assert discrimination.Separation("layer", "a.b", "c", "fixture", "float32", "weights", 9.0, 2.0).enough is False


def invented(value, kind="replay"):
    return Convention("gelu.colour", kind, ("gelu",), {"*": "output"}, "blue", (Variant(value, kind, "nowhere"),), "")


def test_a_variant_that_the_oracle_does_not_have_is_listed(monkeypatch):
    monkeypatch.setattr(discrimination, "of_layer", lambda layer: [invented("red")] if layer == "gelu" else [])
    assert [(s.layer, s.value, s.enough, s.why) for s in separations()] == [
        ("gelu", "red", False, "not in the oracle yet")
    ]
    monkeypatch.setattr(discrimination, "of_layer", lambda layer: [invented("red", "advisory")])
    assert separations() == []


def test_a_variant_for_any_number_needs_a_number_to_try(monkeypatch):
    slope = Convention("gelu.approximation", "replay", ("gelu",), {"*": "output"}, "none", (
        Variant("<other>", "replay", "nowhere"),), "")  # fmt: skip
    monkeypatch.setattr(discrimination, "of_layer", lambda layer: [slope] if layer == "gelu" else [])
    assert [(s.value, s.enough, s.why) for s in separations()] == [("<other>", False, "no number to try")]


def test_the_list_fits_the_screen_and_counts(monkeypatch):
    monkeypatch.setattr(discrimination, "separations", lambda: TABLE)
    lines = list(catalogue.lines("discrimination"))
    assert max(map(len, lines)) <= 80
    assert lines[0] == TABLE[0].layer
    count = " ".join(lines[-2:])
    told, layers = len(TABLE) - len(NOT_EXPRESSED | NO_VALUES), len({s.layer for s in TABLE})
    assert count.startswith(f"{told} of {len(TABLE)} variants of {layers} layers")
    cap = lines.index(" attention.softcap, seen first at softcapped")
    assert lines[cap + 1].split()[::2] == ["after-mask", "multi-head-attention/softcap"]
    assert float(lines[cap + 1].split()[1]) > ENOUGH
    gaps = [line.strip() for line in lines if "NOT TOLD APART" in line]
    assert len(gaps) == len(NOT_EXPRESSED | NO_VALUES)
    assert {gap.split()[0] for gap in gaps} == {"sum", "ceil", "ceil-divisor", "transposed-spatial"}


def test_the_list_says_in_which_dtype_and_step(monkeypatch):
    rows = [
        discrimination.Separation("gelu", "a.b", "c", "gelu/none", "float64", "output", 50.0, 40.0),
        discrimination.Separation("gelu", "a.b", "d", "gelu/none", "float32", "weights", 50.0, 2.0),
    ]
    monkeypatch.setattr(discrimination, "separations", lambda: rows)
    assert list(catalogue.lines("discrimination"))[2:4] == [
        "  c  4.0e1 gelu/none, in float64",
        "  d  5.0e1 gelu/none, at weights and not at the output",
    ]
