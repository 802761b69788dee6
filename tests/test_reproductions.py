"""Every reproduction is run, in a process of its own, and still shows what the index says."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.adapter import adapter_names, module_of
from conformance.divergences import listed
from conformance.errors import ConformanceError
from conformance.layers import layer_names
from conformance.reproductions import claim, reproductions, source

PACKAGE = "conformance_adapters"
FOLDER = Path(__file__).parents[1] / "adapters" / PACKAGE / "reproductions"
INDEX = {one.script: one for one in reproductions(PACKAGE)}
WITHOUT_ORACLE = {"lp_pool", "shrink", "squareplus", "unit_norm"}  # which some frameworks have, and conformance has not


def run(script: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    environment.pop("KERAS_BACKEND", None)
    command = [sys.executable, str(script)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("script", INDEX)
def test_it_still_diverges(script):
    one = INDEX[script]
    for package in one.versions:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    done = run(FOLDER / script)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    printed = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert list(printed) == ["versions", "expected", "got"]
    assert printed["got"] != printed["expected"]
    numbers = [re.findall(r"[-+.\w]+", text) for text in (printed["expected"], one.expected)]
    assert len(numbers[0]) == len(numbers[1])
    for now, then in zip(*numbers, strict=True):
        assert float(now) == pytest.approx(float(then), rel=1e-3, abs=1e-30, nan_ok=True)


def test_one_that_no_longer_does_says_so(tmp_path):
    mended = source(PACKAGE, "torch_softplus_float64.py").replace("dtype", "").replace("got = ", "got = expected  # ")
    (tmp_path / "mended.py").write_text(mended, encoding="utf-8")
    done = run(tmp_path / "mended.py")
    assert done.returncode == 1
    assert "no longer reproduces" in done.stderr


def test_every_script_is_in_the_index_and_every_entry_has_its_script():
    assert sorted(INDEX) == sorted(path.name for path in FOLDER.glob("*.py"))
    named = {entry.script for name in adapter_names() for entry in listed(name, module_of(name)) if entry.script}
    assert named <= set(INDEX)


@pytest.mark.parametrize("script", INDEX)
def test_it_needs_the_framework_alone(script):
    one, text = INDEX[script], source(PACKAGE, script)
    assert claim(text).endswith(".")
    assert "https://" in text
    assert "conformance" not in text
    assert len(text.splitlines()) <= 40
    assert one.layer in {*layer_names(), *WITHOUT_ORACLE}
    standard = {"sys", "os", "io", "math", "warnings", "subprocess"}
    imported = set(re.findall(r"^(?:import|from) (\w+)", text, re.M))
    assert imported - standard - {"numpy", "onnx"} <= set(one.versions)


@pytest.mark.parametrize("script", INDEX)
def test_it_says_what_confirms_it_and_who_knows(script):
    one = INDEX[script]
    assert one.confirmed
    assert not (one.issue and one.searched)
    links = [link for link in (one.issue, one.related) if link]
    assert all(re.fullmatch(r"https://github.com/[\w-]+/[\w.-]+/(?:issues|pull)/\d+", link) for link in links)
    if one.shares:
        assert not INDEX[one.shares].shares
        assert set(INDEX[one.shares].versions) & set(one.versions)  # of the same framework


def test_an_index_that_is_not_right(tmp_path, monkeypatch):
    package = tmp_path / "wrong_package"
    (package / "reproductions").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "reproductions" / "index.toml").write_text('[[reproduction]]\nscript = "a.py"\n', encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConformanceError, match=r"reproductions/index.toml.*script, layer, step"):
        reproductions("wrong_package")
