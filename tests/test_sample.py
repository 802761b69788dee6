import json
import math

import jsonschema
import msgspec
import numpy as np
import pytest
import torch
from torch import nn

import conformance
from conformance.checking import check_model, run_of
from conformance.errors import ConformanceError
from conformance.model import RoundingModel
from conformance.precision import PRECISIONS
from conformance.reading import read
from conformance.report import write
from conformance.result import HISTOGRAM, Case, Sample, StepResult
from conformance.rounding import RoundedArray
from conformance.sample import sampled, thinned, window
from conformance_reports.json_schema import FILE

HEADS, HEAD = 3, 4


class Scaled(nn.Module):
    """Attention whose scores are divided by sqrt(width) in place of sqrt(width / heads)."""

    def forward(self, query, key, value):
        scores = query @ key.transpose(-1, -2) / math.sqrt(HEADS * HEAD)
        return scores.softmax(-1) @ value


@pytest.fixture(scope="module")
def diverging() -> Case:
    rng = np.random.default_rng(0)
    shapes = {"query": (2, HEADS, 5, HEAD), "key": (2, HEADS, 7, HEAD), "value": (2, HEADS, 7, 6)}
    inputs = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return conformance.check(Scaled(), "scaled_dot_product_attention", inputs=inputs)


def step(case: Case, name: str) -> StepResult:
    return next(s for s in case.steps if s.name == name)


def test_a_diverging_step_has_the_values_of_both_sides(diverging):
    found = step(diverging, diverging.culprit)
    sample = found.sample
    assert (found.name, sample.figure, sample.shape) == ("scaled", "isolated", [2, 3, 5, 7])
    assert np.divide(sample.oracle, sample.observed) == pytest.approx(math.sqrt(HEADS), rel=1e-6)
    # the element that the figures name is in the window, with the greatest difference
    at = [i - s for i, s in zip(found.isolated.at, sample.start, strict=True)]
    differences = np.reshape(sample.difference, sample.size)
    assert abs(differences[tuple(at)]) == np.abs(differences).max() == pytest.approx(found.isolated.ratio, rel=0.01)
    assert sum(sample.histogram) == 2 * 3 * 5 * 7


def test_what_follows_is_shown_from_the_inputs_on(diverging):
    later = step(diverging, "weights").sample
    assert later.figure == "accumulated"
    # softmax: rows sum to one, on both sides
    for side in (later.oracle, later.observed):
        assert np.reshape(side, later.size).sum(-1) == pytest.approx(1, rel=1e-5)


def test_a_layer_that_was_asked_for_by_itself_has_samples_and_one_of_many_has_none():
    torch.manual_seed(0)
    linear = nn.Linear(5, 3)
    assert step(conformance.check(linear, "linear"), "output").sample is not None
    run = check_model(nn.Sequential(linear, nn.Linear(3, 2)), inputs={"input": np.ones((2, 5), np.float32)})
    assert [c.status for c in run.cases] == ["conforms", "conforms"]
    assert {s.sample for c in run.cases for s in c.steps} == {None}


def test_the_window_has_the_worst_element_in_it():
    # the last two axes 16 wide, two left of 512 for the one before them, none for the first
    assert window((9, 6, 100, 40), (8, 5, 99, 3)) == ([8, 4, 84, 0], [1, 2, 16, 16])
    assert window((9, 100, 40, 1), (8, 99, 3, 0)) == ([7, 84, 0, 0], [2, 16, 16, 1])
    assert window((2, 3), (0, 2)) == ([0, 0], [2, 3])
    assert window((4000,), (2000,)) == ([1744], [512])
    assert window((), ()) == ([], [])


def array(values: list[float], deviation: list[float]) -> RoundedArray:
    return RoundedArray(np.array(values), np.array(deviation), RoundingModel(PRECISIONS["float32"]))


def test_differences_are_in_tolerances_and_counted():
    expected = array([1.0, 1.0, 1.0, math.inf, math.nan], [0.125] * 5)  # a tolerance is 8 deviations: 1
    found = sampled("isolated", expected, np.array([1.0, 3.0, -4.0, math.inf, 2.0]), 9)
    assert found.difference == [0.0, 2.0, -5.0, 0.0, "inf"]
    assert found.oracle == [1.0, 1.0, 1.0, "inf", "nan"]
    count = dict(zip([0.0, *HISTOGRAM], found.histogram, strict=True))
    assert {round(edge, 6): n for edge, n in count.items() if n} == {0.0: 2, 1.0: 1, round(10**0.5, 6): 1, 1e9: 1}


def test_another_shape_and_nothing_at_all_have_no_sample():
    assert sampled("isolated", array([1.0, 2.0], [0, 0]), np.ones(3), 9) is None
    assert sampled("isolated", array([], []), np.ones(0), 9) is None


def many(status: str) -> Case:
    def made(name: str) -> StepResult:
        sample = Sample("isolated", [10], [0], [10], [0.0] * 10, [0.0] * 10, [0.0] * 10, [10] + [0] * 25)
        return StepResult(name, "x", "diverges", [], None, None, None, sample=sample)

    steps = [made(name) for name in ("before", "fault", "after")]
    return Case(
        layer="l", fixture="f", adapter="a", subject="s", dtype="float32", status=status, culprit="fault", steps=steps
    )


def test_a_run_keeps_the_steps_at_fault_first():
    def kept(cases: list[Case], most: int) -> list[str]:
        return [" ".join(s.name for s in c.steps if s.sample is not None) for c in thinned(cases, most)]

    two = [many("diverges"), many("diverges")]
    assert kept(two, 60) == ["before fault after"] * 2
    assert kept(two, 30) == ["before fault", "fault"]
    assert kept(two, 10) == ["fault", ""]
    assert kept([many("known-divergence")], 60) == ["fault"]


@pytest.mark.parametrize(
    "change",
    [
        *(
            {"size": [11]},
            {"start": [1]},
            {"shape": [2, 5]},
            {"oracle": []},
            {"histogram": [1]},
            {"oracle": ["x"] * 10},
        ),
        {"histogram": [2**64] + [0] * len(HISTOGRAM)},  # more than there are elements, and than JSON's readers hold
    ],
)
def test_a_file_whose_samples_are_wrong_is_refused(change, tmp_path):
    case = many("diverges")
    run = run_of([case], {}, 0.0)
    write("json", run, tmp_path / "right.json")
    assert read(tmp_path / "right.json") == run
    bad = msgspec.structs.replace(case.steps[0], sample=msgspec.structs.replace(case.steps[0].sample, **change))
    write(
        "json",
        msgspec.structs.replace(run, cases=[msgspec.structs.replace(case, steps=[bad])]),
        tmp_path / "wrong.json",
    )
    with pytest.raises(ConformanceError, match=r"wrong\.json is no result"):
        read(tmp_path / "wrong.json")


def test_what_is_written_is_valid_by_the_published_schema(diverging, tmp_path):
    write("json", run_of([diverging], {}, 0.0), tmp_path / "run.json")
    jsonschema.Draft202012Validator(json.loads(FILE.read_bytes())).validate(
        json.loads((tmp_path / "run.json").read_bytes())
    )
