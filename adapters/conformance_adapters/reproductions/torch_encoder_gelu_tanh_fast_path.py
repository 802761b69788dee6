"""torch.nn.TransformerEncoderLayer with GELU(approximate='tanh') computes the exact GELU under no_grad.

The activation that was given must be the one that is computed, in either grad mode:
https://docs.pytorch.org/docs/stable/generated/torch.nn.TransformerEncoderLayer.html
"""

import sys

import numpy as np
import torch

torch.manual_seed(0)
gelu = torch.nn.GELU(approximate="tanh")
layer = torch.nn.TransformerEncoderLayer(8, 2, 16, 0.0, gelu, batch_first=True, dtype=torch.float64).eval()
x = 3 * torch.randn(2, 3, 8, dtype=torch.float64)
expected = layer(x).detach().numpy()[0, 0, :3].round(7)
with torch.no_grad():
    got = layer(x).numpy()[0, 0, :3].round(7)

print(f"versions: torch {torch.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, rtol=0, atol=1e-6):
    sys.exit("no longer reproduces")
