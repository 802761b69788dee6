"""jax.nn.standardize loses the variance where the mean is large beside the deviation.

(x - mean) / sqrt(variance + epsilon), with the variance that jax.numpy.var gives: E[x^2] - E[x]^2 cancels.
https://github.com/jax-ml/jax/issues/37281
"""

import sys

import jax
import numpy as np

x = (np.random.default_rng(0).normal(size=16) + 1e4).astype(np.float32)
wide = x.astype(float)
expected = ((wide - wide.mean()) / np.sqrt(wide.var() + 1e-5))[:3].round(3).tolist()
got = np.asarray(jax.nn.standardize(x))[:3].tolist()

print(f"versions: jax {jax.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, atol=0.1):
    sys.exit("no longer reproduces")
