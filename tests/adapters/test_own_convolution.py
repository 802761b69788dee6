"""Transposed and depthwise convolutions, pools and dropout of Flax and ONNX that users hand over: read with their
options, and what differs is named."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from onnx_models import numbers, parsed

from conformance import check, check_model
from conformance.loading import opened


def of_linen(module, *shape):
    """With variables of which none is zero or one."""
    key = jax.random.key(0)
    leaves, tree = jax.tree.flatten(module.init(key, jnp.ones(shape)))
    drawn = [jax.random.normal(jax.random.fold_in(key, i), v.shape, v.dtype) for i, v in enumerate(leaves)]
    return module, jax.tree.unflatten(tree, drawn)


def rngs():
    return nnx.Rngs(0)


def own(subject):
    return opened(subject).own()


FLAX = [
    (
        "conv_transpose2d",
        lambda: nnx.ConvTranspose(3, 4, (3, 2), strides=(2, 1), kernel_dilation=(1, 2), rngs=rngs()),
        {"strides": [2, 1], "padding": "same-upper", "dilation": [1, 2]},
    ),
    (
        "conv_transpose2d",
        lambda: nnx.ConvTranspose(3, 4, (3, 5), strides=2, padding="VALID", transpose_kernel=True, rngs=rngs()),
        {"strides": [2, 2], "padding": "valid", "dilation": [1, 1]},
    ),
    (  # the zeros between the windows are after the last one too
        "conv_transpose1d",
        lambda: nnx.ConvTranspose(3, 4, 2, strides=5, padding="VALID", rngs=rngs()),
        {"strides": [5], "padding": "valid", "output_padding": [3], "dilation": [1]},
    ),
    (
        "conv_transpose1d",
        lambda: of_linen(nn.ConvTranspose(4, (3,), strides=(2,), padding=[(2, 0)]), 2, 7, 3),
        {"strides": [2], "padding": [[0, 2]], "dilation": [1]},
    ),
    (
        "conv_transpose2d",
        lambda: of_linen(
            nn.ConvTranspose(4, (3, 2), strides=(2, 3), padding=1, transpose_kernel=True, use_bias=False), 2, 7, 5, 3
        ),
        {"strides": [2, 3], "padding": [[1, 1], [0, 0]], "dilation": [1, 1]},
    ),
    (
        "conv_transpose3d",
        lambda: of_linen(nn.ConvTranspose(4, (3, 2, 2), strides=None), 2, 3, 4, 5, 3),
        {"strides": [1, 1, 1], "padding": "same-upper", "dilation": [1, 1, 1]},
    ),
    ("dropout", lambda: nnx.Dropout(0.25, rngs=rngs()), {"rate": 0.25}),
    ("dropout", lambda: (nn.Dropout(0.25), {}), {"rate": 0.25}),
    (
        "max_pool2d",
        lambda: partial(nn.max_pool, window_shape=(3, 2), strides=(2, 1), padding="SAME"),
        {"size": [3, 2], "strides": [2, 1], "padding": "same-upper"},
    ),
    (
        "average_pool1d",
        lambda: partial(nnx.avg_pool, window_shape=(3,), padding=((1, 0),)),
        {"size": [3], "strides": [1], "padding": [[1, 0]], "count_include_pad": True},
    ),
    (
        "average_pool2d",
        lambda: partial(nn.avg_pool, window_shape=(3, 3), strides=(2, 2), padding="SAME", count_include_pad=False),
        {"size": [3, 3], "strides": [2, 2], "padding": "same-upper", "count_include_pad": False},
    ),
]


@pytest.mark.parametrize(("layer", "make", "config"), FLAX)
def test_one_of_flax_is_read_with_its_options(layer, make, config):
    subject = make()
    found = own(subject)
    assert (found.layer, dict(found.config)) == (layer, config)
    case = check(subject, layer)
    assert (case.status, case.message) == ("conforms", None)
    assert case.subject.startswith("flax.")


@pytest.mark.parametrize(
    ("layer", "make", "said"),
    [
        ("conv_transpose1d", lambda: nnx.ConvTranspose(3, 4, 3, padding="CIRCULAR", rngs=rngs()), "CIRCULAR"),
        ("conv_transpose1d", lambda: nnx.ConvTranspose(3, 4, 3, mask=jnp.ones((3, 3, 4)), rngs=rngs()), "masked"),
        ("dropout", lambda: (nn.Dropout(0.25, deterministic=False), {}), "at random"),
        ("max_pool1d", lambda: partial(nn.max_pool, window_shape=(3,), padding="CIRCULAR"), "CIRCULAR"),
    ],
)
def test_options_that_the_canonical_layer_lacks_are_unsupported(layer, make, said):
    case = check(make(), layer, inputs={"x": numbers(2, 7, 3)})
    assert (case.status, said in (case.message or "")) == ("unsupported", True)


def test_a_kernel_of_flax_that_is_read_as_it_is_stored_is_named():
    """Without transpose_kernel, Flax holds it flipped."""
    module = nnx.ConvTranspose(4, 5, (3, 3), strides=2, rngs=rngs())
    stored = np.swapaxes(np.asarray(module.kernel[...]), -1, -2)
    case = check(module, "conv_transpose2d", weights={"kernel": stored, "bias": np.asarray(module.bias[...])})
    assert (case.status, case.culprit) == ("diverges", "convolved")
    assert ("conv_transpose.kernel-layout", "unflipped") in [(f.convention, f.value) for f in case.diagnosis]


def test_a_pool_of_flax_that_counts_its_padding_is_named():
    pool = partial(nn.avg_pool, window_shape=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
    case = check(pool, "average_pool2d", config={"count_include_pad": False})
    assert [(f.convention, f.value) for f in case.diagnosis] == [("pool.count-include-pad", "include")]


def test_they_are_found_inside_a_model():
    class Decoder(nnx.Module):
        def __init__(self):
            self.up = nnx.ConvTranspose(3, 4, (3, 3), strides=2, rngs=rngs())
            self.drop = nnx.Dropout(0.5, rngs=rngs())
            self.out = nnx.Conv(4, 2, (3, 3), rngs=rngs())

        def __call__(self, x):
            return self.out(self.drop(self.up(x)))

    run = check_model(Decoder())
    assert {(c.subject, c.layer, c.status) for c in run.cases} == {
        ("up", "conv_transpose2d", "conforms"),
        ("drop", "dropout", "conforms"),
        ("out", "conv2d", "conforms"),
    }


# ------------------------------------------------------------------------------------------- ONNX ----
PLANE, LINE = numbers(2, 7, 5, 3), numbers(2, 7, 3)
ONNX = [
    ("strides=[2,3], pads=[1,0,0,1], output_padding=[1,0], dilations=[1,2]", PLANE, (3, 4, 3, 2)),
    ('strides=[2,2], auto_pad="SAME_UPPER"', PLANE, (3, 4, 3, 3)),
    ('strides=[2,2], auto_pad="SAME_LOWER"', PLANE, (3, 4, 3, 3)),
    ('strides=[2], auto_pad="VALID"', LINE, (3, 4, 3)),
    ("group=1", numbers(2, 4, 3, 5, 3), (3, 4, 2, 3, 2)),
]


def of_onnx(body, x, arrays):
    axes = ", ".join("ABCDE"[: x.ndim])
    shape = ", ".join(map(str, np.moveaxis(x, -1, 1).shape))
    return parsed(f"float[{shape}] x) => (float[{axes}] y", body, arrays)


@pytest.mark.parametrize(("options", "x", "shape"), ONNX)
def test_a_transposed_convolution_of_onnx_is_read_with_its_options(options, x, shape):
    model = of_onnx(f"y = ConvTranspose <{options}> (x, k, b)", x, {"k": numbers(*shape), "b": numbers(4, seed=1)})
    case = check(model, f"conv_transpose{x.ndim - 2}d", inputs={"x": x})
    assert (case.status, case.message) == ("conforms", None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("group=3", "3 groups"),
        ("output_shape=[14, 10]", "output_shape"),
        ('strides=[3,3], auto_pad="SAME_UPPER"', "greater than its window"),
    ],
)
def test_what_a_transposed_convolution_of_onnx_may_have_besides(options, said):
    arrays = {"k": numbers(3, 4, 2, 2), "b": numbers(12 if "group" in options else 4)}
    model = of_onnx(f"y = ConvTranspose <{options}> (x, k, b)", PLANE, arrays)
    case = check(model, "conv_transpose2d", inputs={"x": PLANE})
    assert (case.status, said in (case.message or "")) == ("unsupported", True)


def test_the_other_end_that_onnx_cuts_off_is_named():
    body = 'y = ConvTranspose <strides=[2,2], auto_pad="SAME_LOWER"> (x, k)'
    model = of_onnx(body, PLANE, {"k": numbers(3, 4, 3, 3)})
    case = check(model, "conv_transpose2d", inputs={"x": PLANE}, config={"padding": "same-upper"})
    found = [(f.convention, f.value, f.canonical) for f in case.diagnosis]
    assert found == [("conv_transpose.padding", "crop-lower", "crop-upper")]


def test_dropout_of_onnx_is_the_identity():
    ratio = {"ratio": np.array(0.25, np.float32)}
    model = parsed("float[2, 7, 3] x) => (float[2, 7, 3] y", "y = Dropout (x, ratio)", ratio)
    assert dict(own(model).config) == {"rate": 0.25}
    assert check(model, "dropout", inputs={"x": LINE}).status == "conforms"


# --------------------------------------------------------------------------------------- depthwise ----
DEPTHWISE = {
    "torch": lambda: torch.nn.Conv2d(3, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=3),
    "nnx": lambda: nnx.Conv(3, 6, (3, 2), strides=(2, 1), kernel_dilation=(1, 2), feature_group_count=3, rngs=rngs()),
    "linen": lambda: of_linen(nn.Conv(6, (3, 2), strides=2, padding="VALID", feature_group_count=3), 2, 7, 5, 3),
    "onnx": lambda: of_onnx(
        "y = Conv <group=3, strides=[2,1], pads=[1,0,0,1]> (x, k, b)",
        PLANE,
        {"k": numbers(6, 1, 3, 2), "b": numbers(6, seed=1)},
    ),
}


@pytest.mark.parametrize("library", DEPTHWISE)
def test_a_convolution_of_a_group_for_each_channel_is_a_depthwise_one_to_who_asks(library):
    subject = DEPTHWISE[library]()
    assert own(subject).layer == "conv2d"
    case = check(subject, "depthwise_conv2d", inputs={"x": PLANE})
    assert (case.status, case.message) == ("conforms", None)
    assert check(subject, "conv2d", inputs={"x": PLANE}).status == "conforms"


def test_a_depthwise_kernel_that_is_flipped_is_named():
    module = DEPTHWISE["torch"]()
    kernel = module.weight.detach().numpy()[:, 0].reshape(3, 2, 3, 2).transpose(2, 3, 0, 1)
    weights = {"kernel": kernel[::-1, ::-1], "bias": module.bias.detach().numpy()}
    case = check(module, "depthwise_conv2d", inputs={"x": PLANE}, weights=weights)
    assert ("conv.flip", "convolution") in [(f.convention, f.value) for f in case.diagnosis]


def test_a_convolution_of_fewer_groups_is_none():
    case = check(torch.nn.Conv2d(4, 6, 3, groups=2), "depthwise_conv2d", inputs={"x": numbers(2, 7, 5, 4)})
    assert case.status != "conforms"
