"""On PyTorch, keras.ops.moments loses the variance where the mean is large beside the deviation.

It is keras.ops.var, as on TensorFlow and JAX; E[x^2] - E[x]^2 cancels.
https://github.com/keras-team/keras/blob/master/keras/src/backend/torch/nn.py
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np

x = (np.random.default_rng(0).normal(size=16) + 1e4).astype("float32")
expected = x.astype(float).var().round(4).item()
got = float(keras.ops.moments(x, axes=[0])[1])

print(f"versions: keras {keras.__version__}, back end {keras.backend.backend()}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, rtol=1e-2):
    sys.exit("no longer reproduces")
