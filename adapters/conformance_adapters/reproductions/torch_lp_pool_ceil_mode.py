"""torch.nn.functional.lp_pool1d(ceil_mode=True) counts elements beyond the edge as if they were there.

A window is the p-th root of the sum of the elements in it; the last window here has one.
https://docs.pytorch.org/docs/stable/generated/torch.nn.LPPool1d.html
"""

import sys

import numpy as np
import torch

x = np.array([3.0, 4.0, 5.0])
expected = [np.sqrt((x[i : i + 2] ** 2).sum()).round(4).item() for i in (0, 2)]
got = (
    torch.nn.functional.lp_pool1d(torch.tensor(x)[None, None], 2.0, 2, ceil_mode=True).numpy().ravel().round(4).tolist()
)

print(f"versions: torch {torch.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, atol=1e-3):
    sys.exit("no longer reproduces")
