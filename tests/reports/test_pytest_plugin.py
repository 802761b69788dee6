"""The pytest plugin, in sessions of pytest of their own."""

import json
import subprocess
import sys

import pytest

from conformance.fixture import select
from conformance.result import Case, Deviation, StepResult
from conformance.run import run
from conformance.worker import Workers
from conformance_reports.pytest_plugin import worst

pytest_plugins = ["pytester"]

CHECKS = """
import time

import onnx
from onnx import TensorProto, helper


def norm(folder, epsilon, inside):
    # by hand, so that the epsilon can stand where it does not belong: sqrt(v) + eps, for sqrt(v + eps)
    shapes = [helper.make_tensor_value_info(n, TensorProto.FLOAT, (3, 7)) for n in ("x", "y")]
    last = ("Add", "Sqrt") if inside else ("Sqrt", "Add")
    made = []

    def node(kind, *given, **options):
        made.append(helper.make_node(kind, given, [f"{kind}{len(made)}"], **options))
        return made[-1].output[0]

    centred = node("Sub", "x", node("ReduceMean", "x", "axes"))
    value = node("ReduceMean", node("Mul", centred, centred), "axes")
    for kind in last:
        value = node(kind, value, "epsilon") if kind == "Add" else node(kind, value)
    made.append(helper.make_node("Div", [centred, value], ["y"]))
    weights = [
        helper.make_tensor("axes", TensorProto.INT64, [1], [-1]),
        helper.make_tensor("epsilon", TensorProto.FLOAT, [], [epsilon]),
    ]
    graph = helper.make_graph(made, "norm", shapes[:1], shapes[1:], weights)
    path = folder / "norm.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


CONFIG = {"epsilon": 0.1}


def test_right(conformance, tmp_path):
    time.sleep(1)  # of two processes, the other is done first
    conformance.assert_conforms(norm(tmp_path, 0.1, True), "layer_norm", config=CONFIG)


def test_wrong(conformance, tmp_path):
    conformance.assert_conforms(norm(tmp_path, 0.1, False), "layer_norm", config=CONFIG)


def test_looked_at(conformance, tmp_path):
    case = conformance.check(norm(tmp_path, 0.1, False), "layer_norm", config=CONFIG)
    assert case.status == "diverges"
    assert case.subject == "norm.onnx"
"""

MATRIX = """
import pytest

seen = []


@pytest.mark.conformance(
    layers=["linear", "rotary_embedding"], adapters=["onnxruntime", "tensorflow"], dtypes=["float32"]
)
def test_layers(conformance_case, conformance, conformance_workers):
    conformance.assert_case(conformance_case)
    assert conformance_case.layer in ("linear", "rotary_embedding")
    seen.append((conformance_case.adapter, conformance_workers._workers[conformance_case.adapter].process.pid))


def test_a_framework_is_started_once():
    assert {adapter for adapter, _ in seen} == {"onnxruntime", "tensorflow"}
    assert len(set(seen)) == 2
"""


@pytest.fixture
def session(pytester, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")

    def started(*arguments):
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments, timeout=200)

    return started


