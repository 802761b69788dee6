"""Batch norm in every framework: by its moving averages and in training, with what training leaves behind."""

import numpy as np
import plain_formulas as plain
import pytest
import torch
from onnx import parser

import conformance
from conformance.adapter import load
from conformance.trace import Request

EPSILON, MOMENTUM = 1e-3, 0.75
AVERAGES = {
    "moving_mean": plain.values("float32", 3, 6),
    "moving_variance": (np.square(plain.values("float32", 4, 6)) + 0.5).astype(np.float32).astype(np.float64),
}
AFFINE = {"scale": plain.values("float32", 1, 6), "bias": plain.values("float32", 2, 6), **AVERAGES}


def batch_norm(x, mean, variance, scale=1.0, bias=0.0, **_):
    return (x - mean) / np.sqrt(variance + EPSILON) * scale + bias


def request(subject, x, weights, training, dtype="float32"):
    config = {"epsilon": EPSILON, "momentum": MOMENTUM, "training": training}
    return Request("batch_norm", subject, config, {"x": x}, weights, dtype)


SUBJECTS = [
    (adapter, s.name)
    for adapter in ("torch", "jax", "tensorflow", "onnxruntime")
    for s in load(adapter).table
    if s.layer == "batch_norm"
]


def ran(adapter, subject, x, weights, training):
    own = load(adapter)
    own.start()
    asked = request(subject, x, weights, training)
    return own.run(asked) if subject in own.subjects(asked) else None


@pytest.mark.parametrize("weights", [AFFINE, AVERAGES], ids=["affine", "none"])
@pytest.mark.parametrize("shape", [(5, 6), (2, 7, 6), (2, 3, 5, 6)])
@pytest.mark.parametrize(("adapter", "subject"), SUBJECTS)
def test_inference(adapter, subject, shape, weights):
    x = plain.values("float32", 0, *shape)
    trace = ran(adapter, subject, x, weights, False)
    if trace is None:
        assert "two_pass" in subject or "use_fast_variance=False" in subject or x.ndim < 4
        return
    averages = weights["moving_mean"], weights["moving_variance"]
    plain.close(trace.output, batch_norm(x, *averages, **weights), "float32")
    assert {n: a.tolist() for n, a in trace.weights.items()} == {n: a.tolist() for n, a in weights.items()}


@pytest.mark.parametrize(("adapter", "subject"), SUBJECTS)
def test_training_and_what_it_leaves_behind(adapter, subject):
    """A second run begins with the same averages as the first. PyTorch's and TensorFlow's variance is the unbiased."""
    x = plain.values("float32", 0, 2, 3, 5, 6) + 1
    trace = ran(adapter, subject, x, AFFINE, True)
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    plain.close(trace.output, batch_norm(x, mean, variance, **AFFINE), "float32")
    plain.close(trace.observed_output, batch_norm(x, mean, variance, **AFFINE), "float32")
    unbiased = subject in ("torch.nn.BatchNorm", "tf.compat.v1.nn.fused_batch_norm")
    left = {
        "moving_mean": AFFINE["moving_mean"] * 0.75 + mean * 0.25,
        "moving_variance": AFFINE["moving_variance"] * 0.75 + variance * 0.25 * (30 / 29 if unbiased else 1),
    }
    for name, value in left.items():
        near = [e for e in trace.tape if e.array.size == 6 and np.abs(e.array.ravel() - value).max() < 1e-6]
        assert bool(near) == (subject != "tf.nn.batch_normalization"), name
    assert {n: a.tolist() for n, a in trace.weights.items()} == {n: a.tolist() for n, a in AFFINE.items()}


