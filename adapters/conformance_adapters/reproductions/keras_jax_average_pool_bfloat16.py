"""On JAX, keras.layers.AveragePooling2D adds up in bfloat16, so the mean of 4096 elements of 300 is 32.

The mean of equal numbers is that number, as GlobalAveragePooling2D has it, and AveragePooling2D on PyTorch:
https://keras.io/api/layers/pooling_layers/average_pooling2d/
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "jax"

import keras
import numpy as np

x = keras.ops.full((1, 64, 64, 1), 300.0, "bfloat16")
expected = 300.0
got = float(keras.layers.AveragePooling2D(64, dtype="bfloat16")(x)[0, 0, 0, 0])

print(f"versions: keras {keras.__version__}, back end {keras.backend.backend()}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if got == expected:
    sys.exit("no longer reproduces")
