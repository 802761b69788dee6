"""tf.nn.avg_pool2d of float16 adds up in float16 on the CPU: the mean of 4096 elements of 0.1 is 0.125.

The mean of equal numbers is that number, as PyTorch has it: https://www.tensorflow.org/api_docs/python/tf/nn/avg_pool2d
"""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

expected = [float(np.float16(0.1)), 300.0]
got = [float(tf.nn.avg_pool2d(tf.fill([1, 64, 64, 1], np.float16(v)), 64, 1, "VALID")[0, 0, 0, 0]) for v in (0.1, 300)]

print(f"versions: tensorflow {tf.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, rtol=2e-3):
    sys.exit("no longer reproduces")
