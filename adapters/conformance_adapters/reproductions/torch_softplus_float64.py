"""torch.nn.functional.softplus of float64 is wrong from the ninth digit just above its threshold of 20.

log(1 + exp(x)) differs from x by 2e-9 at 20: the threshold is one for float32. TensorFlow and JAX have every digit.
https://docs.pytorch.org/docs/stable/generated/torch.nn.Softplus.html
"""

import sys

import numpy as np
import torch

x = np.array([20.0, 20.5, 21.0])
expected = (x + np.log1p(np.exp(-x))).tolist()
got = torch.nn.functional.softplus(torch.tensor(x)).tolist()

print(f"versions: torch {torch.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, rtol=1e-14, atol=0):
    sys.exit("no longer reproduces")
