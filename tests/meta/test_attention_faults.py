"""Attention with planted faults: every one is detected, blamed on the right step, and named where it has a name."""

from __future__ import annotations

import dot_product_faults
import later_faults
import many_faults
import mask_faults
import projection_faults
import pytest
import score_faults
from planted import Planted, assert_placed_and_named

FAULTS = [
    *projection_faults.CORPUS,
    *score_faults.CORPUS,
    *mask_faults.CORPUS,
    *later_faults.CORPUS,
    *many_faults.CORPUS,
    *dot_product_faults.CORPUS,
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_placed_and_named(fault: Planted, dtype: str):
    assert_placed_and_named(fault, dtype)
