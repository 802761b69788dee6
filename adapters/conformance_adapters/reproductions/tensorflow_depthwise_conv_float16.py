"""tf.nn.depthwise_conv2d of float16 adds up in float16 on the CPU, and is wrong by percents where there is much to add.

tf.nn.conv2d of the same numbers adds up in float32: https://www.tensorflow.org/api_docs/python/tf/nn/depthwise_conv2d
"""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

n, x = 3000, np.float16(0.1)
expected = float(x) ** 2 * n
got = float(tf.nn.depthwise_conv2d(tf.fill([1, n, 1, 1], x), tf.fill([n, 1, 1, 1], x), [1] * 4, "VALID")[0, 0, 0, 0])

print(f"versions: tensorflow {tf.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, rtol=2e-3):
    sys.exit("no longer reproduces")
