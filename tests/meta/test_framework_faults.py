"""The same faults are found in JAX, TensorFlow and NumPy: a tape is a tape."""

from __future__ import annotations

import pytest
from clean import assert_no_alarm
from framework_faults import FAULTS, RIGHT
from planted import Planted, blamed, explanations


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_placed_and_named(fault: Planted, dtype: str):
    verdict = fault.verdict(dtype)
    assert verdict.status == "diverges"
    assert verdict.culprit == fault.culprit
    assert explanations(verdict) == fault.named
    assert blamed(verdict) == [fault.culprit]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("subject", RIGHT, ids=lambda subject: subject.name)
def test_without_a_fault_there_is_no_alarm(subject: Planted, dtype: str):
    assert_no_alarm(subject.verdict(dtype))
