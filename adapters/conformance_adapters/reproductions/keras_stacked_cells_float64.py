"""keras.layers.RNN of a list of cells, asked for float64, casts what goes through them to float32.

The StackedRNNCells that it makes of the list has the default dtype, not that of the layer and its cells. Where it is
made by hand, in float64, the same cells give all digits. https://keras.io/api/layers/recurrent_layers/rnn/
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf

layers = keras.layers
cells = [layers.SimpleRNNCell(1, kernel_initializer="ones", dtype="float64") for _ in range(2)]
x = np.full((1, 1, 1), 0.1)
expected = float(np.tanh(np.tanh(0.1)))
assert float(layers.RNN(layers.StackedRNNCells(cells, dtype="float64"), dtype="float64")(x)[0, 0]) == expected
got = float(layers.RNN(cells, dtype="float64")(x)[0, 0])

print(f"versions: keras {keras.__version__}, tensorflow {tf.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if abs(got - expected) < 1e-12:
    sys.exit("no longer reproduces")
