"""flax.linen.avg_pool adds up in bfloat16, so the mean of 4096 elements of 300 is 128.

The mean of equal numbers is that number, as jax.numpy.mean has it, and PyTorch and TensorFlow.
https://flax.readthedocs.io/en/stable/api_reference/flax.linen/layers.html
"""

import sys

import flax
import flax.linen
import jax
import numpy as np

x = jax.numpy.full((1, 64, 64, 1), 300, jax.numpy.bfloat16)
expected = 300.0
got = float(flax.linen.avg_pool(x, (64, 64))[0, 0, 0, 0])

print(f"versions: jax {jax.__version__}, flax {flax.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if got == expected:
    sys.exit("no longer reproduces")
