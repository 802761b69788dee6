"""torch.nn.functional.group_norm loses the variance of a channels_last tensor whose mean is large, in float64 too.

The memory format of a tensor must not change its values; of a contiguous one it is right.
https://docs.pytorch.org/docs/stable/generated/torch.nn.GroupNorm.html
"""

import sys

import numpy as np
import torch

x = np.random.default_rng(0).normal(size=(1, 4, 6, 6)) + 1e8
groups = x.astype(np.longdouble).reshape(1, 2, -1)
normal = (groups - groups.mean(2, keepdims=True)) / np.sqrt(groups.var(2, keepdims=True) + 1e-5)
expected = normal.astype(float)[0, 0, :3].round(4)
given = torch.tensor(x).contiguous(memory_format=torch.channels_last)
got = torch.nn.functional.group_norm(given, 2).numpy()[0, 0, 0, :3].round(4)

print(f"versions: torch {torch.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, atol=1e-3):
    sys.exit("no longer reproduces")
