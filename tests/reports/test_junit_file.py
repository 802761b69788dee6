"""Runs and diffs as JUnit XML."""

import unicodedata
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import msgspec
import pytest
import xmlschema
from sample_runs import case, every_status, hostile, run_of
from test_difference_reports import PARTS, SAME

from conformance.difference import Difference
from conformance.report import load
from conformance.result import Run

SCHEMA = xmlschema.XMLSchema(str(Path(__file__).with_name("junit.xsd")))
UNCLEAR = msgspec.structs.replace(SAME, status="uninformative")


def read(run: Run | Difference) -> Element:
    """The file as a parser of XML sees it, and as the schema allows it."""
    written = load("junit")(run)
    SCHEMA.validate(written)
    return ElementTree.fromstring(written.encode())


def only(root: Element) -> Element:
    (found,) = root.iter("testcase")
    return found


@pytest.mark.parametrize("run", [every_status(), hostile(), run_of(), PARTS, SAME, UNCLEAR])
def test_files_are_as_the_schema_says(run: Run | Difference) -> None:
    read(run)


def test_the_schema_refuses_what_ant_or_jenkins_would() -> None:
    for old, new in (
        ('package="conformance" ', ""),
        ("<system-err />", ""),
        ('time="0.125"', 'time="-0.125"'),
        ('timestamp="2026-01-02T03:04:05"', 'timestamp="2026-01-02T03:04:05+00:00"'),
        ("<failure", "<failed"),
        ('type="diverges"', ""),
        ("<system-out />", "<system-out /><system-out />"),
    ):
        written = load("junit")(run_of(case("diverges", 9.0)))
        assert SCHEMA.is_valid(written)
        assert old in written
        closed = written.replace("</failure", "</failed") if new == "<failed" else written
        assert not SCHEMA.is_valid(closed.replace(old, new))


def test_a_suite_per_adapter_that_counts_its_tests() -> None:
    """In two dtypes each: diverges and stale; crashed, timeout and error; two unclear, two that were not run."""
    suites = {s.get("name"): s for s in read(every_status())}
    assert list(suites) == ["keras-jax", "torch", "matlab"]
    for name in ("keras-jax", "torch"):
        told = [suites[name].get(k) for k in ("tests", "failures", "errors", "skipped")]
        assert told == ["22", "4", "6", "8"]
        assert suites[name].get("time") == "2.750"  # 22 of 0.125
    assert [s.get("id") for s in suites.values()] == ["0", "1", "2"]
    assert [suites["matlab"].get(k) for k in ("tests", "failures")] == ["1", "0"]
    properties = {p.get("name"): p.get("value") for p in suites["torch"].iter("property")}
    assert properties == {"conformance": "0.1.0", "numpy": "2.4.0", "python": "3.11.2"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("conforms", None),
        ("known-divergence", None),
        ("diverges", "failure"),
        ("stale-divergence", "failure"),
        ("crashed", "error"),
        ("timeout", "error"),
        ("error", "error"),
        ("unsupported", "skipped"),
        ("unavailable", "skipped"),
        ("uninformative", "skipped"),
        ("inconclusive", "skipped"),
    ],
)
def test_what_a_status_is_in_junit(status: str, kind: str | None) -> None:
    test = only(read(run_of(case(status))))
    assert [child.tag for child in test] == ([kind] if kind else [])
    if kind:
        assert test[0].get("type") == status
    if kind and status != "diverges":
        assert test[0].get("message") == f"The message of {status}"


def test_a_failure_tells_step_figure_cause_and_what_to_do() -> None:
    test = only(read(run_of(case("diverges", 3.1e5))))
    assert test.get("classname") == "multi_head_attention"
    assert test.get("name") == "multi-head-attention/self [torch.nn.MultiheadAttention, float32]"
    failure = test[0]
    message = failure.get("message") or ""
    assert message.startswith("Step `scaled` is off by 3.1e5 tolerances at batch 0")
    assert message.endswith("; because attention.scale = 1")
    lines = (failure.text or "").splitlines()
    assert lines[0] == "DIVERGES  multi-head-attention/self on torch, float32"
    because = lines.index("  because `attention.scale = 1`, where the layer has 1/sqrt(head_dim)")
    assert lines[because + 1 : because + 3] == [
        "    here:      scaled = scores",
        "    the layer: scaled = scores / sqrt(head_dim)",
    ]
    assert "  $ conformance explain multi_head_attention" in lines
    assert lines[-1] == "  $ conformance run --fixture multi-head-attention/self --adapter torch --dtype float32"
    assert len(lines) <= 24


def test_a_checked_subject_is_a_test_by_its_own_name() -> None:
    test = only(read(run_of(case("diverges", 9.0, fixture="", subject="Ported"))))
    assert test.get("name") == "Ported [float32]"
    assert "asked to be multi_head_attention" in (test[0].text or "")
    assert "conformance run" not in (test[0].text or "")


def test_no_two_tests_have_one_name() -> None:
    cases = [case(), case(dtype="float64"), case(mode="compiled"), case(device="cuda"), case(subject="other")]
    names = [t.get("name") for t in read(run_of(*cases)).iter("testcase")]
    assert len(set(names)) == len(names) == 5


def test_a_known_divergence_passes_and_is_told() -> None:
    (suite,) = read(run_of(case("known-divergence", 9.0)))
    out = suite.findtext("system-out") or ""
    assert "known divergence at scaled: attention.scale = 1 - the message of known-divergence" in out


def test_names_that_mean_harm_are_text() -> None:
    root = read(hostile())
    tests = list(root.iter("testcase"))
    assert len(tests) == 11
    assert "<script>alert(1)</script>" in (tests[0].get("name") or "")
    written = load("junit")(hostile())
    seen = {unicodedata.category(c) for c in written if c != "\n"}
    assert not seen & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def test_characters_that_xml_cannot_hold_are_escapes() -> None:
    run = run_of(case("error", message="died: \x00\x08\ufffe\x1b[0m\r\nwith ]]> in it"))
    error = only(read(run))[0]
    assert error.get("message") == r"Died: \x00\x08\ufffe\x1b[0m with ]]> in it"
    assert r"\x00\x08\ufffe\x1b[0m" in (error.text or "")


@pytest.mark.parametrize(
    ("started", "told"),
    [
        ("2026-01-02T05:04:05+02:00", "2026-01-02T03:04:05"),
        ("2026-01-02T03:04:05.678", "2026-01-02T03:04:05"),
        ("0001-01-01T00:00:00+14:00", "1970-01-01T00:00:00"),
        ("yesterday", "1970-01-01T00:00:00"),
    ],
)
def test_times_are_in_utc(started: str, told: str) -> None:
    (suite,) = read(msgspec.structs.replace(run_of(case()), started=started))
    assert suite.get("timestamp") == told


def test_odd_times_stay_within_the_schema() -> None:
    for seconds in (-1.0, 1e300, 1e-9):
        read(run_of(case(seconds=seconds)))


def test_a_diff_is_one_test() -> None:
    test = only(read(PARTS))
    assert test.get("name") == "Encoder and <b>encoder.onnx [float32, float32]"
    assert test[0].tag == "failure"
    assert test[0].get("message") == "The two models part at `aten.addmm.default` in `layers.1.linear1`."
    assert "is 42 tolerances off at [0, 3]" in (test[0].text or "")
    assert list(only(read(SAME))) == []
    assert [child.tag for child in only(read(UNCLEAR))] == ["skipped"]
