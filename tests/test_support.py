"""The support matrix: who has which layer."""

from functools import cache

import pytest

from conformance.adapter import load
from conformance.cli import main
from conformance.errors import Unsupported
from conformance.figures import informative
from conformance.fixture import Fixture, fixtures
from conformance.flow import Flow
from conformance.layers import get_layer
from conformance.model import RoundingModel
from conformance.precision import PRECISIONS
from conformance.support import BOTH, INTO, OUT, support
from conformance.trace import Request

OWN = ("jax", "keras-jax", "keras-tensorflow", "keras-torch", "matlab", "onnxruntime", "tensorflow", "torch")


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


@pytest.mark.parametrize("layer", ["sinusoidal_position", "alibi"])
def test_a_layer_that_no_framework_has_says_so(layer, capsys):
    assert [adapter for adapter in OWN if found(adapter)[layer].subjects] == []
    assert main(["list", "layers"]) == 0
    listed = capsys.readouterr().out
    assert "[no framework has its own]" in listed[listed.index(f"\n{layer} ") :].partition("]")[0] + "]"


def test_the_forms_of_each_dtype_are_counted():
    forms = found("tensorflow")["resize"].by_dtype  # tf.image.resize gives float32, whatever it is given
    assert forms["float32"] > forms["float64"] == forms["bfloat16"] == forms["float16"] > 0
    assert found("onnxruntime")["sequential"].by_dtype["bfloat16"] == 0


@pytest.mark.parametrize(
    ("adapter", "layer", "ways"),
    [("torch", "linear", BOTH), ("torch", "relu", ""), ("matlab", "sequential", OUT), ("matlab", "lstm", BOTH)],
)
def test_which_way_weights_go(adapter, layer, ways):
    assert found(adapter)[layer].weights == ways


class OneWay:
    """An adapter as a third party may write it: nothing is read back."""

    name = "one-way"

    def subjects(self, request: Request) -> list[str]:
        if request.layer != "linear":
            raise Unsupported("nothing else")
        return ["theirs"]


def test_an_adapter_that_reads_nothing_back():
    linear = {s.layer: s for s in support([OneWay()], fixtures().values())}["linear"]
    assert (linear.subjects, linear.weights) == (("theirs",), INTO)


@cache
def asked(fixture: str, dtype: str) -> tuple[Request, bool]:
    """What a fixture's form asks in a dtype, and whether its output can be judged there."""
    form, number = fixtures()[fixture], PRECISIONS[dtype]
    inputs, weights = ({n: number.round(a) for n, a in given.items()} for given in form.load())
    config = {} if form.layer == "sequential" else form.config
    flow = Flow.bind(get_layer(form.layer, form.config), config, inputs, weights)
    *_, (_, output) = flow.run(RoundingModel(number))
    return Request(form.layer, "", flow.config, inputs, weights, dtype), informative(output)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", OWN)
def test_each_layer_has_a_form_of_which_a_half_format_tells_something(name, dtype):
    adapter = load(name)

    def runs(fixture: Fixture) -> bool:
        try:
            return bool(adapter.subjects(asked(fixture.id, dtype)[0]))
        except Unsupported:
            return False

    there = [f for f in fixtures().values() if runs(f)]
    assert {f.layer for f in there} == {f.layer for f in there if asked(f.id, dtype)[1]}


def test_a_fixtures_own_subject_counts():
    assert "recorded.mat" in found("matlab")["multi_head_attention"].subjects


def test_the_list_of_layers_says_who_has_them(capsys):
    main(["list", "layers"])
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    said = " ".join(text.split())
    everyone = "jax, keras-jax, keras-tensorflow, keras-torch, onnxruntime, tensorflow, torch"
    assert f"An affine map of the last axis. [{everyone}]" in said
