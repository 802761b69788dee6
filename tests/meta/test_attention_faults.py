"""Attention with planted faults: every one is detected, blamed on the right step, and named where it has a name."""

from __future__ import annotations

import dot_product_faults
import later_faults
import many_faults
import mask_faults
import projection_faults
import pytest
import score_faults
from planted import Planted, blamed, explanations

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
    verdict = fault.verdict(dtype)
    assert verdict.status == "diverges"
    assert verdict.culprit == fault.culprit
    assert explanations(verdict) == fault.named
    if fault.also is not None:
        assert blamed(verdict) == [fault.culprit, *fault.also]
