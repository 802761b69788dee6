"""The support matrix: who has which layer."""

import pytest

from conformance.adapter import load
from conformance.cli import main
from conformance.fixture import fixtures
from conformance.support import support


def found(adapter: str) -> dict:
    return {s.layer: s for s in support([load(adapter)], fixtures().values())}


def test_a_layer_has_its_frameworks_own_names_dtypes_and_forms():
    norm = found("torch")["layer_norm"]
    assert norm.subjects == ("torch.nn.LayerNorm",)
    assert norm.dtypes == ("float64", "float32", "bfloat16", "float16")
    assert norm.forms == norm.of == len([f for f in fixtures().values() if f.layer == "layer_norm"])


def test_what_a_framework_cannot_express_is_not_counted():
    gelu = found("onnxruntime")["gelu"]
    assert gelu.subjects == ("onnx.Gelu",)
    assert gelu.dtypes == ("float64", "float32", "float16")  # its Python API has no bfloat16
    conv = found("torch")["conv2d"]
    assert set(conv.subjects) == {"torch.nn.Conv2d", "torch.nn.ZeroPad2d + torch.nn.Conv2d"}


@pytest.mark.parametrize(("adapter", "layer"), [("tensorflow", "multi_head_attention"), ("matlab", "softmax")])
def test_a_layer_that_a_framework_does_not_have(adapter, layer):
    cell = found(adapter)[layer]
    assert (cell.subjects, cell.dtypes, cell.forms) == ((), (), 0)


def test_a_fixtures_own_subject_counts():
    assert "recorded.mat" in found("matlab")["multi_head_attention"].subjects


def test_the_list_of_layers_says_who_has_them(capsys):
    main(["list", "layers"])
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    said = " ".join(text.split())
    everyone = "jax, keras-jax, keras-tensorflow, keras-torch, onnxruntime, tensorflow, torch"
    assert f"An affine map of the last axis. [{everyone}]" in said