@pytest.mark.parametrize("how", [(), ("-p", "no:xdist"), ("-n", "2")], ids=["plain", "no-xdist", "two-processes"])
def test_checks_are_told_and_reported(pytester, session, how):
    pytester.makepyfile(test_norm=CHECKS)
    done = session("--conformance-html=report.html", "--conformance-json=run.json", *how)
    done.assert_outcomes(passed=2, failed=1)
    done.stdout.fnmatch_lines(
        [
            "E * AssertionError: norm.onnx is not the canonical layer_norm",
            "E *DIVERGES  norm.onnx on onnxruntime, float32, asked to be layer_norm",
            "E *`norm.epsilon-placement = *",
            "3 cases: 1 conforms, 2 diverge",
            "the HTML report is *report.html",
            "the JSON report is *run.json",
        ]
    )
    assert "pytest_plugin.py" not in done.stdout.str()  # the traceback ends in the test
    found = json.loads((pytester.path / "run.json").read_text())
    told = [(case["subject"], case["status"]) for case in found["cases"]]
    assert told == [  # in the order of the file, whichever process was quicker
        ("test_norm.py::test_right: norm.onnx", "conforms"),
        ("test_norm.py::test_wrong: norm.onnx", "diverges"),
        ("test_norm.py::test_looked_at: norm.onnx", "diverges"),
    ]
    assert found["summary"] == {"conforms": 1, "diverges": 2}
    assert "onnxruntime" in found["environment"]
    page = (pytester.path / "report.html").read_text()
    assert all(f"test_norm.py::{name}: norm.onnx" in page for name in ("test_right", "test_wrong", "test_looked_at"))
    assert sorted(p.name for p in pytester.path.iterdir() if p.suffix in (".html", ".json", ".tmp")) == [
        "report.html",
        "run.json",
    ]


@pytest.mark.parametrize("how", [(), ("-n", "2", "--dist", "loadfile")], ids=["plain", "two-processes"])
def test_a_test_for_each_form_adapter_and_dtype(pytester, session, how):
    pytester.makepyfile(test_matrix=MATRIX)
    linear, rotary = ([f.id for f in select([]) if f.layer == layer] for layer in ("linear", "rotary_embedding"))
    done = session("--conformance-json=run.json", "-v", "-rs", *how)
    # TensorFlow has no rotary embedding; ONNX has.
    done.assert_outcomes(passed=2 * len(linear) + len(rotary) + 1, skipped=len(rotary))
    done.stdout.fnmatch_lines_random([f"*test_layers?{linear[0]}-onnxruntime-float32?*"])
    done.stdout.fnmatch_lines(["SKIPPED *unsupported: *"])
    found = json.loads((pytester.path / "run.json").read_text())
    assert set(found["summary"]) == {"conforms", "unsupported"}
    assert found["summary"]["unsupported"] == len(rotary)
    expected = {
        (f"test_matrix.py::test_layers[{form}-{adapter}-float32]", form)
        for adapter in ("onnxruntime", "tensorflow")
        for form in linear + rotary
    }
    assert {(c["subject"].partition(": ")[0], c["fixture"]) for c in found["cases"]} == expected


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        ('layers=["liner"]', "unknown layer 'liner' (did you mean 'linear'?)*"),
        ('adapters=["torhc"]', "unknown adapter 'torhc' (did you mean 'torch'?)*"),
        ('dtypes=["float31"]', "*float31*"),
        ('layers="linear"', "layers='linear' is one word: give a list, layers=['linear']*"),
        ('layer="linear"', "*unexpected keyword argument 'layer'*"),
        ('layers=["gelu"], fixtures=["linear"]', "no fixture is of gelu*"),
    ],
)
def test_a_wrong_marker_is_told_in_a_sentence(pytester, marker, said):
    pytester.makepyfile(f"import pytest\n@pytest.mark.conformance({marker})\ndef test_it(conformance_case): pass")
    done = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--strict-markers")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines([f"@pytest.mark.conformance: {said.replace('[', '[[]')}"])
    assert "During handling" not in done.stdout.str()
    assert "Traceback" not in done.stdout.str()


def test_what_is_wrongly_given_is_told_in_a_sentence(pytester):
    pytester.makepyfile(
        "def test_it(conformance):\n"
        "    conformance.assert_conforms('no.onnx', 'linear')\n"
        "def test_model(conformance):\n"
        "    conformance.check_model('no.onnx')"
    )
    done = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    done.assert_outcomes(failed=2)
    done.stdout.fnmatch_lines(["E *ConformanceError: no.onnx: there is no such file; *"] * 2)
    assert "loading.py" not in done.stdout.str()


