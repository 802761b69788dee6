"""On PyTorch, keras.layers.Attention and AdditiveAttention of float16 give NaN for a sample without a real key.

Scores are to be lowered by float16's greatest number, 65504, as on TensorFlow and JAX, which gives the mean of the
values; PyTorch's dtype is not equal to the word float16, so that 1e9 is taken, which is infinite there:
https://github.com/keras-team/keras/blob/v3.15.1/keras/src/layers/attention/attention.py
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np

x = np.array([[[1.0, 2.0], [3.0, 6.0]]], "float16")
masks = [None, np.array([[False, False]])]
layers = keras.layers.Attention(dtype="float16"), keras.layers.AdditiveAttention(use_scale=False, dtype="float16")
expected = [[2.0, 4.0], [2.0, 4.0]]
got = [keras.ops.convert_to_numpy(layer([x, x], mask=masks))[0, 0].tolist() for layer in layers]

print(f"versions: keras {keras.__version__}, back end {keras.backend.backend()}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected):
    sys.exit("no longer reproduces")
