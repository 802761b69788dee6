"""On PyTorch, AveragePooling2D(3, strides=2, padding='same') of an even size counts the padding at the edge.

The mean is of the elements in the window, as on TensorFlow and JAX: https://github.com/keras-team/keras/pull/23233
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np

x = np.arange(16, dtype="float32").reshape(1, 4, 4, 1)
expected = [x[0, i : i + 3, j : j + 3, 0].mean().item() for i in (0, 2) for j in (0, 2)]
got = keras.ops.convert_to_numpy(keras.layers.AveragePooling2D(3, strides=2, padding="same")(x)).ravel().tolist()

print(f"versions: keras {keras.__version__}, back end {keras.backend.backend()}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected):
    sys.exit("no longer reproduces")
