"""torch.nn.TransformerEncoderLayer gives NaN for a sequence of padding alone under no_grad, and not with gradients.

scaled_dot_product_attention, which is used with gradients, gives zero for a query without keys:
https://github.com/pytorch/pytorch/pull/190486
"""

import sys

import numpy as np
import torch

torch.manual_seed(0)
layer = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, dtype=torch.float64).eval()
x, padding = torch.randn(1, 3, 8, dtype=torch.float64), torch.ones(1, 3, dtype=torch.bool)
expected = layer(x, src_key_padding_mask=padding).detach().numpy()[0, 0, :3].round(4)
with torch.no_grad():
    got = layer(x, src_key_padding_mask=padding).numpy()[0, 0, :3].round(4)

print(f"versions: torch {torch.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, atol=1e-3):
    sys.exit("no longer reproduces")
