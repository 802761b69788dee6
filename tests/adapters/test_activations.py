"""Activations in PyTorch, JAX, Flax and ONNX: their options are read, and what is written out is known again."""

from functools import partial

import jax
import numpy as np
import onnx
import pytest
import torch
from flax import linen, nnx
from onnx import parser
from torch import nn

from conformance.checking import check, check_model

X = np.random.default_rng(0).normal(size=(4, 6, 5)) * 3


def judged(case):
    return case.status, case.config


MODULES = [
    (nn.ReLU(inplace=True), "relu", {}),
    (nn.LeakyReLU(0.3, inplace=True), "leaky_relu", {"slope": 0.3}),
    (nn.ELU(0.5, inplace=True), "elu", {"alpha": 0.5}),
    (nn.SELU(inplace=True), "selu", {}),
    (nn.CELU(0.7), "celu", {"alpha": 0.7}),
    (nn.SiLU(inplace=True), "silu", {}),
    (nn.Mish(), "mish", {}),
    (nn.LogSigmoid(), "log_sigmoid", {}),
    (nn.Hardsigmoid(), "hard_sigmoid", {}),
    (nn.Hardswish(inplace=True), "hard_silu", {}),
    (nn.Softplus(), "softplus", {}),
    (nn.ReLU6(), "relu6", {}),
    (nn.GLU(1), "glu", {"axis": 1}),
    (nn.LogSoftmax(1), "log_softmax", {"axis": 1}),
    (nn.PReLU(), "prelu", {}),
]


@pytest.mark.parametrize(("module", "layer", "config"), MODULES, ids=lambda m: getattr(type(m), "__name__", str(m)))
def test_a_module_of_torch_is_known_with_its_options(module, layer, config):
    """In place or not: the inputs that were given stay as they are."""
    x = X.copy()
    assert judged(check(module, layer, inputs={"x": x}, dtype="float32")) == ("conforms", config)
    assert np.array_equal(x, X)


def test_a_slope_for_each_channel_is_along_the_last_axis_here():
    module = nn.PReLU(5)
    with torch.no_grad():
        module.weight.copy_(torch.linspace(-1, 1, 5))
    assert check(module, "prelu", inputs={"x": X}).status == "conforms"
    assert check(module, "leaky_relu", inputs={"x": X.swapaxes(1, 2)}, config={"slope": 0.25}).status == "diverges"


@pytest.mark.parametrize(
    ("module", "layer", "said"),
    [(nn.Softplus(beta=2), "softplus", "beta=2"), (nn.LogSoftmax(), "log_softmax", "without a dim")],
    ids=str,
)
def test_what_the_layer_has_not_is_unsupported(module, layer, said):
    case = check(module, layer, inputs={"x": X}, dtype="float32")
    assert case.status == "unsupported"
    assert said in case.message


def test_the_activations_of_a_model_are_judged_each_with_what_reached_it():
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.PReLU(6), nn.Conv2d(6, 4, 3), nn.LeakyReLU(0.1, inplace=True), nn.Flatten(), nn.GLU()
    )
    with torch.no_grad():
        model[1].weight.copy_(torch.linspace(-1, 1, 6))
    run = check_model(model, inputs={"input": np.random.default_rng(1).normal(size=(2, 3, 8, 8))})
    found = sorted((case.layer, case.status) for case in run.cases)
    assert found == [(n, "conforms") for n in ("conv2d", "conv2d", "flatten", "glu", "leaky_relu", "prelu")]


FUNCTIONS = [
    (jax.nn.relu, "relu", {}),
    (jax.nn.leaky_relu, "leaky_relu", {"slope": 0.01}),
    (partial(jax.nn.leaky_relu, negative_slope=0.3), "leaky_relu", {"slope": 0.3}),
    (partial(jax.nn.elu, alpha=0.5), "elu", {"alpha": 0.5}),
    (nnx.silu, "silu", {}),
    (linen.log_softmax, "log_softmax", {"axis": -1}),
    (partial(jax.nn.glu, axis=1), "glu", {"axis": 1}),
    (jax.nn.soft_sign, "softsign", {}),
    (nnx.PReLU(0.3), "prelu", {}),
    ((linen.PReLU(), {"params": {"negative_slope": jax.numpy.asarray(0.3)}}), "prelu", {}),
]


@pytest.mark.parametrize(("function", "layer", "config"), FUNCTIONS, ids=lambda f: f if isinstance(f, str) else "")
def test_a_function_of_jax_is_known_with_its_options(function, layer, config):
    assert judged(check(function, layer, inputs={"x": X}, dtype="float32")) == ("conforms", config)


def graph(body: str, opset: int = 22) -> onnx.ModelProto:
    signature = "float[N, 6] x) => (float[N, 6] y"
    imports = f'"" : {opset}, "com.microsoft" : 1'
    return parser.parse_model(f"<ir_version: 10, opset_import: [{imports}]> g ({signature}) {{ {body} }}")


GRAPHS = [
    ("y = Relu(x)", "relu", {}),
    ("y = LeakyRelu <alpha = 0.5> (x)", "leaky_relu", {"slope": 0.5}),
    ("y = LeakyRelu (x)", "leaky_relu", {"slope": float(np.float32(0.01))}),
    ("y = Celu <alpha = 0.5> (x)", "celu", {"alpha": 0.5}),
    ("s = Sigmoid (x) y = Mul (x, s)", "silu", {}),
    ("s = Sigmoid (x) y = Mul (s, x)", "silu", {}),
    ("y = com.microsoft.QuickGelu <alpha = 1.0> (x)", "silu", {}),
    ("y = com.microsoft.QuickGelu (x)", "gelu", {"approximation": "sigmoid"}),
    ("y = Sigmoid (x)", "sigmoid", {}),
    ("a = Softplus (x) t = Tanh (a) y = Mul (t, x)", "mish", {}),
    ("y = HardSigmoid <alpha = 0.16666667> (x)", "hard_sigmoid", {}),
    (
        "a = Constant <value_float = 0.0> () b = Constant <value_float = 6.0> () y = Clip (x, a, b)",
        "relu6",
        {},
    ),
    ("s = Constant <value_floats = [0.5, -1.0, 2.0, 0.1, 0.2, 0.3]> () y = PRelu (x, s)", "prelu", {}),
    ("y = LogSoftmax <axis = 0> (x)", "log_softmax", {"axis": 0}),
]


@pytest.mark.parametrize(("body", "layer", "config"), GRAPHS)
def test_a_graph_of_onnx_is_known_with_its_options(body, layer, config):
    inputs = {"x": X[0].T}
    assert judged(check(graph(body), layer, inputs=inputs)) == ("conforms", config)
    (part,) = check_model(graph(body), inputs=inputs).cases  # what is a part of another is not one by itself
    assert (part.layer, *judged(part)) == (layer, "conforms", config)


def test_swish_of_opset_24_is_silu():
    assert check(graph("y = Swish (x)", 24), "silu", inputs={"x": X[0].T}).status == "conforms"
    beta = check(graph("y = Swish <alpha = 1.5> (x)", 24), "silu", inputs={"x": X[0].T})
    assert (beta.status, "alpha=1.5" in beta.message) == ("unsupported", True)


def test_the_default_slope_of_onnx_is_told():
    case = check(graph("y = HardSigmoid (x)"), "hard_sigmoid", inputs={"x": X[0].T})
    assert (case.status, case.culprit) == ("diverges", "output")
    assert [(d.convention, d.value) for d in case.diagnosis] == [("hard_sigmoid.form", "0.2x+0.5")]
