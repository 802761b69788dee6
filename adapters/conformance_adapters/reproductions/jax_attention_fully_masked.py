"""jax.nn.dot_product_attention gives the mean of the values for a query that may see no key.

A masked key has no weight, so the sum is empty: PyTorch's scaled_dot_product_attention and ONNX's Attention give zero.
https://docs.jax.dev/en/latest/_autosummary/jax.nn.dot_product_attention.html
"""

import sys

import jax
import numpy as np

q, v = np.ones((1, 2, 1, 2), np.float32), np.arange(4, dtype=np.float32).reshape(1, 2, 1, 2)
expected = [0.0, 0.0]
got = np.asarray(jax.nn.dot_product_attention(q, q, v, mask=np.zeros((1, 1, 2, 2), bool)))[0, 0, 0].tolist()

print(f"versions: jax {jax.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.array_equal(got, expected):
    sys.exit("no longer reproduces")
