"""jax.nn.dot_product_attention of float64 inputs has the digits of float32.

softmax(Q K^T / sqrt(head size)) V, in the type of the inputs: https://github.com/jax-ml/jax/issues/37422
"""

import sys

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)
q, k, v = np.random.default_rng(0).normal(size=(3, 1, 2, 1, 7))
scores = np.exp(q[0, :, 0] @ k[0, :, 0].T / np.sqrt(7))
expected = (scores / scores.sum(1, keepdims=True) @ v[0, :, 0])[0, :2].tolist()
got = np.asarray(jax.nn.dot_product_attention(q, k, v))[0, 0, 0, :2].tolist()

print(f"versions: jax {jax.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, rtol=1e-12, atol=0):
    sys.exit("no longer reproduces")