@pytest.mark.parametrize(
    ("module", "config"),
    [
        (torch.nn.BatchNorm1d(5, eps=1e-2, momentum=0.25), {"epsilon": 1e-2, "training": False, "momentum": 0.75}),
        (torch.nn.BatchNorm2d(5, affine=False), {"epsilon": 1e-5, "training": False, "momentum": 0.9}),
        (torch.nn.BatchNorm3d(2, momentum=None), {"epsilon": 1e-5, "training": False, "momentum": 0.99}),
    ],
    ids=str,
)
def test_torch_is_read_for_inference(module, config):
    before = {n: b.clone() for n, b in module.named_buffers()}
    case = conformance.check(module, "batch_norm")
    assert (case.status, case.config) == ("conforms", config)
    assert all(torch.equal(b, before[n]) for n, b in module.named_buffers())
    assert module.training


def test_torch_without_averages_is_unsupported():
    case = conformance.check(torch.nn.BatchNorm1d(5, track_running_stats=False), "batch_norm")
    assert (case.status, "normalises each batch by itself" in case.message) == ("unsupported", True)


def test_flax():
    import jax
    from flax import linen, nnx

    x = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    module = nnx.BatchNorm(6, use_running_average=True, epsilon=1e-2, momentum=0.9, rngs=nnx.Rngs(0))
    case = conformance.check(module, "batch_norm", inputs={"x": x})
    assert (case.status, case.config) == ("conforms", {"epsilon": 1e-2, "training": False, "momentum": 0.9})
    made = linen.BatchNorm(use_running_average=True)
    variables = made.init(jax.random.key(0), x)
    assert conformance.check((made, variables), "batch_norm", inputs={"x": x}).status == "conforms"


@pytest.mark.parametrize(("opset", "attribute"), [(15, "epsilon = 0.125"), (9, "epsilon = 0.125")])
def test_onnx(opset, attribute):
    text = f"""<ir_version: 8, opset_import: ["": {opset}]>
    g (float[2, 3, 4] x) => (float[2, 3, 4] y)
    <float[3] s = {{1, 2, -1}}, float[3] b = {{0.5, 0, 1}}, float[3] m = {{1, 0, -2}}, float[3] v = {{1, 2, 0.5}}>
    {{ y = BatchNormalization <{attribute}> (x, s, b, m, v) }}"""
    case = conformance.check(parser.parse_model(text), "batch_norm")
    assert (case.status, case.config["epsilon"], case.config["training"]) == ("conforms", 0.125, False)


@pytest.mark.parametrize(("momentum", "expected"), [("", 0.9), (", momentum = 0.75", 0.75)])
def test_onnx_in_training(momentum, expected):
    text = f"""<ir_version: 8, opset_import: ["": 15]>
    g (float[2, 3, 4] x) => (float[2, 3, 4] y)
    <float[3] s = {{1, 2, -1}}, float[3] b = {{0.5, 0, 1}}, float[3] m = {{1, 0, -2}}, float[3] v = {{1, 2, 0.5}}>
    {{ y, rm, rv = BatchNormalization <training_mode = 1{momentum}> (x, s, b, m, v) }}"""
    case = conformance.check(parser.parse_model(text), "batch_norm")
    assert (case.status, case.config["training"]) == ("conforms", True)
    assert case.config["momentum"] == pytest.approx(expected, rel=2**-24)
    seen = {s.name: s.status for s in case.steps}
    assert seen["new_moving_mean"] == seen["new_moving_variance"] == "conforms"


def test_onnx_in_training_told_by_its_outputs_is_unsupported():
    text = """<ir_version: 7, opset_import: ["": 9]>
    g (float[2, 3, 4] x) => (float[2, 3, 4] y)
    <float[3] s = {1, 2, -1}, float[3] b = {0.5, 0, 1}, float[3] m = {1, 0, -2}, float[3] v = {1, 2, 0.5}>
    { y, rm, rv, sm, sv = BatchNormalization (x, s, b, m, v) }"""
    case = conformance.check(parser.parse_model(text), "batch_norm")
    assert (case.status, "opset 9 in training" in (case.message or "")) == ("unsupported", True)
