"""Depthwise and separable convolutions of Keras, as users hand them over, and where TensorFlow's own refuse."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from conformance import check
from conformance.layers import get_layer
from conformance.trace import Request
from conformance_adapters.keras_depthwise import DepthwiseConv2D as KerasDepthwise
from conformance_adapters.keras_depthwise import SeparableConv2D as KerasSeparable
from conformance_adapters.tensorflow_depthwise import DepthwiseConv2D, SeparableConv2D


@pytest.fixture(scope="module")
def there():
    """Calls a function in a process of its own, whose Keras is on PyTorch."""
    os.environ["KERAS_BACKEND"] = "torch"
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(str).result()
        del os.environ["KERAS_BACKEND"]
        yield lambda function, *given: pool.submit(function, *given).result()


def drawn(layer):
    layer.build((None, 9, 10, 3))
    rng = np.random.default_rng(3)
    for variable in layer.weights:
        variable.assign(rng.normal(size=variable.shape))
    return layer


def judged_there(kind, options, config):
    from keras import layers

    layer = drawn(getattr(layers, kind)(**options))
    name = {"DepthwiseConv2D": "depthwise_conv2d", "SeparableConv2D": "separable_conv2d"}[kind]
    case = check(layer, name, inputs={"x": np.random.default_rng(5).normal(size=(2, 9, 10, 3))}, config=config)
    return case.status, case.subject, [(f.convention, f.value) for f in case.diagnosis], case.message


OPTIONS = [
    {"kernel_size": (3, 2), "strides": 2, "padding": "same", "depth_multiplier": 2},
    {"kernel_size": 3, "dilation_rate": (1, 2), "use_bias": False},
]


@pytest.mark.parametrize("options", OPTIONS, ids=["strides", "dilation"])
@pytest.mark.parametrize("kind", ["DepthwiseConv2D", "SeparableConv2D"])
def test_a_layer_of_keras_is_read_with_its_config(there, kind, options):
    filters = {"filters": 4} if kind == "SeparableConv2D" else {}
    assert there(judged_there, kind, {**filters, **options}, {}) == ("conforms", f"keras.layers.{kind}", [], None)


def test_another_padding_than_what_was_asked_for_is_named(there):
    options = {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same"}
    status, _, found, _ = there(judged_there, "SeparableConv2D", options, {"padding": "same-lower", "strides": 2})
    assert (status, found) == ("diverges", [("conv.same-padding", "same-upper")])


@pytest.mark.parametrize("kind", ["DepthwiseConv2D", "SeparableConv2D"])
def test_channels_first_are_refused(there, kind):
    options = {"kernel_size": 3, "data_format": "channels_first", **({"filters": 4} if kind[0] == "S" else {})}
    status, _, _, message = there(judged_there, kind, options, {})
    assert (status, "channels first" in (message or "")) == ("unsupported", True)


def request(subject, mode="eager", **config):
    layer = get_layer(subject.layer)
    kernels = {"kernel": np.ones((3, 3, 3, 2)), "bias": np.ones(6)}
    if subject.layer == "separable_conv2d":
        kernels = {"depthwise_kernel": np.ones((3, 3, 3, 2)), "pointwise_kernel": np.ones((6, 4)), "bias": np.ones(4)}
    return Request(
        layer.name, subject.name, layer.complete(config), {"x": np.ones((1, 8, 8, 3))}, kernels, "float32", mode=mode
    )


@pytest.mark.parametrize("subject", [DepthwiseConv2D, SeparableConv2D])
def test_what_tensorflow_computes_otherwise_is_not_asked_of_it(subject):
    assert subject.refuses(request(subject, strides=2)) is None
    assert subject.refuses(request(subject, dilation=2)) is None
    assert subject.refuses(request(subject, strides=2, dilation=2)) == "has no strides where there is dilation"
    assert subject.refuses(request(subject, strides=[1, 2])) == "has one stride for both axes"


def test_a_bias_behind_explicit_padding_is_not_asked_of_tensorflow_in_a_graph():
    """Only where the two are next to each other are they fused."""
    explicit = {"padding": [[1, 0], [1, 0]]}
    assert DepthwiseConv2D.refuses(request(DepthwiseConv2D, **explicit)) is None
    assert "ends the process" in str(DepthwiseConv2D.refuses(request(DepthwiseConv2D, "graph", **explicit)))
    assert SeparableConv2D.refuses(request(SeparableConv2D, "graph", **explicit)) is None


@pytest.mark.parametrize("subject", [KerasDepthwise, KerasSeparable])
def test_keras_takes_two_strides_apart_where_there_is_dilation(subject):
    on = {backend: subject.on(backend) for backend in ("tensorflow", "torch")}
    assert on["tensorflow"].refuses(request(subject, strides=[1, 2], dilation=2)) is None
    assert "one stride" in str(on["tensorflow"].refuses(request(subject, strides=[1, 2])))
    assert on["torch"].refuses(request(subject, strides=[1, 2])) is None
