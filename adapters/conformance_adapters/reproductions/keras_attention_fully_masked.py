"""keras.layers.MultiHeadAttention gives a query that may see no key the mean of the values, or zero with the scores.

Whether the scores are returned must not change the output; a masked key has no weight, so the sum is empty, as in ONNX:
https://keras.io/api/layers/attention_layers/multi_head_attention/, https://onnx.ai/onnx/operators/onnx__Attention.html
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np

x = np.random.default_rng(0).normal(size=(1, 3, 2)).astype("float32")
attention = keras.layers.MultiHeadAttention(1, 2)
masked = {"attention_mask": np.zeros((1, 3, 3), bool)}
outputs = [attention(x, x, **masked), attention(x, x, return_attention_scores=True, **masked)[0]]
expected = [[0.0, 0.0], [0.0, 0.0]]
got = [keras.ops.convert_to_numpy(output)[0, 0].round(4).tolist() for output in outputs]

print(f"versions: keras {keras.__version__}, back end {keras.backend.backend()}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected):
    sys.exit("no longer reproduces")
