"""tf.nn.max_pool2d of minus infinity alone is -3.4028235e+38 on the CPU, in float64 too.

The greatest of equal numbers is that number, as in PyTorch, JAX and tf.reduce_max: https://www.tensorflow.org/api_docs/python/tf/nn/max_pool2d
"""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

expected = [-np.inf, -np.inf]
got = [
    tf.nn.max_pool2d(np.full((1, 2, 2, 1), -np.inf, t), 2, 2, "VALID").numpy().item() for t in ("float32", "float64")
]

print(f"versions: tensorflow {tf.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.array_equal(got, expected):
    sys.exit("no longer reproduces")
