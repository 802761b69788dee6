"""RMS, group and instance norm in every framework that has them: outputs are the formula's, weights come back."""

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


def group_norm(x, groups, epsilon, scale=1.0, bias=0.0):
    """One group after another."""
    made, size = np.empty_like(x), x.shape[-1] // groups
    for n in range(len(x)):
        for g in range(groups):
            part = x[n, ..., g * size : (g + 1) * size]
            made[n, ..., g * size : (g + 1) * size] = (part - part.mean()) / np.sqrt(part.var() + epsilon)
    return made * scale + bias


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


CHANNELS = [
    (adapter, layer, name)
    for adapter in ("torch", "jax", "onnxruntime", "tensorflow")
    for layer in ("group_norm", "instance_norm")
    for name in subjects(adapter, layer)
]
AFFINE = {"scale": plain.values("float32", 1, 6), "bias": plain.values("float32", 2, 6)}


@pytest.mark.parametrize("shape", [(2, 7, 6), (2, 3, 5, 6)])
@pytest.mark.parametrize("weights", [AFFINE, {}], ids=["affine", "none"])
@pytest.mark.parametrize(("adapter", "layer", "subject"), CHANNELS)
def test_group_and_instance_norm(adapter, layer, subject, weights, shape):
    x = plain.values("float32", 0, *shape)
    own = load(adapter)
    own.start()
    config = {"epsilon": 1e-3, **({"groups": 3} if layer == "group_norm" else {})}
    asked = request(layer, subject, x, weights, "float32", **config)
    if subject.endswith("(channels_last)") and x.ndim == 3:
        assert subject not in own.subjects(asked)
        return
    trace = own.run(asked)
    plain.close(trace.output, group_norm(x, config.get("groups", 6), 1e-3, **weights), "float32")
    assert {n: a.tolist() for n, a in trace.weights.items()} == {n: a.tolist() for n, a in weights.items()}


def test_torch_of_channels_last_loses_the_variance():
    """What the divergence that is listed says: the same numbers, in another memory format, are less exact."""
    x = plain.values("float32", 0, 2, 5, 7, 6) + 300
    x = x.astype(np.float32).astype(np.float64)
    expected = group_norm(x, 2, 1e-5)
    own, off = load("torch"), {}
    for name in subjects("torch", "group_norm"):
        trace = own.run(request("group_norm", name, x, {}, "float32", groups=2, epsilon=1e-5))
        off[name] = np.abs(trace.output - expected).max()
    assert off["torch.nn.GroupNorm"] < 1e-4
    assert off["torch.nn.GroupNorm(channels_last)"] > 100 * off["torch.nn.GroupNorm"]


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


@pytest.mark.parametrize(
    ("module", "layer", "config"),
    [
        (torch.nn.GroupNorm(3, 6, eps=1e-2), "group_norm", {"groups": 3, "epsilon": 1e-2}),
        (torch.nn.GroupNorm(5, 10, affine=False), "group_norm", {"groups": 5, "epsilon": 1e-5}),
        (torch.nn.InstanceNorm1d(5), "instance_norm", {"epsilon": 1e-5}),
        (torch.nn.InstanceNorm2d(5, eps=1e-3, affine=True), "instance_norm", {"epsilon": 1e-3}),
        (torch.nn.InstanceNorm3d(2), "instance_norm", {"epsilon": 1e-5}),
    ],
    ids=str,
)
def test_torch(module, layer, config):
    case = conformance.check(module, layer)
    assert (case.status, case.config) == ("conforms", config)
    assert module.training


def test_torch_that_keeps_statistics_of_instances_is_unsupported():
    case = conformance.check(torch.nn.InstanceNorm1d(5, track_running_stats=True), "instance_norm")
    assert (case.status, "with what it has kept" in case.message) == ("unsupported", True)


def test_flax_channels():
    import jax
    from flax import linen, nnx

    rngs, x = nnx.Rngs(0), np.random.default_rng(0).normal(size=(2, 5, 6)).astype(np.float32)
    group = nnx.GroupNorm(6, 2, rngs=rngs)
    assert conformance.check(group, "group_norm", inputs={"x": x}).config == {"groups": 2, "epsilon": 1e-6}
    exact = nnx.InstanceNorm(6, use_fast_variance=False, rngs=rngs)
    for module, layer in ((group, "group_norm"), (exact, "instance_norm")):
        assert conformance.check(module, layer, inputs={"x": x}).status == "conforms"
    far = {"x": x + 300}
    assert conformance.check(exact, "instance_norm", inputs=far).status == "conforms"
    fast = conformance.check(nnx.InstanceNorm(6, rngs=rngs), "instance_norm", inputs=far)
    assert (fast.status, fast.culprit, fast.diagnosis[0].value) == ("diverges", "variance", "fast")
    made = linen.GroupNorm(None, 3)
    variables = made.init(jax.random.key(0), x)
    assert "group_size=3" in conformance.check((made, variables), "group_norm", inputs={"x": x}).message


@pytest.mark.parametrize(("opset", "told"), [(21, "conforms"), (18, "unsupported")])
def test_onnx_groups(opset, told):
    text = f"""<ir_version: 8, opset_import: ["": {opset}]>
    g (float[2, 4, 3] x) => (float[2, 4, 3] y)
    <float[4] s = {{1, 2, -1, 0.5}}, float[4] b = {{0.5, 0, 1, -1}}>
    {{ y = GroupNormalization <num_groups = 2, epsilon = 0.125> (x, s, b) }}"""
    case = conformance.check(parser.parse_model(text), "group_norm")
    assert case.status == told
    assert told == "unsupported" or case.config == {"groups": 2, "epsilon": 0.125}


def test_onnx_instances():
    text = """<ir_version: 8, opset_import: ["": 17]>
    g (float[2, 2, 3, 5] x) => (float[2, 2, 3, 5] y) <float[2] s = {2, -1}, float[2] b = {0.5, 1}>
    { y = InstanceNormalization (x, s, b) }"""
    case = conformance.check(parser.parse_model(text), "instance_norm")
    assert (case.status, case.config) == ("conforms", {"epsilon": float(np.float32(1e-5))})


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


def group_norm_there(backend, layer, weights):
    x = plain.values("float32", 0, 2, 3, 5, 6)
    adapter = load(f"keras-{backend}")
    adapter.start()
    config = {"epsilon": 1e-3, **({"groups": 3} if layer == "group_norm" else {})}
    (subject,) = subjects(f"keras-{backend}", layer)
    trace = adapter.run(request(layer, subject, x, weights, "float32", **config))
    return x, trace.output, dict(trace.weights)


@pytest.mark.parametrize("weights", [AFFINE, {"bias": AFFINE["bias"]}, {}], ids=["affine", "bias", "none"])
@pytest.mark.parametrize(("layer", "groups"), [("group_norm", 3), ("instance_norm", 6)])
def test_keras_channels(there, layer, groups, weights):
    x, output, read = there(group_norm_there, layer, weights)
    plain.close(output, group_norm(x, groups, 1e-3, **weights), "float32")
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
