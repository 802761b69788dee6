"""Runs: what is planned, what becomes of what goes wrong, and that the same inputs give the same result."""

import json
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save_file

from conformance import worker
from conformance.adapter import load, missing
from conformance.errors import ConformanceError
from conformance.fixture import read_folder
from conformance.precision import precision
from conformance.run import chosen_adapters, fresh, run
from third_party_adapter import ENTRY_POINTS, frame  # noqa: F401  # a fixture


class Here(Executor):
    """Does the work at once, in this process."""

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture
def fixtures(tmp_path):
    """Makes the fixture `small`, a linear layer, with the arrays and config that are given."""

    def make(layer="linear", config="{}", name="small", **arrays):
        folder = tmp_path / name
        folder.mkdir()
        given = {
            "inputs.x": np.array([[1.0, 2.0], [0.1, -3.0]]),
            "weights.kernel": np.array([[1.0, 10.0], [100.0, 1000.0]]),
        }
        save_file({**given, **arrays} if layer == "linear" else arrays, folder / "arrays.safetensors")
        (folder / "fixture.toml").write_text(
            f"layer = '{layer}'\nsummary = 'A small one.'\nsource = 'by hand'\n"
            f"[[form]]\narrays = 'arrays.safetensors'\nconfig = {config}\n"
        )
        return read_folder(folder)

    return make


@pytest.fixture(autouse=True)
def _fresh_adapters(monkeypatch):
    monkeypatch.setattr(worker, "_started", {})


def one(fixtures, monkeypatch, subject, **options):
    monkeypatch.setenv("FRAME_SUBJECTS", subject)
    options = {"dtypes": ["float32"], "executor": Here(), **options}
    (case,) = run(fixtures, ["frame"], **options).cases
    return case


