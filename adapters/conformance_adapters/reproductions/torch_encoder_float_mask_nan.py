"""torch.nn.TransformerEncoderLayer under no_grad takes a float src_mask for a boolean one, and gives NaN.

A float mask is added to the scores, as it is with gradients:
https://docs.pytorch.org/docs/stable/generated/torch.nn.Transformer.html
"""

import sys

import numpy as np
import torch

torch.manual_seed(0)
layer = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, dtype=torch.float64).eval()
x, mask = torch.randn(1, 3, 8, dtype=torch.float64), torch.full((3, 3), 0.5, dtype=torch.float64)
# The same number added to every score changes nothing in the softmax.
expected = layer(x).detach().numpy()[0, 0, :3].round(4)
with torch.no_grad():
    got = layer(x, src_mask=mask).numpy()[0, 0, :3].round(4)

print(f"versions: torch {torch.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, atol=1e-3):
    sys.exit("no longer reproduces")
