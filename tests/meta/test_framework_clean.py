"""What is right in JAX, Flax, Keras, TensorFlow, ONNX graphs and NumPy raises no alarm, however it is written."""

from __future__ import annotations

import flax_clean
import jax_clean
import keras_clean
import numpy_clean
import onnx_clean
import pytest
import tensorflow_clean
from clean import Clean, assert_clean

MODULES = (jax_clean, flax_clean, keras_clean, tensorflow_clean, onnx_clean, numpy_clean)
CASES = [(clean, dtype) for module in MODULES for clean in module.CLEAN for dtype in clean.dtypes]


@pytest.mark.parametrize(("clean", "dtype"), CASES, ids=lambda part: getattr(part, "name", part))
def test_another_way_to_write_it_conforms(clean: Clean, dtype: str):
    assert_clean(clean, dtype)
