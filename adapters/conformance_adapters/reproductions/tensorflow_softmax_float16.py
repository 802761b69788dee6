"""tf.nn.log_softmax of float16 adds up in float16 on the CPU, and is minus infinity in a row of 70000.

It is -log(70000), which float16 holds, and ONNX Runtime gives: https://www.tensorflow.org/api_docs/python/tf/nn/log_softmax
"""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

expected = float(np.float16(-np.log(70000)))
got = float(tf.nn.log_softmax(tf.zeros([1, 70000], tf.float16))[0, 0])

print(f"versions: tensorflow {tf.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, rtol=2e-3):
    sys.exit("no longer reproduces")
