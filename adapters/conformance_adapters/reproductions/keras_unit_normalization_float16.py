"""keras.layers.UnitNormalization of float16 is zero for vectors of length 256 and more, whose squares overflow.

x / sqrt(sum(x^2)) is 0.6 and 0.8 here; layer normalisation of float16 takes its sums in float32.
https://keras.io/api/layers/normalization_layers/unit_normalization/
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np

expected = [0.6, 0.8]
layer = keras.layers.UnitNormalization(dtype="float16")
got = keras.ops.convert_to_numpy(layer(np.array([[300, 400]], "float16"))).astype(float)[0].round(3).tolist()

print(f"versions: keras {keras.__version__}, back end {keras.backend.backend()}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, rtol=2e-3):
    sys.exit("no longer reproduces")
