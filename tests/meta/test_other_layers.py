"""Layer norm, softmax, linear, gelu, conv2d and lstm: planted faults are found, other forms raise no alarm."""

from __future__ import annotations

import adaptive_layers
import additive_layers
import bilinear_layers
import channelwise_layers
import convolution_layers
import lstm_layers
import norm_layers
import other_layers
import pooling_layers
import position_layers
import pytest
import resize_layers
import shape_layers
import transposed_layers
from clean import Clean, assert_clean
from planted import Planted, assert_placed_and_named

LAYERS = (
    norm_layers,
    other_layers,
    convolution_layers,
    channelwise_layers,
    lstm_layers,
    pooling_layers,
    adaptive_layers,
    bilinear_layers,
    transposed_layers,
    shape_layers,
    resize_layers,
    position_layers,
    additive_layers,
)
FAULTS = [fault for module in LAYERS for fault in module.FAULTS]
CLEAN = [clean for module in LAYERS for clean in module.CLEAN]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_placed_and_named(fault: Planted, dtype: str):
    assert_placed_and_named(fault, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("clean", CLEAN, ids=lambda clean: clean.name)
def test_another_way_to_write_it_conforms(clean: Clean, dtype: str):
    assert_clean(clean, dtype)
