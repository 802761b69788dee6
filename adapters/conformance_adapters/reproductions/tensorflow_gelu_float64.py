"""tf.nn.gelu of float64 has the digits of float32, since its constants are cast from float32.

x / 2 (1 + erf(x / sqrt(2))), in the type of x: https://www.tensorflow.org/api_docs/python/tf/nn/gelu
"""

import math
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

x = [-1.0, 0.5, 2.0]
expected = [v / 2 * (1 + math.erf(v / math.sqrt(2))) for v in x]
got = tf.nn.gelu(np.array(x)).numpy().tolist()

print(f"versions: tensorflow {tf.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, rtol=1e-12, atol=0):
    sys.exit("no longer reproduces")
