"""Flax's Embed of one row does not take a single index.

The row is what it gives for a table of two rows, and what torch.nn.Embedding and keras.layers.Embedding give.
https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/linear.html
"""

import sys

import flax
import jax
import jax.numpy as jnp
from flax import nnx

two, one = (nnx.Embed(rows, 4, rngs=nnx.Rngs(0)) for rows in (2, 1))
expected = list(two(jnp.array(0)).shape)
try:
    got = list(one(jnp.array(0)).shape)
except ValueError as error:
    got = str(error)

print(f"versions: jax {jax.__version__}, flax {flax.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if got == expected:
    sys.exit("no longer reproduces")
