"""Results read again from JSON files, whoever wrote them."""

import json
from pathlib import Path

import msgspec
import pytest

from conformance import reading
from conformance.difference import Difference, Figure, Pair, Place, Side
from conformance.errors import ConformanceError
from conformance.reading import read
from conformance.report import write
from conformance.result import Case, Deviation, Run, StepResult, summarise

FIGURES = Deviation(ratio="inf", max_abs=0.5, max_rel="nan", at=[0])
STEP = StepResult(name="output", axes="batch", status="diverges", flags=[], found=None, isolated=FIGURES,
                  accumulated=FIGURES)  # fmt: skip
CASE = Case(layer="linear", fixture="linear/plain", adapter="torch", subject="torch.nn.Linear", dtype="float32",
            status="diverges", culprit="output", steps=[STEP])  # fmt: skip
RUN = Run(environment={"numpy": "2"}, started="2026-01-01T00:00:00+00:00", seconds=1.0, summary=summarise([CASE]),
          cases=[CASE])  # fmt: skip
PLACE = Place("MatMul:y", 3, "", [2, 3])
DIFFERENCE = Difference(
    environment={}, started="2026-01-01T00:00:00+00:00", seconds=1.0, a=Side("a", "torch", "float32"),
    b=Side("b", "jax", "float32"), inputs="x 2x3", status="same", rounding="both", message=None,
    output=Figure(0.1, 0.0, 0.0, [0, 0], ""), pairs=[Pair(PLACE, PLACE, 0.1, "")], first=None,
)  # fmt: skip


def refused(path: Path) -> str:
    with pytest.raises(ConformanceError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("written", [RUN, DIFFERENCE], ids=["run", "difference"])
def test_what_was_written_is_read(written: Run | Difference, tmp_path: Path) -> None:
    write("json", written, tmp_path / "x.json")
    assert read(tmp_path / "x.json") == written


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not JSON"),
        (b"<testsuites/>", "is not JSON"),
        (b'{"schema": 1', "is not JSON"),
        (b'{"schema": 1, "x": "\xff"}', "is no"),
        (b"\xff\xfe", "is not JSON"),
        (b"[]", "is no result of conformance"),
        (b"{}", "missing required field `schema`"),
        (b'{"schema": true}', "is no result of conformance"),
        (b'{"schema": 2, "cases": "of another kind"}', "has schema 2, and this version of conformance reads 1"),
        (b'{"schema": 1, "cases": []}', "is no result of conformance"),
        (b"[" * 10**6, "is no result of conformance"),
        (b'{"a":' * 10**6, "nested too deeply"),
        (b'{"schema": 1, "cases": ' + b"[" * 10**6, "nested too deeply"),
    ],
)
def test_what_is_no_result_is_refused_in_a_sentence(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    assert said in refused(path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"status": "diverges",\n   "culprit"', '"status": "fine",\n   "culprit"', "case 0 has the status 'fine'"),
        ('"diverges": 1', '"diverges": 2', "its summary is not that of its cases"),
        ('"diverges": 1', '"conforms": 1', "its summary is not that of its cases"),
        ('"nan"', '"large"', "'large' stands where a number belongs"),
        ('"dtype": "float32"', '"dtype": 32', "Expected `str`, got `int` - at `$.cases[0].dtype`"),
    ],
)
def test_a_result_that_could_not_have_been_written_is_refused(old: str, new: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write("json", RUN, path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert said in refused(path)


def test_a_config_that_is_nested_without_end_is_refused(tmp_path: Path) -> None:
    nested: list[object] = []
    for _ in range(100):
        nested = [nested]
    case = msgspec.structs.replace(CASE, config={"padding": nested})
    write("json", msgspec.structs.replace(RUN, cases=[case]), tmp_path / "x.json")
    assert "the config of case 0 is nested more than 16 deep" in refused(tmp_path / "x.json")


@pytest.mark.parametrize(("field", "value"), [("status", "alike"), ("rounding", "none")])
def test_a_difference_is_looked_at_too(field: str, value: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write("json", DIFFERENCE, path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    assert repr(value) in refused(path)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert "there is no such file" in refused(tmp_path / "absent.json")
    assert "holds no saved run" in refused(tmp_path)


def test_no_more_is_read_than_a_result_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_BYTES", 2**20)
    assert "has more than 1 MiB" in refused(Path("/dev/zero"))
