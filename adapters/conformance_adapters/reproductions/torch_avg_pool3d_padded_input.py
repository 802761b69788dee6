"""torch.nn.functional.avg_pool3d refuses an input smaller than its window, where padding makes it large enough.

Two elements along each axis, with one of padding on both sides, hold a window of four: ones in an eighth of it, and
padding that counts. avg_pool1d and avg_pool2d take theirs, and so does max_pool3d.
https://docs.pytorch.org/docs/stable/generated/torch.nn.AvgPool3d.html
"""

import sys

import torch

x = torch.ones(1, 1, 2, 2, 2)
expected = [torch.nn.functional.pad(x, (1,) * 6).mean().item()]
try:
    got = torch.nn.functional.avg_pool3d(x, 4, padding=1).ravel().tolist()
except RuntimeError as error:
    got = str(error)

print(f"versions: torch {torch.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if got == expected:
    sys.exit("no longer reproduces")
