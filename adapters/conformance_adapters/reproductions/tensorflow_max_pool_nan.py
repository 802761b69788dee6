"""tf.nn.max_pool2d of NaN alone is the least number of the format on the CPU, in float32 and float64.

tf.reduce_max of it is NaN, and so are the maximum pools of PyTorch and JAX.
https://www.tensorflow.org/api_docs/python/tf/nn/max_pool2d
"""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

expected = [np.nan, np.nan]
got = [tf.nn.max_pool2d(np.full((1, 2, 2, 1), np.nan, t), 2, 2, "VALID").numpy().item() for t in ("float32", "float64")]

print(f"versions: tensorflow {tf.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.isnan(got).any():
    sys.exit("no longer reproduces")
