"""tf.pad in mode REFLECT refuses an empty batch, though that axis is not padded.

No row of 5 elements with one more at both ends is no row of 7: np.pad, jnp.pad and torch.nn.functional.pad give it, and
so does mode SYMMETRIC. The rule that is broken, that padding be less than the axis, has no padding there.
https://www.tensorflow.org/api_docs/python/tf/pad
"""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

x, amounts = np.zeros((0, 5), np.float32), [[0, 0], [1, 1]]
expected = list(np.pad(x, amounts, mode="reflect").shape)
try:
    got = tf.pad(x, amounts, mode="REFLECT").shape.as_list()
except tf.errors.InvalidArgumentError as error:
    got = " ".join(error.message.split())

print(f"versions: tensorflow {tf.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if got == expected:
    sys.exit("no longer reproduces")