@pytest.mark.usefixtures("frame")
class TestOutcomes:
    def test_what_is_right_conforms(self, fixtures, monkeypatch):
        case = one(fixtures(), monkeypatch, "fine")
        assert (case.status, case.culprit, case.message) == ("conforms", None, None)
        assert (case.layer, case.fixture, case.adapter, case.subject) == ("linear", "small", "frame", "fine")
        assert (case.mode, case.dtype, case.device) == ("eager", "float32", "cpu")
        assert [s.name for s in case.steps] == ["product", "output"]
        assert case.steps[0].found.operation == "frame.dot"
        assert case.ratio <= 1

    def test_what_is_wrong_diverges(self, fixtures, monkeypatch):
        case = one(fixtures(), monkeypatch, "wrong")
        assert case.status == "diverges"
        assert case.culprit in ("product", "output")

    @pytest.mark.parametrize("subject", ["unfaithful", "other-weights"])
    def test_weights_that_come_back_changed_are_an_error(self, fixtures, monkeypatch, subject):
        case = one(fixtures(), monkeypatch, subject)
        assert case.status == "error"
        assert f"does not come back from {subject} as it went in" in case.message
        assert case.steps == []

    def test_weights_that_do_not_come_back_are_an_error_where_the_adapter_says_that_they_do(
        self, fixtures, monkeypatch
    ):
        given = fixtures()
        assert one(given, monkeypatch, "forgetful").status == "conforms"
        monkeypatch.setenv("FRAME_BACK", "")
        case = one(given, monkeypatch, "forgetful")
        assert case.status == "error"
        assert "the weight 'kernel' does not come back from forgetful" in case.message

    def test_an_output_of_another_shape_is_an_error(self, fixtures, monkeypatch):
        case = one(fixtures(), monkeypatch, "other-shape")
        assert case.status == "error"
        assert "the output is 1x2, but linear gives 2x2" in case.message

    def test_an_exception_is_an_error(self, fixtures, monkeypatch):
        case = one(fixtures(), monkeypatch, "raise")
        assert (case.status, case.message) == ("error", "RuntimeError: shapes 3x4 and 5x6 cannot be multiplied")

    def test_what_the_framework_finds_out_late_is_unsupported(self, fixtures, monkeypatch):
        case = one(fixtures(), monkeypatch, "unsupported")
        assert (case.status, case.message) == ("unsupported", "frame 1.5 has no transposed kernel")

    def test_what_it_never_had_is_unsupported(self, fixtures, monkeypatch):
        given = fixtures("softmax", **{"inputs.x": np.ones((2, 3))})
        case = one(given, monkeypatch, "fine")
        assert (case.status, case.subject) == ("unsupported", "")
        assert case.message == "frame has no softmax of its own"
        case = one(fixtures(name="other"), monkeypatch, "fine", dtypes=["float16"])
        assert (case.status, case.message) == ("unsupported", "frame does not compute in float16")

    def test_a_crash_in_a_worker_is_a_case(self, fixtures, monkeypatch):
        monkeypatch.setenv("FRAME_SUBJECTS", "segfault,fine,exit")
        result = run(fixtures(), ["frame"], ["float32"], jobs=1, timeout=60)
        assert {c.subject: c.status for c in result.cases} == {
            "exit": "crashed", "fine": "conforms", "segfault": "crashed"
        }  # fmt: skip
        assert "SIGSEGV" in result.cases[2].message
        assert result.summary == {"conforms": 1, "crashed": 2}
        assert result.exit_code == 3
        assert result.environment["frame"] == "1.5.0"

    def test_a_pool_that_breaks_is_a_crash(self, fixtures, monkeypatch):
        """Any executor will do; this one cannot go on after a crash, and says so."""
        monkeypatch.setenv("FRAME_SUBJECTS", "exit")
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            (case,) = run(fixtures(), ["frame"], ["float32"], executor=pool).cases
        assert case.status == "crashed"
        assert "BrokenProcessPool" in case.message

    def test_any_executor_gives_the_same(self, fixtures, monkeypatch):
        monkeypatch.setenv("FRAME_SUBJECTS", "fine,raise,unsupported")
        given = fixtures()
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            runs = [run(given, ["frame"], ["float32"], executor=e) for e in (None, pool, Here())]
        first, *others = [[(c.subject, c.status, c.message, c.steps) for c in r.cases] for r in runs]
        assert others == [first, first]

    def test_an_adapter_that_fails_to_say_what_it_has_is_an_error(self, fixtures, monkeypatch):
        import frame_adapter

        monkeypatch.setattr(frame_adapter.Frame, "subjects", lambda self, request: 1 / 0)
        case = one(fixtures(), monkeypatch, "fine")
        assert (case.status, case.message) == ("error", "ZeroDivisionError: division by zero")


