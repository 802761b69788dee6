"""In a graph on TensorFlow, keras.layers.AdaptiveAveragePooling2D raises where a window is a whole axis, as of size 1.

Its output is the mean of the whole axis, as it is eagerly: a model that has one predicts nothing.
https://keras.io/api/layers/pooling_layers/adaptive_average_pooling2d/
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf

x = np.arange(24, dtype=np.float32).reshape(1, 4, 6, 1)
expected = [float(x.mean())]
model = keras.Sequential([keras.Input((4, 6, 1)), keras.layers.AdaptiveAveragePooling2D(1)])
try:
    got = str(model.predict(x, verbose=0).ravel().tolist())
except ValueError as error:
    said = str(error)[str(error).find("Negative dimension size") :]
    got = said.partition(" for ")[0]

print(f"versions: keras {keras.__version__}, tensorflow {tf.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if got == str(expected):
    sys.exit("no longer reproduces")
