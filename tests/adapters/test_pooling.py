"""Pools of every framework: what users hand over is read, judged and named, with windows computed here one by one."""

from __future__ import annotations

import itertools

import numpy as np
import plain_formulas as plain
import pytest
import torch
from onnx_models import parsed
from torch import nn

from conformance import check, check_model
from conformance.errors import Unsupported
from conformance.trace import Request
from conformance_adapters.jax_flax import JaxAdapter
from conformance_adapters.onnx_runtime import OnnxRuntimeAdapter
from conformance_adapters.tensorflow_ops import TensorFlowAdapter
from conformance_adapters.torch_nn import TorchAdapter

ADAPTERS = {
    "torch": TorchAdapter(),
    "onnxruntime": OnnxRuntimeAdapter(),
    "jax": JaxAdapter(),
    "tf": TensorFlowAdapter(),
}
POOL = {"strides": 2, "padding": "valid", "ceil_mode": False}


def pooled(x, size, strides, pads, reduce):
    """Each window by itself: `reduce` gets its elements inside x, `elements channel`."""
    space = x.shape[1:-1]
    counts = [(n + sum(p) - k) // s + 1 for n, p, k, s in zip(space, pads, size, strides, strict=True)]
    made = np.empty((len(x), *counts, x.shape[-1]))
    for at in itertools.product(*map(range, counts)):
        index = []
        for i, n, (before, _), k, s in zip(at, space, pads, size, strides, strict=True):
            index.append(slice(max(i * s - before, 0), min(i * s - before + k, n)))
        made[(slice(None), *at)] = reduce(x[(slice(None), *index)].reshape(len(x), -1, x.shape[-1]))
    return made


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("padding", ["valid", "same-upper", "same-lower", "explicit"])
@pytest.mark.parametrize("name", ADAPTERS)
def test_maxima_and_means_of_windows(name, padding, axes):
    sizes, window = (8, 7, 5)[:axes], (3, 2, 3)[:axes]
    x = plain.values("float32", axes, 2, *sizes, 3) - 2
    # by hand, for windows of 3, 2 and 3 at a stride of 2: what "same" lacks of 8, 7 and 5
    pads = {
        "valid": [(0, 0)] * 3,
        "same-upper": [(0, 1), (0, 1), (1, 1)],
        "same-lower": [(1, 0), (1, 0), (1, 1)],
        "explicit": [(1, 1)] * 3,
    }[padding][:axes]
    config = {**POOL, "size": window, "padding": pads if padding == "explicit" else padding}
    means = {**config, "count_include_pad": False}
    judged = 0
    for layer, asked, reduce in (
        (f"max_pool{axes}d", config, lambda w: w.max(1)),
        (f"average_pool{axes}d", means, lambda w: w.mean(1)),
    ):
        expected = pooled(x, window, (2,) * axes, pads, reduce)
        request = Request(layer, "", asked, {"x": x}, {}, "float32")
        try:
            subjects = ADAPTERS[name].subjects(request)
        except Unsupported:
            continue
        ADAPTERS[name].start()
        for subject in subjects:
            trace = ADAPTERS[name].run(Request(layer, subject, asked, {"x": x}, {}, "float32"))
            plain.close(trace.output, expected, "float32")
            judged += 1
    assert judged or (name == "tf" and padding in ("same-lower", "explicit"))


OWN = [
    (nn.MaxPool1d(3, 2, 1), "max_pool1d"),
    (nn.MaxPool2d((3, 2), padding=1, ceil_mode=True), "max_pool2d"),
    (nn.MaxPool3d(2), "max_pool3d"),
    (nn.AvgPool1d(3, 2, 1, ceil_mode=True), "average_pool1d"),
    (nn.AvgPool2d(3, 2, 1, count_include_pad=False), "average_pool2d"),
    (nn.AvgPool3d(2, 3), "average_pool3d"),
    (nn.AdaptiveAvgPool1d(1), "global_average_pool"),
    (nn.AdaptiveMaxPool2d((1, 1)), "global_max_pool"),
    (nn.AdaptiveAvgPool2d((3, 5)), "adaptive_average_pool2d"),
]


def batch(axes):
    return np.random.default_rng(axes).normal(size=(2, *(7, 8, 5)[:axes], 3)) - 2


@pytest.mark.parametrize(("module", "layer"), OWN, ids=str)
def test_a_pool_of_pytorch_is_read_with_its_config(module, layer):
    axes = int(type(module).__name__[-2])
    case = check(module, layer, inputs={"x": batch(axes)})
    assert (case.status, case.subject.partition("(")[0]) == ("conforms", f"torch.nn.{type(module).__name__}")


@pytest.mark.parametrize(
    ("module", "layer", "said"),
    [
        (nn.MaxPool2d(3, dilation=2), "max_pool2d", "dilation"),
        (nn.MaxPool2d(3, return_indices=True), "max_pool2d", "return_indices"),
        (nn.AvgPool2d(3, divisor_override=2), "average_pool2d", "divisor_override"),
        (nn.AdaptiveAvgPool2d((None, 3)), "adaptive_average_pool2d", "None"),
        (nn.AdaptiveMaxPool1d(2), "global_max_pool", "AdaptiveMaxPool1d"),
    ],
)
def test_an_option_that_no_canonical_pool_has_is_unsupported(module, layer, said):
    case = check(module, layer, inputs={"x": batch(int(type(module).__name__[-2]))})
    assert case.status == "unsupported"
    assert said in (case.message or "")


def test_pytorchs_default_counts_padding_and_is_named():
    config = {"size": 3, "strides": 2, "padding": [[1, 1], [1, 1]], "count_include_pad": False}
    case = check(nn.AvgPool2d(3, 2, 1), "average_pool2d", inputs={"x": batch(2)}, config=config)
    found = [(f.step, f.convention, f.value, f.canonical) for f in case.diagnosis]
    assert (case.status, found) == ("diverges", [("output", "pool.count-include-pad", "include", "exclude")])


def test_a_number_of_windows_that_is_rounded_up_is_named_though_the_output_is_larger():
    case = check(nn.MaxPool2d(3, 2, ceil_mode=True), "max_pool2d", inputs={"x": batch(2)}, config={"ceil_mode": False})
    assert case.status == "diverges"
    assert [(f.convention, f.value, f.canonical) for f in case.diagnosis] == [("pool.ceil-mode", "ceil", "floor")]


def test_every_pool_of_a_model_is_judged():
    torch.manual_seed(0)
    pools = nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1)
    model = nn.Sequential(*pools, nn.Flatten(), nn.Linear(3, 4))
    run = check_model(model, inputs={"x": np.moveaxis(batch(2), -1, 1)})
    found = [(c.layer, c.status) for c in run.cases]
    layers = {"max_pool2d", "average_pool2d", "adaptive_average_pool2d", "flatten", "linear"}
    assert (len(found), set(found)) == (5, {(layer, "conforms") for layer in layers})


