"""jax.nn.squareplus loses the digits of negative x, up to zero in float32 and in bfloat16 at -100.

(x + sqrt(x^2 + b)) / 2 is b / (2 (sqrt(x^2 + b) - x)), which does not cancel.
https://docs.jax.dev/en/latest/_autosummary/jax.nn.squareplus.html
"""

import sys

import jax
import numpy as np

x = np.array([-100, -1000, -10000], np.float32)
expected = (2 / (np.sqrt(x.astype(float) ** 2 + 4) - x)).round(8).tolist()
got = np.asarray(jax.nn.squareplus(x)).tolist()

print(f"versions: jax {jax.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, rtol=1e-4, atol=0):
    sys.exit("no longer reproduces")
