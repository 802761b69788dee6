"""Faults planted in a copy of a framework between two environments: the gate names them."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

KERAS = Path(find_spec("keras").submodule_search_locations[0])
ATTENTION = "src/layers/attention/multi_head_attention.py"
BOOLEAN = 'ops.cast(attention_mask, dtype="bool")'  # on the way to a fused kernel
PLANTED = [
    ("src/layers/normalization/layer_normalization.py", "epsilon=1e-3,", "epsilon=1e-5,"),
    ("src/activations/activations.py", "def gelu(x, approximate=False):", "def gelu(x, approximate=True):"),
    (ATTENTION, BOOLEAN, f"ops.logical_not({BOOLEAN})"),
    (ATTENTION, "mask=attention_mask)", "mask=None if attention_mask is None else ops.logical_not(attention_mask))"),
]
FIXTURES = (
    "layer-norm/defaults",
    "layer-norm/plain",
    "gelu/defaults",
    "gelu/none",
    "multi-head-attention/padding-mask",
)


def conformance(*words: str, copy: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ)
    if copy is not None:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(copy), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "conformance", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture(scope="module")
def gated(tmp_path_factory):
    """Every case of the gate, by fixture, and what the gate printed."""
    folder = tmp_path_factory.mktemp("planted")
    shutil.copytree(KERAS, folder / "keras")
    for name, was, now in PLANTED:
        file = folder / "keras" / name
        source = file.read_text(encoding="utf-8")
        assert source.count(was) == 1, name
        file.write_text(source.replace(was, now), encoding="utf-8")
    asked = [w for name in FIXTURES for w in ("--fixture", name)]
    asked += ["--adapter", "keras-jax", "--dtype", "float32"]
    before, now, said = (folder / n for n in ("before.json", "now.json", "gate.json"))
    assert conformance("run", *asked, "--json", str(before)).returncode == 0
    assert conformance("run", *asked, "--json", str(now), copy=folder).returncode == 1
    done = conformance("gate", "--baseline", str(before), "--candidate", str(now), "--json", str(said))
    assert done.returncode == 1
    return {c["fixture"]: c for c in json.loads(said.read_text())["cases"]}, done.stdout


@pytest.mark.parametrize(
    ("fixture", "moved"),
    [
        ("layer-norm/defaults", ("norm.epsilon", "normalized", "0.001", "1e-05")),
        ("gelu/defaults", ("gelu.approximation", "output", "none", "tanh")),
        ("multi-head-attention/padding-mask", ("attention.mask-polarity", "masked", "true-attends", "true-blocks")),
    ],
)
def test_what_changed_is_named_with_both_values(gated, fixture, moved):
    cases, printed = gated
    assert cases[fixture]["change"] == "changed-default"
    found = cases[fixture]["moved"]  # of the mask, what fills it shows too: a sample is masked throughout now
    assert moved in [(m["convention"], m["step"], m["before"], m["now"]) for m in found]
    assert f"{moved[0]} at {moved[1]}: {moved[2]} before, {moved[3]} now" in printed


@pytest.mark.parametrize("fixture", ["layer-norm/plain", "gelu/none"])
def test_a_layer_that_says_what_it_wants_is_as_before(gated, fixture):
    cases, _ = gated
    assert cases[fixture]["change"] == "identical"
    assert not cases[fixture]["moved"]
