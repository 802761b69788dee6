"""On PyTorch, keras.ops.pad(mode='symmetric') repeats the edge instead of reflecting with it.

numpy.pad, whose modes they are, gives 2 1 1 2 3 3 2, as Keras does on TensorFlow and JAX:
https://keras.io/api/ops/numpy/, https://github.com/keras-team/keras/pull/23230
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np

expected = [2.0, 1.0, 1.0, 2.0, 3.0, 3.0, 2.0]
x = np.array([[[1.0, 2.0, 3.0]]], "float32")
padded = keras.ops.pad(x, [[0, 0], [0, 0], [2, 2]], mode="symmetric")
got = keras.ops.convert_to_numpy(padded).ravel().tolist()

print(f"versions: keras {keras.__version__}, back end {keras.backend.backend()}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if got == expected:
    sys.exit("no longer reproduces")
