"""torch.nn.TransformerEncoder gives zeros at padded positions under no_grad, and other numbers with gradients.

The same module on the same input must not depend on the grad mode:
https://docs.pytorch.org/docs/stable/generated/torch.nn.TransformerEncoder.html
"""

import sys

import numpy as np
import torch

torch.manual_seed(0)
layer = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, dtype=torch.float64)
encoder = torch.nn.TransformerEncoder(layer, 1).eval()
x = torch.randn(2, 3, 8, dtype=torch.float64)
padding = torch.tensor([[False, False, False], [False, False, True]])
expected = encoder(x, src_key_padding_mask=padding).detach().numpy()[1, 2, :3].round(4)
with torch.no_grad():
    got = encoder(x, src_key_padding_mask=padding).numpy()[1, 2, :3].round(4)

print(f"versions: torch {torch.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, atol=1e-3):
    sys.exit("no longer reproduces")
