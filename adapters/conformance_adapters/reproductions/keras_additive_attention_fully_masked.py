"""keras.layers.AdditiveAttention without a real key gives the mean in float32, and in float64 what no mask gives.

Masked scores are lowered by 1e9, in which float32 forgets them and float64 does not; a masked key has no weight:
https://keras.io/api/layers/attention_layers/additive_attention/
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np

query, value = np.array([[[1.0]]]), np.array([[[0.0], [4.0]]])
masks = [None, np.array([[False, False]])]
expected, got = [0.0, 0.0], []
for dtype in ("float32", "float64"):
    attention = keras.layers.AdditiveAttention(use_scale=False, dtype=dtype)
    output = attention([query.astype(dtype), value.astype(dtype)], mask=masks)
    got.append(round(float(keras.ops.convert_to_numpy(output)[0, 0, 0]), 4))

print(f"versions: keras {keras.__version__}, back end {keras.backend.backend()}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected):
    sys.exit("no longer reproduces")
