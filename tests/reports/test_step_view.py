import ast
import subprocess
import sys

import msgspec
import numpy as np
import pytest
from sample_runs import case, deviation, run_of, step

from conformance.result import HISTOGRAM, Case, Sample, StepResult
from conformance_reports.histogram import histogram, spread
from conformance_reports.reproduction import command, script
from conformance_reports.step_view import StepView, feeds_back, levels, views


def sample(shape: list[int], values: np.ndarray, differences: np.ndarray, start: list[int] | None = None) -> Sample:
    counts = [0] * (len(HISTOGRAM) + 1)
    counts[0] = values.size
    return Sample(
        "isolated",
        shape,
        start or [0] * len(shape),
        list(values.shape),
        values.ravel().tolist(),
        (values + 1).ravel().tolist(),
        differences.ravel().tolist(),
        counts,
    )


def view(made: Sample, axes: str, at: tuple[int, ...]) -> StepView:
    return StepView("here", step("scores", 3.0, axes=axes, isolated=deviation(3.0, at=at), sample=made), made)


def test_a_slice_is_where_its_indices_say():
    # batch 0-1, head 4-5 of 8, query 0-2, key 7-8 of 9: every value tells its own place
    start, size = [0, 4, 0, 7], [2, 2, 3, 2]
    index = np.indices(size) + np.reshape(start, (4, 1, 1, 1, 1))
    values = 1000.0 * index[0] + 100 * index[1] + 10 * index[2] + index[3]
    shown = view(sample([2, 8, 3, 9], values, np.zeros(size), start), "batch head query key", (1, 5, 2, 8))
    assert [(axis.name, list(axis.indices)) for axis in shown.leading] == [("batch", [0, 1]), ("head", [4, 5])]
    assert (shown.rows.name, list(shown.rows.indices)) == ("query", [0, 1, 2])
    assert (shown.columns.name, list(shown.columns.indices)) == ("key", [7, 8])
    slices = {s.at: s for s in shown.slices()}
    assert list(slices) == [(0, 4), (0, 5), (1, 4), (1, 5)]
    assert [[place.text for place in row] for row in slices[1, 4].maps[0].rows] == [
        ["1.41e3", "1.41e3"],  # 1407 and 1408
        ["1.42e3", "1.42e3"],
        ["1.43e3", "1.43e3"],
    ]
    assert [place.text for place in slices[0, 5].maps[0].rows[2]] == ["527", "528"]
    assert [place.text for place in slices[0, 5].maps[1].rows[2]] == ["528", "529"]
    assert (slices[1, 5].worst, slices[1, 4].worst) == ((2, 1), None)
    rows, columns, numbers = shown.near()
    assert (list(rows), list(columns)) == ([0, 1, 2], [0, 1])
    assert [place.text for place in numbers[2][1]] == ["1.53e3", "1.53e3", "0"]  # 1528 and 1529
    assert shown.extent == "24 of 432 elements, around the worst one: head 4 to 5 of 8 and key 7 to 8 of 9"


@pytest.mark.parametrize(
    ("axes", "shape", "rows", "columns", "leading"),
    [
        ("", [], "", "", []),
        ("unit", [3], "", "unit", []),
        ("batch unit", [2, 3], "batch", "unit", []),
        ("batch row one", [2, 3, 1], "batch", "row", []),
        ("one other", [1, 1], "", "", []),
        ("names do not fit", [2, 3], "axis 0", "axis 1", []),
        ("a b c", [2, 3, 4], "b", "c", ["a"]),
    ],
)
def test_every_number_of_axes_has_rows_and_columns(axes, shape, rows, columns, leading):
    values = np.arange(float(np.prod(shape))).reshape(shape)
    shown = view(sample(shape, values, values), axes, tuple(n - 1 for n in shape))
    assert (shown.rows.name, shown.columns.name, [a.name for a in shown.leading]) == (rows, columns, leading)
    texts = [place.text for s in shown.slices() for row in s.maps[0].rows for place in row]
    assert texts == [f"{value:.0f}" for value in values.ravel()]
    assert [s.worst for s in shown.slices()][-1] == (
        len(shown.rows.indices) - 1,
        len(shown.columns.indices) - 1,
    )


def test_shades_are_symmetric_and_an_outlier_does_not_stretch_them():
    values = np.array([[-2.0, 2.0, 0.0, 1.0, -1e9, np.inf, -np.inf, np.nan]])
    made = sample([1, 8], values, np.array([[0, 0.5, 5, 50, 5e3, 5e6, np.inf, 0.0]]))
    made = msgspec.structs.replace(made, oracle=[-2.0, 2.0, 0.0, 1.0, -1e9, "inf", "-inf", "nan"], observed=[0.0] * 8)
    [only] = view(made, "row column", (0, 6)).slices()
    oracle, observed, difference = (m.rows[0] for m in only.maps)
    assert [p.shade for p in oracle] == ["v0", "v20", "v10", "v15", "v0", "vp", "vm", "vn"]
    assert {p.shade for p in observed} == {"v10"}
    assert [p.shade for p in difference] == ["d0", "d1", "d2", "d3", "d4", "d5", "d5", "d0"]


def with_samples(size: int) -> Case:
    values = np.zeros(size)
    made = [
        msgspec.structs.replace(s, axes="unit", sample=sample([size], values, values))
        for s in case("diverges", 9.0).steps
    ]
    return case("diverges", 9.0, steps=made)


