"""tf.nn.relu6(nan) is zero in a tensor of one element, and NaN in a longer one, when compiled by XLA on the CPU.

min(max(x, 0), 6) of NaN is NaN, as without XLA: https://www.tensorflow.org/api_docs/python/tf/nn/relu6
"""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

relu6 = tf.function(tf.nn.relu6, jit_compile=True)
expected = [np.nan, np.nan]
got = [relu6(tf.constant([np.nan] * n, tf.float32)).numpy()[0].item() for n in (1, 64)]

print(f"versions: tensorflow {tf.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.array_equal(got, expected, equal_nan=True):
    sys.exit("no longer reproduces")
