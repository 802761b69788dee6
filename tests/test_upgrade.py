import json

import pytest

from conformance import environment as environments
from conformance import upgrading
from conformance.cli import main
from conformance.errors import ConformanceError
from conformance.fixture import fixtures
from conformance.reading import read
from conformance.upgrading import concerned, side


def test_a_side_is_packages_in_one_version_each():
    assert side("onnxruntime==1.22.1").requirements == ["onnxruntime==1.22.1"]
    assert side(" Keras==3.3.3, jax==0.6.2,packaging ").requirements == ["keras==3.3.3", "jax==0.6.2", "packaging"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("onnxruntime>=1.22", "not one version of one package"),
        ("onnxruntime", "names no version"),
        ("", "names no version"),
        ("onnxruntime==1.22.1,onnxruntime==1.23", "named twice"),
        ("onnxruntime @ https://example.com/x.whl", "not one version of one package"),
        ("--index-url=x", "is no package and version"),
        ("../here", "is no package and version"),
    ],
)
def test_anything_else_is_refused_in_a_sentence(text, said):
    with pytest.raises(ConformanceError, match=said) as raised:
        side(text)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("packages", "adapters"),
    [
        ("onnxruntime==1.0", ["onnxruntime"]),
        ("onnx==1.0", ["onnxruntime"]),
        ("jax==1.0,flax==1.0", ["jax"]),
        ("torch==1.0,numpy==2.0", ["torch"]),
        ("keras==3.3.3,packaging", ["keras-jax"]),
        ("keras==3.3.3,torch==2.0", ["keras-torch", "torch"]),
        ("tensorflow==2.0", ["tensorflow"]),
    ],
)
def test_the_adapters_of_what_is_upgraded(packages, adapters):
    assert concerned(side(packages), side(packages)) == adapters


def test_a_package_that_no_adapter_is_for_is_refused():
    with pytest.raises(ConformanceError, match="did you mean 'onnxruntime'"):
        concerned(side("onnxruntme==1.0"), side("onnxruntme==1.1"))


def test_an_environment_that_is_there_needs_no_uv_and_a_broken_one_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("CONFORMANCE_CACHE", str(tmp_path))
    calls = []

    def uv(words, told):
        calls.append(words[0])
        if words[0] == "venv":
            python = environments.Path(words[-1]) / "bin" / "python"
            python.parent.mkdir(parents=True)
            python.touch()

    monkeypatch.setattr(environments, "_uv", uv)
    python = environments.environment(["onnx", "onnxruntime==1.22.1"])
    assert environments.environment(["onnxruntime==1.22.1", "onnx"]) == python
    assert calls == ["venv", "pip"]
    assert environments.environment(["onnxruntime==1.31.1", "onnx"]) != python
    (python.parent.parent / "conformance.json").unlink()  # it was stopped before its end
    assert environments.environment(["onnx", "onnxruntime==1.22.1"]) == python
    assert calls == ["venv", "pip"] * 3


def test_a_version_that_there_is_not_is_told_in_a_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CONFORMANCE_CACHE", str(tmp_path))
    assert main(["upgrade", "onnxruntime==0.0.1", "onnxruntime==1.31.1"]) == 2
    [sentence] = capsys.readouterr().err.strip().splitlines()
    assert sentence.startswith("conformance: uv cannot make an environment with onnx onnxruntime==0.0.1: ")


def test_a_real_upgrade(tmp_path, monkeypatch, capsys):
    """ONNX Runtime 1.22 normalises rows of a large mean wrongly in float32; 1.31 does not."""
    monkeypatch.setenv("CONFORMANCE_CACHE", str(tmp_path / "cache"))
    words = ["upgrade", "onnxruntime==1.22.1", "onnxruntime==1.31.1", "--fixture", "layer-norm", "--dtype", "float32"]
    files = [f"--{name}={tmp_path / name}" for name in ("json", "html", "markdown", "junit")]
    assert main([*words, *files]) == 0
    found = read(tmp_path / "json")
    assert found.versions["onnxruntime"] == ("1.22.1", "1.31.1")
    assert {c.fixture: c.change for c in found.cases if c.change != "drift"} == {"layer-norm/large-mean": "improved"}
    assert len(found.cases) == len([name for name in fixtures() if name.startswith("layer-norm/")])
    printed = capsys.readouterr().out
    assert "onnxruntime 1.22.1 -> 1.31.1" in printed
    assert json.loads((tmp_path / "json").read_text())["command"] == ["conformance", *words]

    # a second time, nothing is fetched: the environments are there
    def refused(*words, **options):
        raise AssertionError(f"uv was asked for {words}")

    monkeypatch.setattr(environments, "_uv", refused)
    assert upgrading.upgrade(*words[1:3], selection=words[3:]).changes == found.changes


def test_what_runs_in_an_environment_and_fails_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(upgrading, "environment", lambda requirements: environments.Path("/bin/false"))
    with pytest.raises(ConformanceError, match=r"with onnxruntime==1\.22\.1 nothing was run"):
        upgrading.upgrade("onnxruntime==1.22.1", "onnxruntime==1.31.1")
