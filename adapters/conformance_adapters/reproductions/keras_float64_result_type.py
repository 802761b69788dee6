"""A Keras layer of dtype float64 has the digits of float32 on PyTorch and JAX, as keras.ops gives float32 for float64.

(x - mean) / sqrt(variance + epsilon), in the layer's dtype, as on TensorFlow:
https://github.com/keras-team/keras/issues/23704
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np

x = np.random.default_rng(0).normal(size=(1, 5))
expected = ((x - x.mean()) / np.sqrt(x.var() + 1e-3))[0, :2].tolist()
got = keras.ops.convert_to_numpy(keras.layers.LayerNormalization(dtype="float64")(x))[0, :2].tolist()

print(f"versions: keras {keras.__version__}, back end {keras.backend.backend()}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, rtol=1e-12, atol=0):
    sys.exit("no longer reproduces")
