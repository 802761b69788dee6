"""tf.nn.elu and tf.nn.selu lose the digits of small negative x, which come out as zero at -1e-8 in float32.

exp(x) - 1 cancels where expm1(x) does not, which PyTorch and JAX take: https://www.tensorflow.org/api_docs/python/tf/nn/elu
"""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

x = np.array([-1e-3, -1e-5, -1e-8], np.float32)
expected = np.expm1(x.astype(float)).tolist()
got = tf.nn.elu(x).numpy().tolist()

print(f"versions: tensorflow {tf.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, rtol=1e-6, atol=0):
    sys.exit("no longer reproduces")