@pytest.mark.usefixtures("frame")
class TestPlan:
    @pytest.mark.parametrize(
        ("name", "module"),
        [("absent", "a_module_that_is_not_there"), ("absent-part", "a_package_that_is_not_there.part")],
    )
    def test_a_framework_that_is_not_installed_is_unavailable(self, fixtures, name, module):
        (case,) = run(fixtures(), [name], ["float32"]).cases[:1]
        assert case.status == "unavailable"
        assert case.message == f"{module} is not installed: pip install frame"
        assert missing(load(name)) == module
        assert missing(load("frame")) is None

    def test_every_dtype_and_subject_of_every_fixture(self, fixtures, monkeypatch):
        monkeypatch.setenv("FRAME_SUBJECTS", "fine,wrong")
        given = fixtures(name="b") + fixtures(name="a")
        seen = []
        result = run(
            given, ["frame"], executor=Here(), progress=lambda case, number, total: seen.append((number, total))
        )
        assert [(c.fixture, c.subject, c.dtype) for c in result.cases] == [
            (f, s, d) for f in "ab" for s in ("fine", "wrong") for d in ("float32", "float64")
        ]
        assert seen == [(n, 8) for n in range(1, 9)]
        assert result.summary == {"conforms": 4, "diverges": 4}
        assert result.exit_code == 1

    def test_layers_select_fixtures(self, fixtures):
        given = fixtures() + fixtures("softmax", name="s", **{"inputs.x": np.ones((2, 3))})
        result = run(given, ["frame"], ["float32"], ["softmax"], executor=Here())
        assert [c.fixture for c in result.cases] == ["s"]
        assert run(given, ["frame"], ["float32"], ["gelu"], executor=Here()).cases == []

    def test_inputs_are_rounded_to_the_dtype(self, fixtures, monkeypatch):
        seen = []
        import frame_adapter

        fine = frame_adapter.Frame.do_fine
        monkeypatch.setattr(frame_adapter.Frame, "do_fine", lambda self, r: (seen.append(r), fine(self, r))[1])
        one(fixtures(), monkeypatch, "fine")
        assert seen[0].inputs["x"].dtype == np.float64
        assert seen[0].inputs["x"][1, 0] == float(np.float32(0.1)) != 0.1
        assert seen[0].decomposed

    def test_families(self, fixtures, tmp_path, monkeypatch):
        information = tmp_path / "third-party" / "frame_adapter-1.0.dist-info"
        (information / "entry_points.txt").write_text(
            ENTRY_POINTS + "keras2-one = frame_adapter:Frame\nkeras2-two = frame_adapter:Frame\n"
        )
        assert chosen_adapters(["keras2"]) == ["keras2-one", "keras2-two"]
        assert chosen_adapters(["keras2-two", "frame", "keras2"]) == ["keras2-two", "frame", "keras2-one"]
        assert chosen_adapters(["absent"]) == ["absent", "absent-part"]
        assert {"frame", "keras2-one", "torch", "keras-jax"} <= set(chosen_adapters([]))

    def test_an_adapter_that_cannot_be_loaded_is_said(self, tmp_path):
        information = tmp_path / "third-party" / "frame_adapter-1.0.dist-info"
        (information / "entry_points.txt").write_text(
            "[conformance.adapters]\nbroken = a_module_that_is_not_there:Frame\nempty = frame_adapter:Nothing\n"
        )
        with pytest.raises(ConformanceError, match=r"'broken' .*cannot be loaded: ModuleNotFoundError"):
            load("broken")
        with pytest.raises(ConformanceError, match=r"'empty' .*cannot be loaded: AttributeError"):
            load("empty")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"adapters": ["trch"]}, r"unknown adapter 'trch' \(did you mean 'torch'\?\); installed are .*torch"),
        ({"dtypes": ["float33"]}, r"unknown dtype 'float33' \(did you mean 'float32'\?\)"),
        ({"layers": ["sofmax"]}, r"unknown layer 'sofmax' \(did you mean 'softmax'\?\)"),
    ],
)
def test_unknown_names_are_refused_before_anything_runs(arguments, message):
    with pytest.raises(ConformanceError, match=message):
        run([], **arguments)


def test_a_fixture_that_does_not_fit_its_layer_is_named(fixtures):
    given = fixtures(**{"weights.kernel": np.ones((3, 2))})
    with pytest.raises(ConformanceError) as caught:
        run(given, ["torch"], ["float32"])
    assert str(caught.value) == "fixture small: 'kernel' is 3x2 (in out), but in is 2 (from 'x')"


def test_the_same_inputs_give_the_same_json(frame, fixtures, monkeypatch):  # noqa: F811
    monkeypatch.setenv("FRAME_SUBJECTS", "fine,wrong,raise,unfaithful")
    given = fixtures()

    def written():
        made = json.loads(msgspec.json.encode(run(given, ["frame"], jobs=2)))
        for case in made["cases"]:
            del case["seconds"]
        assert made.pop("started")
        assert made.pop("seconds") >= 0
        assert made.pop("environment")["frame"] == "1.5.0"
        return made

    first = written()
    assert written() == first
    assert (first["schema"], first["summary"]) == (1, {"conforms": 2, "diverges": 2, "error": 4})


