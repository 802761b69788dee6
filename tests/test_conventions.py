import re
import tomllib
from importlib import resources

import pytest

from conformance.conventions import by_keyword, conventions, of_layer
from conformance.layers import get_layer, layer_names

KINDS = {"replay", "weights", "layout", "precision", "advisory"}
ROWS = tomllib.loads(resources.files("conformance").joinpath("conventions.toml").read_text(encoding="utf-8"))
ALL = list(conventions().values())
LAYERS = [name for name in layer_names() if name != "sequential"]


def test_every_row_is_read():
    assert set(ROWS) == {"convention"}
    assert [c.id for c in ALL] == [row["id"] for row in ROWS["convention"]]


@pytest.mark.parametrize("row", ROWS["convention"], ids=lambda row: row["id"])
def test_a_row_is_whole(row):
    assert set(row) <= {"id", "kind", "layers", "step", "canonical", "variants", "note", "formula", "config"}
    assert re.fullmatch(r"[a-z_]+\.[a-z-]+", row["id"])
    assert row["kind"] in KINDS
    assert row["layers"]
    assert row["canonical"]
    assert row["variants"]
    values = [v["value"] for v in row["variants"]]
    assert len(set(values)) == len(values)
    assert row["canonical"] not in values
    for variant in row["variants"]:
        assert set(variant) <= {"value", "kind", "seen", "formula"}
        assert variant.get("kind", "replay") in KINDS
        assert variant["seen"].strip()
    if isinstance(row["step"], dict):
        assert set(row["step"]) == set(row["layers"])


@pytest.mark.parametrize("convention", ALL, ids=lambda c: c.id)
def test_a_formula_tells_each_variant_from_the_canonical(convention):
    for layer in convention.layers:
        own = convention.formula(layer)
        assert set(re.findall(r"{.*?}", own)) <= {"{canonical}"}
        for variant in convention.variants:
            said = variant.formula(layer)
            assert said != own or not said
            assert said or variant.kind not in ("replay", "weights", "precision") or convention.id == "weights.mismatch"
            assert set(re.findall(r"{.*?}", said)) <= {"{canonical}", "{value}"}
            assert ("{value}" in said) == (variant.value == "<other>")
            assert max(len(own), len(said)) <= 90
            assert "  " not in own + said
            assert (own, said) == (own.strip(), said.strip())


def test_formulas_are_filled_in():
    epsilon = conventions()["norm.epsilon"]
    assert epsilon.compared("layer_norm", "0.001", "1e-05") == (
        "normalized = (x - mean) / sqrt(variance + 0.001)",
        "normalized = (x - mean) / sqrt(variance + 1e-05)",
    )
    assert epsilon.compared("rms_norm", "0.001", "1e-05")[0] == "normalized = x / sqrt(mean_square + 0.001)"
    scale = conventions()["attention.scale"]
    assert scale.compared("multi_head_attention", "0.5", "1/sqrt(head_dim)") == (
        "scaled = scores * 0.5",
        "scaled = scores / sqrt(head_dim)",
    )
    assert scale.compared("multi_head_attention", "twice", "0.5") == (
        "scaled = scores * (0.5)^2",
        "scaled = scores * 0.5",
    )
    gelu = conventions()["gelu.approximation"]
    assert gelu.compared("gelu", "none", "tanh") == gelu.compared("gelu", "tanh", "none")[::-1]
    assert conventions()["weights.mismatch"].compared("linear", "different weights", "same weights") == ("", "")


def test_ids_and_keywords_are_unique():
    assert len({c.id for c in ALL}) == len(ALL)
    assert len({c.keyword for c in ALL}) == len(ALL)
    assert all(c.keyword.isidentifier() for c in ALL)


def test_a_convention_is_found_by_its_keyword():
    assert all(by_keyword(c.keyword) is c for c in ALL)
    assert by_keyword("attention_skale") is None


@pytest.mark.parametrize("name", LAYERS)
def test_the_step_of_a_convention_is_one_of_the_layers(name):
    steps = get_layer(name).steps
    missing = {c.id: c.step(name) for c in of_layer(name) if c.step(name) not in (*steps, "*")}
    assert missing == {}


def test_a_variant_has_the_kind_of_its_convention_unless_it_says_otherwise():
    rows = {row["id"]: row for row in ROWS["convention"]}
    for convention in ALL:
        for variant, row in zip(convention.variants, rows[convention.id]["variants"], strict=True):
            assert variant.kind == row.get("kind", rows[convention.id]["kind"])
            assert (variant.value, variant.seen) == (row["value"], row["seen"])


def test_steps_that_differ_by_layer():
    orientation = conventions()["linear.kernel-orientation"]
    assert (orientation.step("linear"), orientation.step("lstm")) == ("product", "input_gate")
    assert conventions()["attention.scale"].step("multi_head_attention") == "scaled"
    assert conventions()["arithmetic.precision"].step("softmax") == "*"


def test_a_layers_conventions_are_its_own_and_those_of_all():
    found = {c.id for c in of_layer("gelu")}
    assert found == {"gelu.approximation"} | {c.id for c in ALL if "*" in c.layers}


def test_values_in_angle_brackets_stand_for_a_number_or_what_was_asked_for():
    said = {c.canonical for c in ALL} | {v.value for c in ALL for v in c.variants}
    assert {value for value in said if value.startswith("<")} <= {"<config>", "<other>", "<dtype>"}
