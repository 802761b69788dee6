"""A Keras RNN with zero_output_for_mask=True and without return_sequences gives zero where the last step is masked.

By its documentation zero_output_for_mask is used with return_sequences=True only; so it is with unroll=True on JAX, and
the last output is that of the last step that is not masked: https://keras.io/api/layers/recurrent_layers/rnn/
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "jax"

import keras
import numpy as np

x, mask = np.array([[[0.5], [1.0]]], "float32"), np.array([[True, False]])
options = {"kernel_initializer": "ones", "zero_output_for_mask": True}
expected = np.tanh(0.5).round(6).item()
got = float(keras.layers.SimpleRNN(1, **options)(x, mask=mask)[0, 0])

print(f"versions: keras {keras.__version__}, back end {keras.backend.backend()}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected):
    sys.exit("no longer reproduces")
