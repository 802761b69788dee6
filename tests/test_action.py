"""The action for CI: its form, and its scripts, run as a runner of GitHub's runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

ACTION = Path(__file__).resolve().parents[1] / ".ci" / "action.yml"

# Stands where the command would: it notes what it is given, and writes what it is asked for.
COMMAND = f"""#!{sys.executable}
import json, os, sys
from pathlib import Path

Path("given.json").write_text(json.dumps(sys.argv[1:]))
code = int(os.environ["CODE"])
if code != 2:
    options = dict(zip(sys.argv, sys.argv[1:]))
    for name in ("--html", "--markdown", "--junit"):
        Path(options[name]).write_text(f"{{name}} of the run\\n")
sys.exit(code)
"""


@pytest.fixture
def action():
    return yaml.safe_load(ACTION.read_text(encoding="utf-8"))


@pytest.fixture
def runner(action, tmp_path):
    """Runs a step's script as `shell: bash` does, with inputs in the place of the expressions."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "conformance").write_text(COMMAND)
    (tools / "python").symlink_to(sys.executable)
    (tools / "conformance").chmod(0o755)
    summary, output = tmp_path / "summary.md", tmp_path / "output"
    summary.write_text("What an earlier step wrote\n")

    def run(number, code=0, **given):
        step = action["runs"]["steps"][number]
        inputs = {name: said["default"] for name, said in action["inputs"].items()} | given
        variables = {}
        for name, value in step["env"].items():
            assert value.startswith("${{ inputs.")
            variables[name] = inputs[value.removeprefix("${{ inputs.").removesuffix(" }}")]
        environment = {
            **os.environ,
            **variables,
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "CODE": str(code),
            "GITHUB_STEP_SUMMARY": str(summary),
            "GITHUB_OUTPUT": str(output),
            "GITHUB_ACTION_PATH": str(ACTION.parent),
        }
        script = tmp_path / "step.sh"
        script.write_text(step["run"])
        words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
        return subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return run


def test_it_is_a_composite_action(action):
    assert set(action) == {"name", "description", "inputs", "outputs", "runs"}
    assert action["runs"]["using"] == "composite"
    assert all({"name", "shell", "run"} <= set(step) for step in action["runs"]["steps"])
    assert all(set(said) == {"description", "default"} for said in action["inputs"].values())
    assert all(set(said) == {"description", "value"} for said in action["outputs"].values())


def test_no_input_is_pasted_into_a_script(action):
    assert [step["name"] for step in action["runs"]["steps"] if "${{" in step["run"]] == []


@pytest.mark.parametrize("code", [0, 1, 3])
def test_the_summary_has_the_report_and_the_exit_code_is_kept(runner, tmp_path, code):
    done = runner(1, code, arguments="--adapter torch")
    assert done.returncode == code, done.stderr
    assert (tmp_path / "summary.md").read_text() == "What an earlier step wrote\n--markdown of the run\n"
    assert (tmp_path / "output").read_text() == f"exit-code={code}\n"
    assert sorted(p.name for p in (tmp_path / "conformance-reports").iterdir()) == [
        "junit.xml",
        "report.html",
        "report.md",
    ]


def test_with_the_command_itself(runner, tmp_path):
    (tmp_path / "bin" / "conformance").unlink()
    (tmp_path / "bin" / "conformance").symlink_to(Path(sys.executable).with_name("conformance"))
    done = runner(1, arguments="--fixture linear/plain --adapter onnxruntime --dtype float32")
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "conformance-reports" / "report.md").read_text(encoding="utf-8")
    assert "onnxruntime" in written
    assert (tmp_path / "summary.md").read_text(encoding="utf-8") == f"What an earlier step wrote\n{written}"
    cases = ElementTree.parse(tmp_path / "conformance-reports" / "junit.xml").iter("testcase")
    assert len(list(cases)) >= 1
    assert runner(1, arguments="--fixture linaer").returncode == 2


def test_bad_usage_has_no_report_and_its_exit_code(runner, tmp_path):
    assert runner(1, 2).returncode == 2
    assert (tmp_path / "summary.md").read_text() == "What an earlier step wrote\n"


def test_arguments_are_split_as_in_a_shell_and_never_run(runner, tmp_path):
    arguments = "'my model.onnx' --layer linear\n--config \"epsilon=1e-3\" $(touch run) ; `touch run` $HOME *"
    assert runner(1, command="check", arguments=arguments, reports="a folder").returncode == 0
    given = json.loads((tmp_path / "given.json").read_text())
    assert given == [
        *("check", "my model.onnx", "--layer", "linear", "--config", "epsilon=1e-3"),
        *("$(touch", "run)", ";", "`touch", "run`", "$HOME", "*"),
        *("--html", "a folder/report.html", "--markdown", "a folder/report.md", "--junit", "a folder/junit.xml"),
    ]
    assert not (tmp_path / "run").exists()


def test_arguments_that_are_no_words_stop_it(runner, tmp_path):
    done = runner(1, arguments="'unclosed")
    assert done.returncode != 0
    assert not (tmp_path / "given.json").exists()


@pytest.mark.parametrize(("extras", "ending"), [("", ""), ("torch,jax", "[torch,jax]")])
def test_the_package_beside_it_is_installed(runner, tmp_path, extras, ending):
    (tmp_path / "bin" / "python").unlink()
    noting = tmp_path / "bin" / "python"
    noting.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > given\n')
    noting.chmod(0o755)
    assert runner(0, extras=extras).returncode == 0
    source = ACTION.parents[1]
    assert (source / "pyproject.toml").is_file()
    assert (tmp_path / "given").read_text().splitlines() == ["-m", "pip", "install", f"{source}{ending}"]
