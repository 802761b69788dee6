"""tf.nn.conv3d of float16 adds up in float16 on the CPU, and is wrong by percents where there is much to add.

tf.nn.conv2d of the same numbers adds up in float32: https://www.tensorflow.org/api_docs/python/tf/nn/conv3d
"""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

n, x = 3000, np.float16(0.1)
expected = float(x) ** 2 * n
options = {"strides": [1] * 5, "padding": "VALID"}
got = float(tf.nn.conv3d(tf.fill([1, 1, 1, 1, n], x), tf.fill([1, 1, 1, n, 1], x), **options)[0, 0, 0, 0, 0])

print(f"versions: tensorflow {tf.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, rtol=2e-3):
    sys.exit("no longer reproduces")
