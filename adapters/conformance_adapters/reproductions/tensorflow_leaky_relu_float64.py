"""tf.nn.leaky_relu of float64 takes alpha through float32.

max(x, alpha x), in the type of x: https://www.tensorflow.org/api_docs/python/tf/nn/leaky_relu
"""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

expected = [-0.2, -0.1]
got = [tf.nn.leaky_relu(np.array([-1.0]), alpha=alpha).numpy().item() for alpha in (0.2, 0.1)]

print(f"versions: tensorflow {tf.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, rtol=1e-12, atol=0):
    sys.exit("no longer reproduces")
