"""Activations: planted faults are found and named, other forms raise no alarm."""

from __future__ import annotations

import activation_layers
import pytest
from clean import Clean, assert_clean
from planted import Planted, assert_placed_and_named


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("fault", activation_layers.FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_placed_and_named(fault: Planted, dtype: str):
    assert_placed_and_named(fault, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("clean", activation_layers.CLEAN, ids=lambda clean: clean.name)
def test_another_way_to_write_it_conforms(clean: Clean, dtype: str):
    assert_clean(clean, dtype)
