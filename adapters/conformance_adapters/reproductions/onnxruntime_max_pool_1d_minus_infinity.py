"""ONNX Runtime's MaxPool of minus infinity alone is -3.4028235e+38 in one dimension, in float32.

The greatest of equal numbers is that number, as in its own two dimensions, PyTorch and JAX.
https://onnx.ai/onnx/operators/onnx__MaxPool.html
"""

import sys

import numpy as np
import onnxruntime
from onnx import parser

MODEL = """<ir_version: 10, opset_import: ["" : 22]>
g (float[A, B, C] x) => (float[A, B, D] y) { y = MaxPool <kernel_shape: ints = [2]> (x) }"""
session = onnxruntime.InferenceSession(
    parser.parse_model(MODEL).SerializeToString(), providers=["CPUExecutionProvider"]
)
x = np.full((1, 1, 2), -np.inf, np.float32)
expected = [-np.inf]
got = session.run(None, {"x": x})[0].ravel().tolist()

print(f"versions: onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.array_equal(got, expected):
    sys.exit("no longer reproduces")
