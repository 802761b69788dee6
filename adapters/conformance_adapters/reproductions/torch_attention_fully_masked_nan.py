"""torch.nn.MultiheadAttention gives NaN for a fully masked row with need_weights=True, and a finite output without.

Whether the weights are returned must not change the output: a query without keys attends to nothing.
https://github.com/pytorch/pytorch/issues/160064
"""

import sys

import numpy as np
import torch

torch.manual_seed(0)
attention = torch.nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float64)
x, mask = torch.randn(1, 3, 8, dtype=torch.float64), torch.ones(3, 3, dtype=torch.bool)
expected = attention.out_proj.bias.detach().numpy()[:3]  # weights of zero leave the bias of the output projection
got = attention(x, x, x, attn_mask=mask, need_weights=True)[0].detach().numpy()[0, 0, :3]

print(f"versions: torch {torch.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, atol=1e-6):
    sys.exit("no longer reproduces")