def test_the_step_at_fault_of_each_case_comes_before_any_other():
    cases = [with_samples(100), with_samples(100)]
    run = run_of(*cases)
    names = {id(c): f"case-{n}" for n, c in enumerate(run.cases, 1)}

    def shown(room: int) -> list[list[str]]:
        made = views(run, names, room)
        return [list(made.get(id(c), {})) for c in run.cases]

    assert shown(10**7) == [["scaled", "scores", "output"]] * 2
    assert shown(18_000) == [["scaled"], []]  # 9,000 and 90 for each element
    assert shown(36_000) == [["scaled"], ["scaled"]]
    assert shown(0) == [[], []]
    assert views(run, names)[id(run.cases[1])]["scaled"].identifier == "case-2-step-2"


def test_steps_stand_after_what_they_read():
    def reading(name: str, *reads: str) -> StepResult:
        return step(name, 0.1, reads=list(reads))

    steps = [
        reading("query"),
        reading("key"),
        reading("value"),
        reading("scores", "query", "key"),
        reading("context", "scores", "value"),
    ]
    assert [[s.name for s in level] for level in levels(case(steps=steps))] == [
        ["query", "key", "value"],
        ["scores"],
        ["context"],
    ]
    # a file of before there was `reads`: one after the other
    assert [[s.name for s in level] for level in levels(case(steps=[step("a", 0.1), step("b", 0.1)]))] == [["a"], ["b"]]


def test_an_error_that_comes_round_again_is_told_from_one_that_goes_on():
    def flowing(*statuses: str) -> Case:
        names = ("input_gate", "forget_gate", "cell")
        reads = ([], [], ["input_gate", "forget_gate"])
        steps = [step(n, 9.0, s, reads=r) for n, s, r in zip(names, statuses, reads, strict=True)]
        return case("diverges", steps=steps, culprit="forget_gate")

    assert feeds_back(flowing("propagated", "diverges", "propagated"))
    assert not feeds_back(flowing("conforms", "diverges", "propagated"))


def test_one_tolerance_is_told_at_the_worst_element():
    values = np.array([[1.0, 2.0], [3.0, 4.0]])  # observed: one more
    assert view(sample([2, 2], values, np.array([[0.5, 1.0], [4.0, 2.0]])), "a b", (1, 0)).tolerance == 0.25
    assert view(sample([2, 2], values, np.zeros((2, 2))), "a b", (1, 0)).tolerance is None


# -- the histogram ----------------------------------------------------------------------------------------------


def test_the_histogram_has_a_bar_for_each_class_that_has_elements():
    counts = [0] * (len(HISTOGRAM) + 1)
    counts[0], counts[7], counts[-1] = 5, 2, 1  # below 1e-3; from 1 to sqrt(10); from 1e9 on
    drawn = str(histogram(tuple(counts)))
    bars = drawn.partition('class="mark-rect')[2].partition("</g>")[0]
    assert bars.count('fill="var(--within)"') == 1
    assert bars.count('fill="var(--beyond)"') == 2
    assert "style=" not in drawn
    assert "<style" not in drawn
    for tick in ("0.001", ">1<", "1e3", "1e6", "1e9"):
        assert tick in drawn
    assert spread(counts) == ("5 of 8 elements are within one tolerance; off by more: 2 by 1 to 3.2, 1 by 1e9 to inf")


# -- seeing it again --------------------------------------------------------------------------------------------


def test_the_script_of_a_fixture_runs_and_prints_the_same_verdict(tmp_path):
    one = case("diverges", 9.0, fixture="linear/plain", layer="linear", adapter="onnxruntime", subject="Gemm")
    program = script(run_of(one), one)
    import_names = {a.name for n in ast.walk(ast.parse(program)) if isinstance(n, ast.ImportFrom) for a in n.names}
    assert import_names == {"select", "run"}
    subject = subjects_of(one)
    (tmp_path / "again.py").write_text(program.replace("'Gemm'", repr(subject)))
    done = subprocess.run(
        [sys.executable, "again.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "conforms"), done.stderr


def subjects_of(one: Case) -> str:
    """The name of ONNX Runtime's own layer for a fixture."""
    from conformance.adapter import load
    from conformance.fixture import select
    from conformance.trace import Request

    [fixture] = select([one.fixture])
    inputs, weights = fixture.load()
    [name, *_] = load(one.adapter).subjects(Request(fixture.layer, "", fixture.config, inputs, weights, one.dtype))
    return name


def test_the_script_of_a_subject_runs_where_the_command_names_it(tmp_path):
    (tmp_path / "mine.py").write_text("import torch\nmodule = torch.nn.LayerNorm(7, eps=1e-3)\n")
    one = case("diverges", 9.0, fixture="", layer="layer_norm", config={"axes": 1, "epsilon": 1e-5, "absent": None})
    run = msgspec.structs.replace(
        run_of(one), command=["conformance", "check", "mine.py:module", "--layer", "layer_norm"]
    )
    (tmp_path / "again.py").write_text(script(run, one))
    done = subprocess.run(
        [sys.executable, "again.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.splitlines()[:2] == ["diverges", "normalized"], done.stderr
    assert "norm.epsilon" in done.stdout
    assert command(run, (one,)) == ["conformance", "check", "mine.py:module", "--layer", "layer_norm"]


def test_the_script_of_an_object_says_what_to_fill_in():
    one = case("diverges", 9.0, fixture="", subject="Mine\u202e")
    program = script(run_of(one), one)
    ast.parse(program)
    assert "subject = ...  # Mine\\u202e: the object that was checked" in program
    assert command(run_of(one), (one,)) == []
