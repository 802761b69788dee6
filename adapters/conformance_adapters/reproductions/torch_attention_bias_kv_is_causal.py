"""torch.nn.MultiheadAttention(add_bias_kv=True) hides the learned key from most queries where is_causal=True.

is_causal is a hint that attn_mask is the causal mask and must not change the output; the key that is added has no
mask, as with is_causal=False: https://docs.pytorch.org/docs/stable/generated/torch.nn.MultiheadAttention.html
"""

import sys

import numpy as np
import torch

torch.manual_seed(0)
attention = torch.nn.MultiheadAttention(8, 2, add_bias_kv=True, batch_first=True, dtype=torch.float64)
x, mask = torch.randn(1, 3, 8, dtype=torch.float64), torch.ones(3, 3, dtype=torch.bool).triu(1)
options = {"attn_mask": mask, "need_weights": False}
expected = attention(x, x, x, is_causal=False, **options)[0].detach().numpy()[0, 0, :3].round(4)
got = attention(x, x, x, is_causal=True, **options)[0].detach().numpy()[0, 0, :3].round(4)

print(f"versions: torch {torch.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, atol=1e-3):
    sys.exit("no longer reproduces")
