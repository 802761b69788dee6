"""On TensorFlow, keras.ops.dot_product_attention of float64 takes its scale through float32.

softmax(Q K^T / sqrt(head size)) V, in the type of the inputs: https://keras.io/api/ops/nn/
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np

q, k, v = np.random.default_rng(0).normal(size=(3, 1, 2, 1, 7))
scores = np.exp(q[0, :, 0] @ k[0, :, 0].T / np.sqrt(7))
expected = (scores / scores.sum(1, keepdims=True) @ v[0, :, 0])[0, :2].tolist()
got = keras.ops.convert_to_numpy(keras.ops.dot_product_attention(q, k, v))[0, 0, 0, :2].tolist()

print(f"versions: keras {keras.__version__}, back end {keras.backend.backend()}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, rtol=1e-12, atol=0):
    sys.exit("no longer reproduces")
