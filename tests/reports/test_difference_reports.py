"""A diff on the terminal, as JSON and as a page."""

import io
import json
import re

import jsonschema
import msgspec
import pytest
from rich.console import Console

from conformance.difference import Difference, Figure, First, Pair, Place, Side
from conformance.report import load
from conformance_reports.json_schema import DIFFERENCE_FILE, difference_schema

OURS = Place("aten.addmm.default", 113, "layers.1.linear1", [5, 32])
PRODUCT = Place("MatMul:/layers.1/linear1/MatMul_output_0", 101, "/layers.1/linear1/MatMul", [1, 5, 32])
SUM = Place("Add:/layers.1/linear1/Add_output_0", 102, "/layers.1/linear1/Add", [1, 5, 32])
SHARED = Pair(
    Place("aten.native_layer_norm.default", 108, "layers.1.norm1", [1, 5, 16]),
    Place("LayerNormalization:n", 98, "/layers.1/norm1/LayerNormalization", [1, 16, 5]),
    0.25,
    "a b -> b a",
)
PARTS = Difference(
    environment={"torch": "2.13.0"},
    started="2026-01-01T00:00:00+00:00",
    seconds=2.5,
    a=Side("Encoder", "torch", "float32"),
    b=Side("<b>encoder.onnx", "onnxruntime", "float32"),
    inputs="x 1x5x16",
    status="parts",
    rounding="a",
    message=None,
    output=Figure("inf", "nan", 2.0, [0, 1, 2], ""),
    pairs=[SHARED],
    first=First(OURS, PRODUCT, OURS, SUM, Figure(41.5, 0.218, 0.43, [0, 3], "a b -> b a"), [SHARED]),
)
SAME = msgspec.structs.replace(PARTS, status="same", first=None, output=Figure(0.2, 1e-6, 1e-6, [0, 0, 0], ""))


def shown(found: Difference, width: int = 80) -> str:
    page = io.StringIO()
    load("terminal")(found, Console(file=page, width=width, no_color=True))
    return page.getvalue()


def sentences(text: str) -> str:
    return " ".join(text.split())


def test_the_terminal_says_where_they_part_and_by_how_much() -> None:
    told = sentences(shown(PARTS))
    assert told.startswith("The two models part at aten.addmm.default in layers.1.linear1.")
    assert "A: Encoder (torch, float32)" in told
    assert "still have aten.native_layer_norm.default in layers.1.norm1 (in B LayerNormalization in" in told
    assert "A then computes aten.addmm.default in layers.1.linear1 (operation 113, 5x32)" in told
    assert "up to Add in /layers.1/linear1/Add (operation 102, 1x5x32)" in told
    assert "B, with its axes as a b -> b a, is 42 tolerances off at [0, 3]; at most 0.218 absolute" in told
    assert "inf tolerances off" in told
    assert "1 tensor is common; rounding judged by a float64 run of A" in told


def test_the_terminal_fits_its_width() -> None:
    assert max(len(line) for line in shown(PARTS).splitlines()) <= 80
    assert max(len(line) for line in shown(PARTS, 50).splitlines()) <= 50


def test_same_is_said_in_one_sentence() -> None:
    assert shown(SAME).startswith("The two models compute the same.\n")
    assert "then computes" not in shown(SAME)


def test_a_model_that_stops_where_the_other_goes_on() -> None:
    first = First(None, SUM, None, None, None, [SHARED])
    told = sentences(shown(msgspec.structs.replace(PARTS, first=first)))
    assert told.startswith("The two models part at Add in /layers.1/linear1/Add.")
    assert "A then computes nothing that the other has not" in told


@pytest.mark.parametrize(("found", "code"), [(PARTS, 1), (SAME, 0)])
def test_the_exit_code(found: Difference, code: int) -> None:
    assert found.exit_code == code


def test_json_has_the_fields_of_the_contract_and_reads_back() -> None:
    written = load("json")(PARTS)
    fields = json.loads(written)
    assert {"schema", "pairs", "first"} <= set(fields)
    assert fields["schema"] == 1
    assert fields["output"]["ratio"] == "inf"
    assert fields["first"]["b_until"] == {
        "operation": "Add:/layers.1/linear1/Add_output_0",
        "position": 102,
        "scope": "/layers.1/linear1/Add",
        "shape": [1, 5, 32],
    }
    assert msgspec.json.decode(written, type=Difference) == PARTS


def test_the_published_schema_is_current() -> None:
    assert DIFFERENCE_FILE.read_bytes() == difference_schema(), "run `python -m conformance_reports.json_schema`"


def test_the_published_schema_takes_what_is_right_and_refuses_what_is_wrong() -> None:
    published = json.loads(DIFFERENCE_FILE.read_bytes())
    jsonschema.Draft202012Validator.check_schema(published)
    validator = jsonschema.Draft202012Validator(published)
    for found in (PARTS, SAME):
        validator.validate(json.loads(load("json")(found)))
    for break_it in (
        lambda d: d.update(status="similar"),
        lambda d: d.update(schema=2),
        lambda d: d.update(rounding="none"),
        lambda d: d["first"].pop("a"),
        lambda d: d["pairs"][0]["a"].update(position="113"),
        lambda d: d["output"].update(ratio="large"),
    ):
        broken = json.loads(load("json")(PARTS))
        break_it(broken)
        assert not validator.is_valid(broken)


def test_the_page_has_everything_and_loads_nothing() -> None:
    page = load("html")(PARTS)
    assert "The two models part at <code>aten.addmm.default</code> in <code>layers.1.linear1</code>." in page
    assert "&lt;b&gt;encoder.onnx" in page
    assert "<b>" not in page
    assert re.search(r"<td>a b -&gt; b a</td><td[^>]*>0.25</td>", page)
    assert "<script" not in page
    assert not re.search(r"(?:src|href)=\"(?!#)", page)
    assert "default-src &#39;none&#39;" in page
