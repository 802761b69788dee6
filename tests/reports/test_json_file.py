import json

import jsonschema
import msgspec
from sample_runs import case, every_status, hostile, run_of

from conformance.result import Run
from conformance_reports.json_file import render
from conformance_reports.json_schema import FILE, schema


def test_the_fields_are_those_of_the_contract() -> None:
    written = json.loads(render(run_of(case("diverges", 9.0))))
    assert {"schema", "conformance", "environment", "started", "seconds", "summary", "cases"} | {"command"} == set(
        written
    )
    (one,) = written["cases"]
    assert {
        *("layer", "fixture", "adapter", "mode", "dtype", "device", "status", "culprit", "culprit_until"),
        *("seconds", "message", "layouts", "diagnosis", "steps"),
    } <= set(one)
    assert one["diagnosis"][0] == {
        "convention": "attention.scale",
        "value": "1",
        "canonical": "1/sqrt(head_dim)",
        "step": "scaled",
        "explains": True,
        "equivalent": ["attention.softcap = 7"],
        "sentence": "the scores are not divided",
        "formula": "scaled = scores",
        "canonical_formula": "scaled = scores / sqrt(head_dim)",
        "seen": "tutorial layers",
    }
    assert one["steps"][1]["found"] == {
        "operation": "aten.bmm.default",
        "position": 23,
        "axes": "batch query key head",
    }
    assert one["steps"][1]["isolated"] == {"ratio": 9.0, "max_abs": 2.31, "max_rel": 0.5, "at": [0, 3, 1, 2]}
    assert written["schema"] == 1
    assert written["summary"] == {"diverges": 1}


def test_infinity_is_a_string_since_json_has_none() -> None:
    written = render(run_of(case("diverges", "inf")))
    assert b'"ratio": "inf"' in written
    assert b"Infinity" not in written


def test_reading_gives_the_run_again() -> None:
    run = every_status()
    assert msgspec.json.decode(render(run), type=Run) == run


def test_the_order_of_mappings_does_not_show() -> None:
    run = every_status()
    turned = msgspec.structs.replace(
        run,
        environment=dict(reversed(run.environment.items())),
        summary=dict(reversed(run.summary.items())),
    )
    assert list(run.environment) != list(turned.environment)
    assert render(turned) == render(run)


def test_it_is_indented_and_ends_its_last_line() -> None:
    written = render(every_status()).decode()
    assert written.startswith('{\n "schema": 1,\n')
    assert written.endswith("}\n")


def test_the_published_schema_is_current() -> None:
    assert FILE.read_bytes() == schema(), "run `python -m conformance_reports.json_schema`"


def test_runs_are_valid_by_the_published_schema() -> None:
    published = json.loads(FILE.read_bytes())
    jsonschema.Draft202012Validator.check_schema(published)
    validator = jsonschema.Draft202012Validator(published)
    for run in (every_status(), hostile(), run_of(), run_of(case("diverges", "inf"))):
        validator.validate(json.loads(render(run)))


def test_the_published_schema_refuses_what_is_wrong() -> None:
    validator = jsonschema.Draft202012Validator(json.loads(FILE.read_bytes()))
    written = json.loads(render(run_of(case("diverges", 9.0))))
    for break_it in (
        lambda r: r["cases"][0].update(status="fine"),
        lambda r: r["cases"][0].pop("culprit"),
        lambda r: r["cases"][0]["steps"][0]["isolated"].update(ratio="large"),
        lambda r: r.update(schema=2),
        lambda r: r["summary"].update(good=1),
    ):
        broken = json.loads(json.dumps(written))
        break_it(broken)
        assert not validator.is_valid(broken)


def test_what_json_cannot_hold_is_escaped() -> None:
    written = render(run_of(case("error", message="no file \udc80")))
    assert json.loads(written)["cases"][0]["message"] == "no file \\udc80"
