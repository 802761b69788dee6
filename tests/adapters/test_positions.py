"""Layers that no framework has, as users write them in each: sinusoidal positions, and ALiBi, which has no inputs."""

import math

import jax.numpy as jnp
import numpy as np
import onnx_models
import pytest
import tensorflow as tf
import torch
from torch import nn

from conformance.adapter import adapter_names, load
from conformance.checking import assert_conforms, check
from conformance.errors import ConformanceError, Unsupported
from conformance.trace import Request

EIGHT = {"heads": 8, "query": 5, "key": 7}
SLOPES = [2.0**-n for n in range(1, 9)]
DISTANCE = np.abs(np.subtract.outer(np.arange(5), np.arange(7)))


class Bias(nn.Module):
    """Its slopes are a buffer, as in users' models."""

    def __init__(self):
        super().__init__()
        self.register_buffer("slopes", torch.tensor(SLOPES))

    def forward(self):
        return -self.slopes[:, None, None] * torch.from_numpy(DISTANCE)


def in_torch():
    return -torch.tensor(SLOPES)[:, None, None] * torch.from_numpy(DISTANCE)


def in_jax():
    return jnp.asarray(SLOPES, "float32")[:, None, None] * -jnp.asarray(DISTANCE, "float32")


def in_tensorflow():
    return tf.constant(SLOPES)[:, None, None] * -tf.constant(DISTANCE, tf.float32)


def in_onnx():
    body = "negative = Neg(slopes)  bias = Mul(negative, distance)"
    arrays = {"slopes": np.array(SLOPES)[:, None, None], "distance": DISTANCE.astype(float)}
    return onnx_models.parsed(") => (float[8, 5, 7] bias", body, arrays)


@pytest.mark.parametrize(
    ("subject", "adapter"),
    [(Bias(), None), (in_torch, "torch"), (in_jax, "jax"), (in_tensorflow, "tensorflow"), (in_onnx(), None)],
)
def test_a_bias_without_inputs_is_judged(subject, adapter):
    case = check(subject, "alibi", config=EIGHT, adapter=adapter)
    assert (case.status, case.culprit) == ("conforms", None)
    assert [s.name for s in case.steps] == ["slopes", "bias"]


def encoded(positions, dim=16, layout="interleaved"):
    angles = positions[..., None] * torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
    if layout == "halves":
        return torch.cat([angles.sin(), angles.cos()], -1)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)


def test_positions_that_are_not_given_are_counted():
    assert_conforms(encoded, "sinusoidal_position", config={"dim": 16}, adapter="torch")
    case = check(
        lambda positions: encoded(positions, layout="halves"),
        "sinusoidal_position",
        config={"dim": 16},
        adapter="torch",
    )
    assert [(f.convention, f.value, f.explains) for f in case.diagnosis] == [("sinusoidal.layout", "sin|cos", True)]


def test_positions_may_be_fractions():
    times = np.array([0.25, 17.5, 999.0])
    assert_conforms(encoded, "sinusoidal_position", inputs={"positions": times}, config={"dim": 16}, adapter="torch")


def test_a_row_for_all_queries_is_another_shape():
    def every_row_the_same():
        return torch.tensor(SLOPES)[:, None, None] * torch.arange(7)

    with pytest.raises(ConformanceError, match="8x1x7, but alibi gives 8x5x7"):
        check(every_row_the_same, "alibi", config=EIGHT, adapter="torch")
    case = check(every_row_the_same, "alibi", config=EIGHT, adapter="torch", call=lambda f: f().expand(8, 5, 7))
    assert [(f.convention, f.value) for f in case.diagnosis] == [("alibi.distance", "key-position")]


@pytest.mark.parametrize("layer", ["alibi", "sinusoidal_position"])
def test_no_adapter_has_the_layer(layer):
    for name in adapter_names():
        with pytest.raises(Unsupported):
            load(name).subjects(Request(layer, "", {}, {}, {}))


class Attention(nn.Module):
    """Causal self-attention in six heads with the bias that the paper's own code adds: every row of it is the same."""

    def __init__(self, reversed_sign=False):
        super().__init__()
        self.qkv, self.out = nn.Linear(24, 72), nn.Linear(24, 24)
        slopes = torch.tensor([2.0**-n for n in (2, 4, 6, 8, 1, 3)])
        self.register_buffer("slopes", -slopes if reversed_sign else slopes)

    def forward(self, x):
        query, key, value = (p.unflatten(-1, (6, 4)).transpose(1, 2) for p in self.qkv(x).chunk(3, -1))
        places = torch.arange(x.shape[1])
        scores = query @ key.transpose(-1, -2) / 2 + self.slopes[:, None, None] * places
        weights = scores.masked_fill(places > places[:, None], -torch.inf).softmax(-1)
        return self.out((weights @ value).transpose(1, 2).flatten(-2))


def canonical_bias(heads, length):
    """What the layer `alibi` gives, to be added to the scores of another."""
    from conformance.flow import Flow
    from conformance.layers import get_layer

    flow = Flow.bind(get_layer("alibi"), {"heads": heads, "query": length, "key": length}, {}, {})
    return {step.name: value for step, value in flow.run(None)}["bias"]


@pytest.mark.parametrize("reversed_sign", [False, True])
def test_attention_with_a_bias_inside_is_judged_with_the_bias_as_a_float_mask(reversed_sign):
    """The module takes its input alone; the oracle is given the bias as what is added to the scores."""
    torch.manual_seed(3)
    inputs = {
        "query_input": np.random.default_rng(4).normal(size=(2, 9, 24)),
        "mask": canonical_bias(6, 9)[None],
    }
    case = check(
        Attention(reversed_sign),
        "multi_head_attention",
        inputs=inputs,
        config={"heads": 6, "causal": "top-left"},
        call=lambda module, query_input, mask: module(query_input),
    )
    if reversed_sign:
        assert (case.status, case.culprit) == ("diverges", "masked")
        assert not any(f.explains for f in case.diagnosis)
    else:
        assert case.status == "conforms"
        assert {s.name: s.status for s in case.steps}["weights"] == "conforms"