def test_a_fault_of_the_judge_costs_one_case(frame, fixtures, monkeypatch):  # noqa: F811
    from conformance.judge import judge

    def faulty(flow, trace, number_format, *rest, **more):
        if number_format.name == "float64":
            raise AttributeError("no deviation")
        return judge(flow, trace, number_format, *rest, **more)

    monkeypatch.setenv("FRAME_SUBJECTS", "fine")
    monkeypatch.setattr("conformance.run.judge", faulty)
    cases = run(fixtures(), ["frame"], ["float32", "float64"], jobs=1).cases
    assert [case.status for case in cases] == ["conforms", "error"]
    assert cases[1].message.endswith("a fault of its own to report: AttributeError: no deviation")


# -- fresh inputs -------------------------------------------------------------------------------------------

SINGLE = precision("float32")


def test_fresh_inputs_are_of_the_same_kind():
    rng = np.random.default_rng(0)
    inputs = {
        "x": SINGLE.round(rng.normal(size=(4, 2000)) * [[1], [10], [0.1], [3]] + [[0], [5], [-7], [100]]),
        "mask": np.array([[0.0, -np.inf]]),
        "bits": np.array([True, False]),
        "indices": np.arange(3),
    }
    found = fresh(inputs, SINGLE)
    assert all(found[n] is inputs[n] for n in ("mask", "bits", "indices"))
    assert not np.array_equal(found["x"], inputs["x"])
    assert np.abs(found["x"].mean(-1) - inputs["x"].mean(-1)).max() < 1
    assert np.abs(found["x"].std(-1) / inputs["x"].std(-1) - 1).max() < 0.1
    assert np.array_equal(found["x"], found["x"].astype(np.float32))
    assert np.array_equal(fresh(inputs, SINGLE)["x"], found["x"])  # seeded


def test_constant_inputs_do_not_stay_so():
    found = fresh({"x": np.full((2, 500), 0.1), "one": np.full((3, 1), 2.0), "none": np.zeros((0, 3))}, SINGLE)
    assert len(np.unique(found["x"])) > 900
    assert found["x"].std() == pytest.approx(0.05, rel=0.2)
    assert 0 < np.abs(found["one"] - 2).max() < 4
    assert found["none"].shape == (0, 3)


def test_nearly_constant_inputs_stay_of_their_kind():
    nearly = SINGLE.round(1000 + 1e-3 * np.random.default_rng(1).normal(size=(3, 400)))
    found = fresh({"x": nearly}, SINGLE)["x"]
    assert 0.5 < found.std() < 2
    assert np.abs(found.mean() - 1000) < 1


def test_a_rerun_is_judged_against_its_own_inputs(frame, fixtures, monkeypatch):  # noqa: F811
    """A naive sum of many equal terms is off by more than independent errors allow, and right on other data."""
    import frame_adapter

    from conformance.trace import Entry, Trace

    asked = []

    def naive(self, request):
        asked.append(request.inputs["x"])
        output = np.cumsum(request.inputs["x"].astype(np.float32), axis=-1, dtype=np.float32)[:, -1:]
        return Trace(output, [Entry("naive", output)])

    many = 400_000
    given = fixtures(**{"inputs.x": np.full((1, many), 0.1), "weights.kernel": np.ones((many, 1))})
    monkeypatch.setattr(frame_adapter.Frame, "do_fine", naive)
    case = one(given, monkeypatch, "fine")
    assert case.status == "conforms"
    assert case.steps[-1].flags == ["biased-rounding"]
    assert len(asked) == 2
    assert len(np.unique(asked[0])) == 1 < len(np.unique(asked[1]))
    assert replace(given[0]).load()[0]["x"].shape == (1, many)
