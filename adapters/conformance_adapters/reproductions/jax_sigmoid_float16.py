"""jax.nn.silu and jax.nn.sigmoid of float16 are zero for x below about -11.1, since exp(-x) overflows inside.

x / (1 + exp(-x)) is a normal float16 at -12, which PyTorch and TensorFlow give.
https://docs.jax.dev/en/latest/_autosummary/jax.nn.silu.html
"""

import sys

import jax
import numpy as np

x = np.array([-10, -12], np.float16)
expected = (x.astype(float) / (1 + np.exp(-x.astype(float)))).astype(np.float16).tolist()
got = np.asarray(jax.nn.silu(x)).tolist()

print(f"versions: jax {jax.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, rtol=1e-2, atol=0):
    sys.exit("no longer reproduces")
