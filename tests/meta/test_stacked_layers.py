"""Recurrent layers one upon another: planted faults are found and named, other forms raise no alarm."""

from __future__ import annotations

import pytest
from clean import Clean, assert_clean
from planted import Planted, assert_placed_and_named
from stacked_layers import CLEAN, FAULTS


@pytest.mark.parametrize(
    ("fault", "dtype"), [(f, d) for f in FAULTS for d in f.dtypes], ids=lambda p: getattr(p, "name", p)
)
def test_a_planted_fault_is_placed_and_named(fault: Planted, dtype: str):
    assert_placed_and_named(fault, dtype)


@pytest.mark.parametrize(
    ("clean", "dtype"), [(c, d) for c in CLEAN for d in c.dtypes], ids=lambda p: getattr(p, "name", p)
)
def test_another_way_to_write_it_conforms(clean: Clean, dtype: str):
    assert_clean(clean, dtype)
