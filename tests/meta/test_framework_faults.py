"""Faults in JAX, Flax, Keras, TensorFlow, ONNX graphs and NumPy: found, blamed on the right step, and named."""

from __future__ import annotations

import flax_faults
import jax_faults
import keras_faults
import numpy_faults
import onnx_faults
import pytest
import tensorflow_faults
from planted import Planted, assert_placed_and_named

MODULES = (jax_faults, flax_faults, keras_faults, tensorflow_faults, onnx_faults, numpy_faults)
CASES = [(fault, dtype) for module in MODULES for fault in module.FAULTS for dtype in fault.dtypes]


@pytest.mark.parametrize(("fault", "dtype"), CASES, ids=lambda part: getattr(part, "name", part))
def test_a_planted_fault_is_placed_and_named(fault: Planted, dtype: str):
    assert_placed_and_named(fault, dtype)
