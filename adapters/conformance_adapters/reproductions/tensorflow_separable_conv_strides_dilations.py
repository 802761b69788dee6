"""tf.nn.separable_conv2d of strides and dilations has another output than that of its definition, and says nothing.

Its documentation excludes the two together, and it raises nothing; tf.nn.depthwise_conv2d has a warning for it.
https://www.tensorflow.org/api_docs/python/tf/nn/separable_conv2d
"""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

x = np.arange(9, dtype=np.float32)
# One row, a window of two elements that are two apart, at every second place.
expected = (x[:-2] + x[2:])[::2].tolist()
try:
    image, depthwise, pointwise = x.reshape(1, 1, 9, 1), np.ones((1, 2, 1, 1), "f"), np.ones((1, 1, 1, 1), "f")
    made = tf.nn.separable_conv2d(image, depthwise, pointwise, [1, 2, 2, 1], "VALID", dilations=[1, 2])
except ValueError:
    sys.exit("no longer reproduces")
got = made.numpy().ravel().tolist()

print(f"versions: tensorflow {tf.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if got == expected:
    sys.exit("no longer reproduces")
