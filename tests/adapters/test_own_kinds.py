"""Which layers are read off what a user hands over: every one that a framework has, but for those said here."""

from collections.abc import Iterable

import pytest

from conformance.adapter import load
from conformance.fixture import fixtures
from conformance.support import support
from conformance_adapters import flax_own, jax_own, keras_own, onnx_nodes, torch_own

FUNCTION = "a function with other arguments than x and options, which nothing binds"
MODULES = "several modules in a row, each of which is read by itself"
NODES = "several nodes, each of which is read by itself"
ASKED = "a convolution of a group for each channel: read where it is asked for"
NOT_READ = {
    "torch": {
        "scaled_dot_product_attention": FUNCTION,
        "depthwise_conv2d": ASKED,
        "feed_forward": MODULES,
        "sequential": MODULES,
    },
    "jax": {
        "pad": FUNCTION,
        "resize": FUNCTION,
        "global_average_pool": "jax.numpy.mean, which may be over any axes",
        "global_max_pool": "jax.numpy.max, which may be over any axes",
        "depthwise_conv2d": ASKED,
        "sequential": MODULES,
    },
    "keras": {
        "pixel_shuffle": FUNCTION,
        "instance_norm": "a GroupNormalization of a group for each channel, which is read as such",
        "sequential": MODULES,
    },
    "onnxruntime": {
        "multi_head_attention": NODES,
        "glu": NODES,
        "swiglu": NODES,
        "depthwise_conv2d": ASKED,
        "sequential": NODES,
    },
}


def over_axes(layers: Iterable[str]) -> set[str]:
    return {layer.format(axes=axes) for layer in layers for axes in (1, 2, 3)}


def of_torch() -> set[str]:
    return {known.subject.layer for known in torch_own._OWN.values()}


def of_jax() -> set[str]:
    modules = [*flax_own._OWN.values(), *flax_own._CELLS.values()]
    by_rank = {"conv{axes}d", "conv_transpose{axes}d"}
    return {m.subject.layer for m in modules} | over_axes([*by_rank, *(f.layer for f in jax_own._OWN)])


def of_keras() -> set[str]:
    known = [*keras_own._layers().values(), *keras_own._activations().values()]
    return {k.subject.layer for k in known} | {"relu6"}  # a ReLU of max_value 6


def of_onnx() -> set[str]:
    return over_axes(operator.layer for operator in onnx_nodes.known_operators().values())


@pytest.mark.parametrize(
    ("framework", "adapter", "read"),
    [
        ("torch", "torch", of_torch),
        ("jax", "jax", of_jax),
        ("keras", "keras-tensorflow", of_keras),
        ("onnxruntime", "onnxruntime", of_onnx),
    ],
)
def test_what_a_framework_has_is_read_off_a_users_own(framework, adapter, read):
    there = {s.layer for s in support([load(adapter)], fixtures().values()) if s.subjects}
    assert there - read() == set(NOT_READ[framework])
