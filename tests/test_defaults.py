"""Fixtures that leave options to the framework: its own defaults run, and are judged."""

import pytest

from conformance.fixture import fixtures
from conformance.run import run
from conformance.trace import Request


def test_an_option_that_is_left_to_the_framework_is_not_given_to_it():
    request = Request("layer_norm", "", {"epsilon": 1e-5, "axes": 1}, {}, {}, left=("epsilon",))
    assert request.given("epsilon", eps=1e-5) == {}
    assert request.given("axes", axis=-1, many=1) == {"axis": -1, "many": 1}


@pytest.mark.parametrize(
    ("fixture", "adapter", "subject", "default"),
    [  # as their documentation has them
        ("layer-norm/defaults", "torch", "torch.nn.LayerNorm", None),  # 1e-5
        ("layer-norm/defaults", "keras-torch", "keras.layers.LayerNormalization", "norm.epsilon = 0.001"),
        ("layer-norm/defaults", "jax", "flax.nnx.LayerNorm(use_fast_variance=False)", "norm.epsilon = 1e-06"),
        ("gelu/defaults", "torch", "torch.nn.GELU", None),  # the error function
        ("gelu/defaults", "jax", "jax.nn.gelu", "gelu.approximation = tanh"),
        ("conv2d/defaults", "torch", "torch.nn.Conv2d", None),  # no padding
        ("conv2d/defaults", "jax", "flax.linen.Conv", "conv.padding = same-upper"),
    ],
)
def test_the_default_of_a_framework_is_what_runs(fixture, adapter, subject, default):
    cases = run([fixtures()[fixture]], [adapter], ["float32"]).cases
    [case] = [c for c in cases if c.subject == subject]
    assert sorted(case.left) == sorted(case.config)
    named = [f"{f.convention} = {f.value}" for f in case.diagnosis]
    assert (case.status, named) == (("conforms", []) if default is None else ("known-divergence", [default]))
