"""keras.ops.max refuses an empty batch on TensorFlow and torch, where that axis is not the one of the maximum.

keras.layers.GlobalMaxPooling1D, 2D and 3D come to it. No image gives no row of 3 channels in np.max, torch.amax and
tf.reduce_max along the axes of space, and in Keras on JAX.
https://keras.io/api/layers/pooling_layers/global_max_pooling2d/
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np

x = np.zeros((0, 5, 5, 3), np.float32)
expected = list(x.max(axis=(1, 2)).shape)
try:
    got = list(keras.ops.max(x, axis=(1, 2)).shape)
except ValueError as error:
    got = str(error)

print(f"versions: keras {keras.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if got == expected:
    sys.exit("no longer reproduces")
