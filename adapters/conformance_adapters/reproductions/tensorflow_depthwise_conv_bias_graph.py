"""In a graph, tf.nn.depthwise_conv2d with explicit padding and a bias behind it ends the process.

Eagerly, and with TF_ENABLE_ONEDNN_OPTS=0, it gives its output. In a graph the two become one operation, of oneDNN:
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/grappler/optimizers/remapper.cc
"""

import os
import subprocess
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

x, kernel, bias = tf.reshape(tf.range(9.0), [1, 3, 3, 1]), tf.ones([2, 2, 1, 1]), tf.fill([1], 0.5)


def convolution(x):
    """A sum of two by two elements, with a row of zeros above and a column of them to the left."""
    made = tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], [[0, 0], [1, 0], [1, 0], [0, 0]])
    return tf.nn.bias_add(made, bias)


if len(sys.argv) > 1:
    sys.exit(str(tf.function(convolution)(x).numpy().ravel().tolist()))
rows = np.pad(np.arange(9.0).reshape(3, 3), [(1, 0), (1, 0)])
expected = (rows[1:, 1:] + rows[1:, :-1] + rows[:-1, 1:] + rows[:-1, :-1] + 0.5).ravel().tolist()
done = subprocess.run([sys.executable, __file__, "graph"], capture_output=True, text=True, check=False)
ended = f"the process ended with {done.returncode}"
got = done.stderr.splitlines()[-1] if done.returncode == 1 else ended

print(f"versions: tensorflow {tf.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if got == str(expected):
    sys.exit("no longer reproduces")
