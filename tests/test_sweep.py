"""The sweep of configurations: what it draws, that it finds what is there, and that its explanations hold."""

import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from conformance.layers import layer_names
from conformance.reproductions import reproductions

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
COMPOSITES = {"feed_forward", "sequential", "transformer_encoder_layer", "transformer_decoder_layer"}


@pytest.fixture
def sweep(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import sweep

    return sweep


def swept(*options, explained=None):
    command = [sys.executable, str(BENCHMARKS / "sweep.py"), "--check", *options]
    command += [] if explained is None else ["--explained", str(explained)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_layer_has_a_grid(sweep):
    assert set(layer_names()) - set(sweep.GRIDS) == COMPOSITES


def test_every_value_of_every_choice_comes_up(sweep):
    grid = sweep.GRIDS["max_pool2d"]
    names = [drawn.id for drawn in sweep.configurations(grid, 30, seed=1)]
    assert len(names) == len(set(names)) == 30
    for key, values in grid.choices.items():
        met = {word for name in names for word in name.partition("/")[2].split(",") if word.startswith(f"{key}=")}
        assert len(met) == len(values), key


def test_the_same_seed_draws_the_same(sweep):
    one, two = ([*sweep.configurations(sweep.GRIDS["lstm"], 5, seed=7)] for _ in range(2))
    assert [a.id for a in one] == [a.id for a in two]
    for a, b in zip(one, two, strict=True):
        assert list(a.made) == list(b.made)
        assert all(np.array_equal(a.made[n], b.made[n], equal_nan=True) for n in a.made)
    assert [a.id for a in sweep.configurations(sweep.GRIDS["lstm"], 5, seed=8)] != [a.id for a in one]


def test_what_is_there_is_found_and_has_its_explanation(tmp_path):
    (tmp_path / "nothing.toml").touch()
    asked = ("--layer", "pad", "--adapter", "keras-torch", "--dtype", "float32", "--most", "40")
    found = swept(*asked, explained=tmp_path / "nothing.toml")
    assert found.returncode == 1, found.stdout + found.stderr
    assert "diverges: keras.ops.pad (pad, keras-torch, float32) at output: pad.mode = replicate" in found.stdout
    explained = swept(*asked)
    assert explained.returncode == 0, explained.stdout + explained.stderr
    assert "explained" in explained.stdout


def test_every_script_that_explains_is_there():
    explanations = tomllib.loads((BENCHMARKS / "sweep.toml").read_text(encoding="utf-8"))["explanation"]
    scripts = {one.script for one in reproductions("conformance_adapters")}
    assert {e["script"] for e in explanations if "script" in e} <= scripts