def test_without_a_marker_there_is_nothing_to_run(pytester):
    pytester.makepyfile("def test_it(conformance_case): pass")
    done = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*needs the marker*@pytest.mark.conformance(layers=*"])


def test_a_framework_that_is_not_there_skips_its_tests(pytester, session):
    pytester.makeconftest(
        "from conformance_adapters.onnx_runtime import OnnxRuntimeAdapter\n"
        "OnnxRuntimeAdapter.requires = ('no_such_framework',)"
    )
    pytester.makepyfile(
        "import pytest\n"
        "@pytest.mark.conformance(fixtures=['linear/plain'], adapters=['onnxruntime'], dtypes=['float32'])\n"
        "def test_it(conformance_case): assert False"
    )
    done = session("-rs")
    done.assert_outcomes(skipped=1)
    done.stdout.fnmatch_lines(["SKIPPED *unavailable: no_such_framework is not installed: *"])


def test_a_session_that_uses_none_of_it_is_as_without(pytester, session):
    pytester.makepyfile(
        "import sys\n"
        "def test_it():\n"
        "    assert {'numpy', 'conformance', 'msgspec', 'rich', 'conformance_adapters'} & set(sys.modules) == set()"
    )
    done = session("-p", "no:jaxtyping", "-p", "no:hypothesispytest")  # others that are installed here
    done.assert_outcomes(passed=1)
    assert "conformance" not in done.stdout.str().replace(str(pytester.path), "").partition("collected")[2]


def test_nothing_is_written_where_nothing_was_recorded(pytester, session):
    pytester.makepyfile("def test_it(conformance): pass")
    done = session("--conformance-html=report.html")
    done.assert_outcomes(passed=1)
    done.stdout.fnmatch_lines(["no test recorded a case: *report.html is not written"])
    assert not (pytester.path / "report.html").exists()


def test_a_place_that_cannot_be_written_is_told_before_the_tests(pytester, session):
    pytester.makepyfile("def test_it(): pass")
    done = session("--conformance-html=nowhere/report.html")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["ERROR: *nowhere*report.html: cannot be written; give a file in a folder that exists"])


def test_what_a_test_recorded_is_reported_though_its_process_dies_later(pytester, session):
    pytester.makepyfile(test_norm=CHECKS + "\n\ndef test_zz_dies():\n    import os\n    os._exit(1)\n")
    done = session("-n", "1", "--conformance-json=run.json")
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    found = json.loads((pytester.path / "run.json").read_text())
    assert found["summary"] == {"conforms": 1, "diverges": 2}


def test_the_plugin_imports_pytest_alone():
    code = (
        "import sys, json, pytest\n"
        "before = set(sys.modules)\n"
        "import conformance_reports.pytest_plugin\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    brought = {m for m in json.loads(done.stdout) if m.partition(".")[0] not in sys.stdlib_module_names}
    assert brought == {"conformance_reports", "conformance_reports.pytest_plugin"}


def test_the_worst_subject_decides():
    def case(status, ratio=0.0):
        told = Deviation(ratio, 0.0, 0.0, [])
        step = StepResult(name="output", axes="", status=status, flags=[], found=None, isolated=told, accumulated=told)
        named = {"layer": "linear", "fixture": "linear", "adapter": "torch", "dtype": "float32"}
        return Case(subject=f"{status} {ratio}", status=status, steps=[step], **named)

    known, fine = case("known-divergence", 50.0), case("conforms", 0.5)
    off, far = case("diverges", 3.0), case("diverges", 9.0)
    left = case("unsupported")
    assert worst([left, fine, known]) is known
    assert worst([known, off, far, fine]) is far
    assert worst([left, fine]) is fine
    assert worst([case("error"), off]) is off


def test_workers_that_are_handed_in_are_kept():
    workers = Workers(1)
    try:
        processes = []
        for form in ("linear/plain", "softmax/inner-axis"):
            run(select([form]), ["onnxruntime"], ["float32"], executor=workers)
            processes.append(workers._workers["onnxruntime"].process.pid)
    finally:
        workers.shutdown(cancel_futures=True)
    assert processes[0] == processes[1]
    assert workers._workers == {}
