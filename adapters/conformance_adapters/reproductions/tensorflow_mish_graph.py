"""In a graph, TensorFlow makes of x * tanh(softplus(x)) an operation with few digits for x < -9, zero at -20.

An optimised graph must give what its operations give: with TF_ENABLE_ONEDNN_OPTS=0 it does.
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/grappler/optimizers/remapper.cc
"""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

x = np.array([-9, -14, -20] * 8, np.float32)
wide = x.astype(float)
expected = (wide * np.tanh(np.log1p(np.exp(wide))))[:3].tolist()


@tf.function
def mish(x):
    """Mish, as a graph."""
    return x * tf.tanh(tf.math.softplus(x))


got = mish(tf.constant(x)).numpy()[:3].tolist()

print(f"versions: tensorflow {tf.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, rtol=1e-4, atol=0):
    sys.exit("no longer reproduces")
