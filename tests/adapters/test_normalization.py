"""RMS norm in every framework that has one: its output is the formula's, its weights come back, its config is read."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import onnx
import plain_formulas as plain
import pytest
import torch
from onnx import parser

import conformance
from conformance.adapter import load
from conformance.errors import Unsupported
from conformance.trace import Request


def rms_norm(x, epsilon, scale=1.0):
    return x / np.sqrt(np.square(x).mean(-1, keepdims=True) + epsilon) * scale


def request(layer, subject, x, weights, dtype, **config):
    return Request(layer, subject, config, {"x": x}, weights, dtype)


def subjects(adapter, layer):
    return [s.name for s in load(adapter).table if s.layer == layer]


HERE = [(adapter, name) for adapter in ("torch", "jax", "onnxruntime") for name in subjects(adapter, "rms_norm")]


@pytest.mark.parametrize("weights", [{"scale": plain.values("float32", 1, 7)}, {}], ids=["scale", "none"])
@pytest.mark.parametrize(("adapter", "subject"), HERE)
def test_rms_norm(adapter, subject, weights):
    x = plain.values("float32", 0, 2, 5, 7)
    own = load(adapter)
    own.start()
    trace = own.run(request("rms_norm", subject, x, weights, "float32", epsilon=1e-3))
    plain.close(trace.output, rms_norm(x, 1e-3, **weights), "float32")
    assert {n: a.tolist() for n, a in trace.weights.items()} == {n: a.tolist() for n, a in weights.items()}


@pytest.mark.parametrize(("adapter", "subject"), HERE)
def test_no_framework_has_a_bias(adapter, subject):
    asked = request("rms_norm", subject, np.ones((2, 3)), {"bias": np.ones(3)}, "float32", epsilon=1e-3)
    with pytest.raises(Unsupported, match="it has no bias"):
        load(adapter).subjects(asked)


# -- what a user hands over ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_without_an_eps_torch_has_that_of_the_arithmetic(dtype):
    """As it computes: values so small that the epsilon decides tell it."""
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=getattr(torch, dtype)) * 2.0**-10
    module = torch.nn.RMSNorm(4, dtype=x.dtype)
    case = conformance.check(module, "rms_norm", dtype=dtype)
    assert (case.status, case.config["epsilon"]) == ("conforms", 2.0**-52 if dtype == "float64" else 2.0**-23)
    expected = rms_norm(x.double().numpy(), case.config["epsilon"])
    plain.close(module(x).detach().double().numpy(), expected, dtype)


def test_torch_without_eps_and_weight_is_unsupported():
    case = conformance.check(torch.nn.RMSNorm(4, elementwise_affine=False), "rms_norm")
    assert (case.status, case.message) == (
        "unsupported",
        "torch.nn.RMSNorm without eps takes that of its input's dtype: give it its eps",
    )
    assert conformance.check(torch.nn.RMSNorm(4, 1e-3, False), "rms_norm").status == "conforms"
    assert conformance.check(torch.nn.RMSNorm((3, 4), 1e-3), "rms_norm").status == "unsupported"


def test_flax():
    import jax
    from flax import linen, nnx

    module = nnx.RMSNorm(5, epsilon=1e-2, rngs=nnx.Rngs(0))
    case = conformance.check(module, "rms_norm")
    assert (case.status, case.config) == ("conforms", {"epsilon": 1e-2})
    wrong = conformance.check(module, "rms_norm", config={"epsilon": 1e-4})
    assert [(f.convention, f.value) for f in wrong.diagnosis] == [("norm.epsilon", "0.01")]
    over_two = nnx.RMSNorm(5, reduction_axes=(-2, -1), rngs=nnx.Rngs(0))
    assert conformance.check(over_two, "rms_norm", inputs={"x": np.ones((2, 3, 5))}).status == "unsupported"
    made = linen.RMSNorm()
    assert conformance.check((made, made.init(jax.random.key(0), np.ones((2, 5)))), "rms_norm").status == "conforms"


@pytest.mark.parametrize("operator", ["RMSNormalization <axis = -1, epsilon = 0.125>", "RMSNormalization <axis = 2>"])
def test_onnx(operator):
    text = f"""<ir_version: 10, opset_import: ["": 23]>
    g (float[2, 3, 4] x) => (float[2, 3, 4] y) <float[4] s = {{1, 2, -1, 0.5}}> {{ y = {operator} (x, s) }}"""
    model = parser.parse_model(text)
    onnx.checker.check_model(model)
    case = conformance.check(model, "rms_norm")
    epsilon = 0.125 if "epsilon" in operator else float(np.float32(1e-5))
    assert (case.status, case.config["epsilon"]) == ("conforms", epsilon)


# -- Keras, of which a process has one back end --------------------------------------------------------------


@pytest.fixture(scope="module", params=["tensorflow", "jax", "torch"])
def there(request):
    os.environ["KERAS_BACKEND"] = request.param  # what the process inherits
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(str).result()
        del os.environ["KERAS_BACKEND"]
        yield lambda function, *arguments: pool.submit(function, request.param, *arguments).result()


def rms_norm_there(backend, weights):
    x = plain.values("float32", 0, 2, 5, 7)
    adapter = load(f"keras-{backend}")
    adapter.start()
    asked = request("rms_norm", "keras.layers.RMSNormalization", x, weights, "float32", epsilon=1e-3)
    trace = adapter.run(asked)
    return x, trace.output, dict(trace.weights)


@pytest.mark.parametrize("weights", [{"scale": plain.values("float32", 1, 7)}, {}], ids=["scale", "none"])
def test_keras(there, weights):
    x, output, read = there(rms_norm_there, weights)
    plain.close(output, rms_norm(x, 1e-3, **weights), "float32")
    assert {n: a.tolist() for n, a in read.items()} == {n: a.tolist() for n, a in weights.items()}


def rms_norm_checked_there(backend, axis):
    from keras import layers

    layer = layers.RMSNormalization(axis, 1e-2)
    layer.build((2, 5, 7))
    case = conformance.check(layer, "rms_norm", inputs={"x": plain.values("float32", 0, 2, 5, 7)})
    return case.status, dict(case.config)


@pytest.mark.parametrize(("axis", "told"), [(-1, "conforms"), (2, "conforms"), (1, "unsupported")])
def test_keras_layers_are_read_with_their_config(there, axis, told):
    status, config = there(rms_norm_checked_there, axis)
    assert status == told
    assert told == "unsupported" or config == {"epsilon": 1e-2}
