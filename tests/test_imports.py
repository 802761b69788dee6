"""Nothing heavy, and nothing of a plug-in, is imported before it is asked for."""

import json
import pkgutil
import subprocess
import sys

import pytest

import conformance
from conformance.adapter import adapter_names

FRAMEWORKS = {"torch", "tensorflow", "keras", "jax", "jaxlib", "flax", "onnx", "onnxruntime"}
PLUG_INS = {"conformance_adapters", "conformance_fixtures", "conformance_reports"}
CORE = sorted(
    m.name for m in pkgutil.walk_packages(conformance.__path__, "conformance.") if not m.name.endswith("__main__")
)


def imported(code):
    """The modules that are there after `code` ran in a Python of its own."""
    words = [sys.executable, "-c", f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def packages(modules):
    return {name.partition(".")[0] for name in modules}


def test_the_core_needs_no_framework_and_no_plug_in():
    assert {"conformance.cli", "conformance.run", "conformance.judge", "conformance.layers.attention"} <= set(CORE)
    found = imported("\n".join(f"import {name}" for name in CORE))
    assert packages(found) & (FRAMEWORKS | PLUG_INS) == set()


def test_a_layer_is_imported_when_it_is_asked_for():
    found = imported("from conformance.layers import get_layer\nget_layer('softmax')")
    assert "conformance.layers.softmax" in found
    assert "conformance.layers.attention" not in found


@pytest.mark.parametrize("module", ["conformance", "conformance.cli"])
def test_the_way_in_is_light(module):
    found = packages(imported(f"import {module}"))
    assert found & {"numpy", "scipy", "h5py", "rich", "msgspec", "einops", "safetensors", "jinja2"} == set()


def test_the_oracle_needs_numpy_alone():
    code = """
import numpy as np
from conformance.flow import Flow
from conformance.layers import get_layer
flow = Flow.bind(get_layer("softmax"), {}, {"x": np.ones((2, 3))}, {})
assert [v.shape for _, v in flow.run(None)] == [(2, 3), (2, 3), (2, 1), (2, 3)]
"""
    found = packages(imported(code))
    assert found & (FRAMEWORKS | PLUG_INS | {"scipy", "h5py", "rich", "jinja2", "einops", "safetensors"}) == set()


def test_every_adapter_can_be_asked_what_it_has_without_its_framework():
    code = """
import numpy as np
from conformance.adapter import adapter_names, load
from conformance.errors import Unsupported
from conformance.trace import Request
from conformance.layers import get_layer
for name in adapter_names():
    adapter = load(name)
    assert adapter.name == name
    arrays = {"x": np.ones((2, 3))}, {"kernel": np.ones((3, 4))}
    request = Request("linear", "", dict(get_layer("linear").config), *arrays)
    try:
        adapter.subjects(request)
    except Unsupported:
        pass
"""
    assert len(adapter_names()) >= 8
    assert packages(imported(code)) & FRAMEWORKS == set()


@pytest.mark.parametrize("name", adapter_names())
def test_an_adapter_brings_no_other(name):
    loaded = imported(f"from conformance.adapter import load\nload({name!r})")
    assert packages(loaded) & FRAMEWORKS == set()
    entries = {"torch_nn", "keras_layers", "tensorflow_ops", "jax_flax", "onnx_runtime", "matlab_mat"}
    mine = {m.removeprefix("conformance_adapters.") for m in loaded if m.startswith("conformance_adapters.")} & entries
    assert len(mine) == 1


def test_a_report_brings_no_other():
    found = imported("from conformance.report import load\nload('json')")
    assert "conformance_reports.json_file" in found
    assert "conformance_reports.html_page" not in found
    assert packages(found) & (FRAMEWORKS | {"jinja2"}) == set()


def test_fixtures_are_listed_without_an_adapter():
    found = packages(imported("from conformance.fixture import fixtures\nassert fixtures()"))
    assert found & (FRAMEWORKS | {"conformance_adapters", "conformance_reports"}) == set()


@pytest.mark.parametrize(
    ("framework", "subject"),
    [
        ("torch", "import torch\nsubject = torch.nn.GELU()"),
        ("jax", "import jax\nsubject = jax.jit(lambda x: jax.nn.gelu(x, approximate=False))"),
        ("onnx", "subject = 'gelu.onnx'"),
    ],
)
def test_a_live_object_needs_its_own_framework_alone(framework, subject, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if framework == "onnx":
        from onnx import TensorProto, helper, save

        made = [helper.make_tensor_value_info(n, TensorProto.FLOAT, (2, 3)) for n in ("x", "y")]
        graph = helper.make_graph([helper.make_node("Gelu", ["x"], ["y"])], "gelu", made[:1], made[1:])
        save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), "gelu.onnx")
    checked = f"{subject}\nimport conformance\nassert conformance.check(subject, 'gelu').status == 'conforms'"
    own = {"torch": {"torch"}, "jax": {"jax", "jaxlib", "flax"}, "onnx": {"onnx", "onnxruntime"}}[framework]
    found = packages(imported(checked)) & FRAMEWORKS
    assert found - own == set()
    assert framework in found