ONNX = {
    "max_pool2d": "y = MaxPool <kernel_shape = [3, 2], strides = [2, 1], pads = [1, 0, 0, 1], ceil_mode = 1> (x)",
    "average_pool2d": "y = AveragePool <kernel_shape = [3, 3], strides = [2, 2], auto_pad = 'SAME_LOWER'> (x)",
    "global_average_pool": "y = GlobalAveragePool (x)",
    "global_max_pool": "y = GlobalMaxPool (x)",
}


@pytest.mark.parametrize("layer", ONNX)
def test_an_operator_of_onnx_is_read_with_its_config(layer):
    model = parsed("float[2, 3, 7, 8] x) => (float[A, B, C, D] y", ONNX[layer].replace("'", '"'))
    case = check(model, layer, inputs={"x": batch(2)})
    assert (case.status, case.message) == ("conforms", None)


def test_an_average_pool_of_onnx_that_counts_its_padding_is_named():
    body = "y = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1> (x)"
    model = parsed("float[2, 3, 7, 8] x) => (float[A, B, C, D] y", body)
    case = check(model, "average_pool2d", inputs={"x": batch(2)}, config={"count_include_pad": False})
    assert [(f.convention, f.value) for f in case.diagnosis] == [("pool.count-include-pad", "include")]
