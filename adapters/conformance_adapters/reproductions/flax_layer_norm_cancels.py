"""Flax's normalisations lose the variance where the mean is large beside the deviation, unless use_fast_variance=False.

(x - mean) / sqrt(variance + epsilon): E[x^2] - E[x]^2 cancels. PyTorch and TensorFlow do not take it.
https://flax.readthedocs.io/en/stable/api_reference/flax.linen/layers.html
"""

import sys

import flax
import flax.linen
import jax
import numpy as np

x = (np.random.default_rng(0).normal(size=(1, 16)) + 1e4).astype(np.float32)
wide = x.astype(float)
expected = ((wide - wide.mean()) / np.sqrt(wide.var() + 1e-6))[0, :3].round(3).tolist()
got = np.asarray(flax.linen.LayerNorm().init_with_output(jax.random.key(0), x)[0])[0, :3].tolist()

print(f"versions: jax {jax.__version__}, flax {flax.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, atol=0.1):
    sys.exit("no longer reproduces")
