"""keras.ops.add of two matrices without rows fails on TensorFlow, which takes the second for a bias.

The sum of two matrices of 0 rows and 4 columns is one, in tf.add, NumPy, and Keras on JAX and torch. A second matrix
whose only axis of more than one element is its last is taken for a vector, though an axis has no element at all. The
LSTM of an empty batch comes to it. https://keras.io/api/ops/numpy/#add-function
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf

x = np.zeros((0, 4), np.float32)
expected = list(np.add(x, x).shape)
try:
    got = list(keras.ops.add(x, x).shape)
except tf.errors.InvalidArgumentError as error:
    got = " ".join(error.message.split())

print(f"versions: keras {keras.__version__}, tensorflow {tf.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if got == expected:
    sys.exit("no longer reproduces")
