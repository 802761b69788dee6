"""jax.nn.softmax of float16 is zero, and log_softmax minus infinity, in a row of 70000, as the sum overflows.

They are 1 / 70000 and its logarithm, which float16 holds: PyTorch's softmax and ONNX Runtime's LogSoftmax give them.
https://docs.jax.dev/en/latest/_autosummary/jax.nn.softmax.html
"""

import sys

import jax
import numpy as np

x = np.zeros((1, 70000), np.float16)
expected = [float(np.float16(1 / 70000)), float(np.float16(-np.log(70000)))]
got = [float(jax.nn.softmax(x)[0, 0]), float(jax.nn.log_softmax(x)[0, 0])]

print(f"versions: jax {jax.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, rtol=2e-2):
    sys.exit("no longer reproduces")
