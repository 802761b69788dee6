"""tf.nn.softmax of a row with NaN or infinity gives zero for the other elements in float32.

Every output is divided by the sum, which is NaN, so every one is NaN: PyTorch, JAX, tf.nn.log_softmax.
https://www.tensorflow.org/api_docs/python/tf/nn/softmax
"""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

expected = [[np.nan] * 3, [np.nan] * 3]
got = tf.nn.softmax(np.array([[np.nan, 0, 0], [np.inf, 0, 0]], np.float32)).numpy().tolist()

print(f"versions: tensorflow {tf.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.array_equal(got, expected, equal_nan=True):
    sys.exit("no longer reproduces")
