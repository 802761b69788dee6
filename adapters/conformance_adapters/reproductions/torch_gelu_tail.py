"""torch.nn.functional.gelu has few digits right for x below about -3, and none for x below about -8.3, in float64 too.

It is x * Phi(x), and 1 + erf(x / sqrt(2)) cancels where erfc(-x / sqrt(2)) does not, which JAX takes.
https://docs.pytorch.org/docs/stable/generated/torch.nn.GELU.html, https://github.com/pytorch/pytorch/issues/187806
"""

import math
import sys

import numpy as np
import torch

x = [-5.0, -7.0, -10.0]
expected = [v * math.erfc(-v / math.sqrt(2)) / 2 for v in x]
got = torch.nn.functional.gelu(torch.tensor(x, dtype=torch.float64)).tolist()

print(f"versions: torch {torch.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, rtol=1e-12, atol=0):
    sys.exit("no longer reproduces")
