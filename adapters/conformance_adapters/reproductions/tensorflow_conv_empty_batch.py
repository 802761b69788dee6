"""tf.nn.conv2d of an empty batch has the shape of its input, not that of its output, in float32.

No image of 8x8 pixels and 3 channels gives no image of 6x6 pixels and 5 channels where the kernel is 3x3x3x5, as in
float64 and float16, and in PyTorch and JAX. conv1d, conv3d and depthwise_conv2d are alike, bfloat16 too.
https://www.tensorflow.org/api_docs/python/tf/nn/conv2d
"""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

expected = tf.nn.conv2d(np.zeros((0, 8, 8, 3)), np.ones((3, 3, 3, 5)), 1, "VALID").shape.as_list()
got = tf.nn.conv2d(np.zeros((0, 8, 8, 3), np.float32), np.ones((3, 3, 3, 5), np.float32), 1, "VALID").shape.as_list()

print(f"versions: tensorflow {tf.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if got == expected:
    sys.exit("no longer reproduces")
