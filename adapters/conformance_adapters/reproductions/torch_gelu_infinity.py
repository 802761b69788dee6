"""torch.nn.functional.gelu(inf) is inf in a tensor of one element and NaN in a longer one, in float32.

x * Phi(x) tends to x: https://docs.pytorch.org/docs/stable/generated/torch.nn.GELU.html, and
https://github.com/pytorch/pytorch/issues/185770. TensorFlow and JAX give inf.
"""

import sys

import numpy as np
import torch

expected = [np.inf, np.inf]
got = [torch.nn.functional.gelu(torch.full((n,), np.inf))[0].item() for n in (1, 64)]

print(f"versions: torch {torch.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.array_equal(got, expected):
    sys.exit("no longer reproduces")
