"""Weights rearranged, left out or simply others, numbers, and coarser arithmetic: named; near misses: not."""

from __future__ import annotations

import pytest
import weight_faults
from planted import Planted, assert_placed_and_named
from problem import verdict
from torch import Tensor
from watched import in_torch

CASES = [(fault, dtype) for fault in weight_faults.CORPUS for dtype in fault.dtypes]


@pytest.mark.parametrize(("fault", "dtype"), CASES, ids=[f"{fault.name}-{dtype}" for fault, dtype in CASES])
def test_a_planted_fault_is_placed_and_named(fault: Planted, dtype: str):
    assert_placed_and_named(fault, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_keys_missing_bias_cannot_matter(dtype: str):
    given = verdict(weight_faults.SQUARE, in_torch(weight_faults.WhispersKey), dtype)
    assert given.status == "conforms"
    assert given.causes == ()


class UnderAutocastAndNotScaled(weight_faults.Autocast):
    """What is stored in bfloat16 is not all that is wrong."""

    def scaled(self, scores: Tensor) -> Tensor:
        return scores * 0.3


def test_a_narrower_format_does_not_explain_a_fault_beside_it():
    given = verdict(weight_faults.SQUARE, in_torch(UnderAutocastAndNotScaled), "float32")
    assert given.status == "diverges"
    scaled = [cause for cause in given.causes if cause.step == "scaled"]
    assert "arithmetic.precision" not in {cause.convention for cause in scaled}
