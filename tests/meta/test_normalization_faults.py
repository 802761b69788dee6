"""RMS, group, instance and batch norm: planted faults are found, other forms raise no alarm."""

from __future__ import annotations

import pytest
from clean import Clean, assert_clean
from normalization_layers import CLEAN, FAULTS
from planted import Planted, assert_placed_and_named


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.name}-{fault.framework}")
def test_a_planted_fault_is_placed_and_named(fault: Planted, dtype: str):
    assert_placed_and_named(fault, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("clean", CLEAN, ids=lambda clean: f"{clean.name}-{clean.framework}")
def test_another_way_to_write_it_conforms(clean: Clean, dtype: str):
    assert_clean(clean, dtype)
