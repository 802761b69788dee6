"""Attention that is right raises no alarm, however it is written and whatever its numbers are."""

from __future__ import annotations

import clean_attention
import clean_numbers
import clean_weights
import pytest
from clean import Clean, assert_clean

CLEAN = [*clean_attention.CLEAN, *clean_weights.CLEAN, *clean_numbers.CLEAN]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("clean", CLEAN, ids=lambda clean: clean.name)
def test_another_way_to_write_it_conforms(clean: Clean, dtype: str):
    assert_clean(clean, dtype)
