"""The command line, as a user runs it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conformance import __version__
from third_party_adapter import ENTRY_POINTS, frame  # noqa: F401  # a fixture


def conformance(*words, cwd=None, **environment):
    return subprocess.run(
        [sys.executable, "-m", "conformance", *words],
        capture_output=True, text=True, cwd=cwd, env={**os.environ, "COLUMNS": "100", **environment},
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def refused(*words, **options):
    """The one sentence that a refusal is."""
    done = conformance(*words, **options)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    (sentence,) = done.stderr.strip().splitlines()
    assert sentence.startswith("conformance: ")
    return sentence.removeprefix("conformance: ")


def shown(*words):
    done = conformance(*words)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# -- looking around -----------------------------------------------------------------------------------------


def test_help_names_every_command():
    for words in (["--help"], ["-h"], []):
        said = shown(*words)
        assert all(re.search(rf"^\s+{command}\s", said, re.MULTILINE) for command in ("run", "list", "explain"))


def test_a_commands_help_names_its_options():
    said = shown("run", "--help")
    for option in ("--layer", "--adapter", "--fixture", "--dtype", "--jobs", "--timeout", "--json", "--html"):
        assert option in said
    assert "Exit code" in said


def test_the_version():
    assert shown("--version") == f"conformance {__version__}\n"


@pytest.mark.parametrize(
    ("what", "some"),
    [
        ("layers", ["linear", "multi_head_attention", "sequential"]),
        ("adapters", ["torch", "keras-jax", "onnxruntime", "matlab"]),
        ("fixtures", ["linear", "matlab-self-attention", "illustrated-self-attention"]),
        ("conventions", ["attention.scale", "lstm.gate-order", "1/sqrt(model_dim)"]),
        ("divergences", ["layer-norm/large-mean"]),
        ("discrimination", ["attention.scale", "multi-head-attention/softcap", "seen first at"]),
    ],
)
def test_lists(what, some):
    said = shown("list", what)
    assert all(name in said for name in some)
    assert max(map(len, said.splitlines())) <= 120


def test_a_layer_is_explained():
    said = shown("explain", "multi_head_attention")
    for word in ("Vaswani", "query_kernel", "kv_heads", "scores", "batch head query key", "attention.head-split"):
        assert word in said


def test_explain_has_each_choice_with_its_formula_once_and_fits_80_columns():
    said = shown("explain", "multi_head_attention")
    assert (
        "        attention.scale\n"
        "            1/sqrt(head_dim)   scaled = scores / sqrt(head_dim)\n"
        "            1                  scaled = scores\n"
    ) in said
    assert "            <other>            scaled = scores * <other>\n" in said
    assert said.count("scaled = scores / sqrt(head_dim)") == 1
    assert "        as above: attention.softcap\n" in said
    assert max(map(len, said.splitlines())) < 80


@pytest.mark.parametrize("layer", ["linear", "softmax", "lstm", "conv2d", "sequential"])
def test_every_kind_of_layer_can_be_explained(layer):
    assert layer in shown("explain", layer)


# -- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--layer", "liner"], "unknown layer 'liner' (did you mean 'linear'?)"),
        (["run", "--adapter", "pytorch"], "unknown adapter 'pytorch' (did you mean 'torch'?)"),
        (["run", "--fixture", "linaer"], "unknown fixture 'linaer' (did you mean 'linear'?)"),
        (["run", "--dtype", "float31"], "unknown dtype 'float31' (did you mean 'float32'?)"),
        (["explain", "softmx"], "unknown layer 'softmx' (did you mean 'softmax'?)"),
        (["list", "layer"], "'layer' (did you mean 'layers'?)"),
        (["rnu"], "'rnu' (did you mean 'run'?)"),
        (["run", "--adaptor", "torch"], "--adaptor"),
        (["run", "--jobs", "0"], "--jobs"),
        (["run", "--jobs", "two"], "--jobs"),
        (["run", "--timeout", "-1"], "--timeout"),
        (["run", "--timeout", "nan"], "--timeout"),
        (["run", "--layer"], "--layer"),
        (["explain"], "LAYER"),
        (["run", "surplus"], "surplus"),
    ],
)
def test_bad_usage_is_one_sentence(words, said):
    assert said in refused(*words)


def test_a_traceback_is_shown_to_who_asks():
    for words in (["run", "--debug", "--layer", "liner"], ["--debug", "explain", "softmx"]):
        done = conformance(*words)
        assert done.returncode != 0
        assert "Traceback" in done.stderr
        assert "ConformanceError: unknown layer" in done.stderr


@pytest.mark.parametrize("option", ["--json", "--html", "--junit", "--markdown"])
def test_a_file_that_cannot_be_written_is_refused_before_the_work(option, tmp_path):
    """torch would take seconds to start; it is not."""
    missing = tmp_path / "nowhere" / "run.out"
    words = ["run", "--adapter", "torch", "--fixture", "linear", option]
    assert refused(*words, str(missing)).startswith(f"{missing}: ")
    assert refused(*words, str(tmp_path)).startswith(f"{tmp_path}: ")
    assert list(tmp_path.iterdir()) == []


def test_what_nobody_foresaw_is_a_sentence_too(frame, tmp_path):  # noqa: F811
    module = tmp_path / "third-party" / "frame_adapter.py"
    module.write_text(module.read_text() + "\nclass Odd:\n    name = 'odd'\n")
    (tmp_path / "third-party" / "frame_adapter-1.0.dist-info" / "entry_points.txt").write_text(
        ENTRY_POINTS + "odd = frame_adapter:Odd\n"
    )
    done = conformance("run", "--adapter", "odd", "--fixture", "linear")
    assert done.returncode not in (0, 1)
    assert "Traceback" not in done.stderr
    assert "requires" in done.stderr
    assert "--debug" in done.stderr
    assert "Traceback" in conformance("run", "--adapter", "odd", "--fixture", "linear", "--debug").stderr


# -- running ------------------------------------------------------------------------------------------------


def test_a_run_writes_what_the_contract_says(tmp_path):
    file = tmp_path / "run.json"
    done = conformance("run", "--adapter", "torch", "--fixture", "linear", "--dtype", "float32", "--json", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert "conform" in done.stdout
    assert "\x1b" not in done.stdout  # no colours where nobody sees them
    made = json.loads(file.read_text())
    assert list(tmp_path.iterdir()) == [file]
    assert {"schema", "conformance", "environment", "started", "seconds", "summary", "cases"} <= set(made)
    assert (made["schema"], made["conformance"]) == (1, __version__)
    assert made["summary"] == {"conforms": len(made["cases"])}
    assert {"python", "numpy", "torch"} <= set(made["environment"])
    case = made["cases"][0]
    assert {"layer", "fixture", "adapter", "mode", "dtype", "device", "status", "culprit", "culprit_until", "seconds",
            "message", "layouts", "diagnosis", "steps", "config", "shapes", "output"} <= set(case)  # fmt: skip
    assert (case["layer"], case["adapter"], case["mode"], case["dtype"], case["device"], case["status"]) == (
        "linear", "torch", "eager", "float32", "cpu", "conforms"
    )  # fmt: skip
    step = case["steps"][0]
    assert set(step) == {"name", "axes", "status", "flags", "found", "isolated", "accumulated", "reads", "sample"}
    assert made["command"] == [
        *("conformance", "run", "--adapter", "torch", "--fixture", "linear", "--dtype", "float32"),
    ]  # without the files
    assert set(step["found"]) == {"operation", "position", "axes"}
    assert step["found"]["operation"].startswith("aten.")
    for figures in (step["isolated"], step["accumulated"]):
        assert set(figures) == {"ratio", "max_abs", "max_rel", "at"}
        assert 0 < figures["ratio"] <= 1
        assert len(figures["at"]) == len(step["axes"].split())


@pytest.mark.parametrize(
    ("subject", "code"),
    [("fine", 0), ("wrong", 1), ("exit", 3), ("raise", 3), ("unsupported", 0), ("wrong,exit", 1), ("fine,kill", 3)],
)
def test_exit_codes(frame, monkeypatch, tmp_path, subject, code):  # noqa: F811
    monkeypatch.setenv("FRAME_SUBJECTS", subject)
    file = tmp_path / "run.json"
    done = conformance(
        "run", "--adapter", "frame", "--fixture", "linear/no-bias", "--dtype", "float32", "--json", str(file)
    )
    assert done.returncode == code
    assert "Traceback" not in done.stderr + done.stdout
    assert {c["subject"] for c in json.loads(file.read_text())["cases"]} == set(subject.split(","))


def test_a_framework_that_hangs_ends_in_time(frame, monkeypatch):  # noqa: F811
    monkeypatch.setenv("FRAME_SUBJECTS", "hang")
    done = conformance(
        "run", "--adapter", "frame", "--fixture", "linear/no-bias", "--dtype", "float32", "--timeout", "2"
    )
    assert done.returncode == 3
    assert "no answer within 2 s" in done.stdout


def test_what_is_unavailable_is_a_failure_where_it_was_asked_for(frame):  # noqa: F811
    done = conformance("run", "--adapter", "absent", "--fixture", "linear/no-bias")
    assert done.returncode == 3
    assert "not installed" in done.stdout


def test_a_folder_with_names_of_frameworks_does_no_harm(tmp_path):
    """Run from a folder that has a torch.py and a numpy.py of the user's own."""
    for name in ("torch", "numpy", "json"):
        Path(tmp_path, f"{name}.py").write_text("raise SystemExit('the wrong module')\n")
    script = Path(sys.executable).with_name("conformance")
    words = [script, "run", "--adapter", "torch", "--fixture", "linear/no-bias", "--dtype", "float32"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, stdin=subprocess.DEVNULL, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("what", ["layers", "conventions"])
def test_a_reader_that_has_seen_enough(what):
    """Whether it stops before the first line, which a buffer holds back, or in the middle."""
    words = [sys.executable, "-m", "conformance", "list", what]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""


# -- diff --------------------------------------------------------------------------------------------------------------
def test_diff_says_which_file_is_missing_and_where_it_cannot_write(tmp_path):
    assert "a.onnx: there is no such file" in refused("diff", tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert "cannot be written" in refused("diff", "a.onnx", "b.onnx", "--json", tmp_path / "no" / "x.json")


def test_diff_ends_with_1_where_models_part_and_writes_its_reports(tmp_path):
    model = "import torch\ntorch.manual_seed(0)\na = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh())\n"
    (tmp_path / "models.py").write_text(model + "b = torch.nn.Sequential(a[0], torch.nn.ReLU())\nprint('hello')\n")
    files = ("--json", "d.json", "--html", "d.html", "--junit", "d.xml", "--markdown", "d.md")
    done = conformance("diff", "models.py:a", "models.py:b", *files, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("The two models part at aten.tanh.default in 1.\n")
    written = json.loads((tmp_path / "d.json").read_text())
    assert (written["status"], written["first"]["b"]["operation"]) == ("parts", "aten.relu.default")
    assert "<h1>The two models part" in (tmp_path / "d.html").read_text()
    assert 'message="The two models part at' in (tmp_path / "d.xml").read_text()
    assert (tmp_path / "d.md").read_text().startswith("### The two models part at `aten.tanh.default` in `1`.\n")
    assert conformance("report", "d.json", cwd=tmp_path).stdout == done.stdout
    assert conformance("diff", "models.py:a", "models.py:a", cwd=tmp_path).returncode == 0


# -- report ------------------------------------------------------------------------------------------------------------
def test_a_run_that_is_reported_again_is_the_same(frame, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.setenv("FRAME_SUBJECTS", "fine,wrong")
    files = {"--json": "r.json", "--html": "r.html", "--junit": "r.xml", "--markdown": "r.md"}
    words = [word for pair in files.items() for word in pair]
    select = ["--adapter", "frame", "--fixture", "linear/no-bias", "--dtype", "float32"]
    first = conformance("run", *select, *words, cwd=tmp_path)
    assert first.returncode == 1, first.stderr
    assert "<failure" in (tmp_path / "r.xml").read_text()
    assert (tmp_path / "r.md").read_text().startswith("### 1 of 2 cases diverges.\n")
    written = {name: (tmp_path / name).read_bytes() for name in files.values()}
    again = conformance("report", "r.json", cwd=tmp_path)
    assert (again.returncode, again.stderr, again.stdout) == (0, "", first.stdout)
    silent = conformance("report", "r.json", *words, cwd=tmp_path)
    assert (silent.returncode, silent.stderr, silent.stdout) == (0, "", "")
    assert {name: (tmp_path / name).read_bytes() for name in files.values()} == written


def test_report_refuses_what_is_no_result(tmp_path):
    (tmp_path / "deep.json").write_text('{"schema": 1, "x": ' + "[" * 10**6)
    assert "no such file" in refused("report", tmp_path / "absent.json")
    assert "nested too deeply" in refused("report", tmp_path / "deep.json", "--html", tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()
    assert "cannot be written" in refused("report", tmp_path / "deep.json", "--junit", tmp_path / "no" / "x.xml")
    assert "RUN" in refused("report")
