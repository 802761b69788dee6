"""ONNX Runtime's MaxPool of a window with NaN gives neither NaN nor the greatest of its numbers, in float32.

The maximum of 1, NaN, NaN, 0 is NaN where NaN is kept, as in PyTorch and JAX, and 1 where it is ignored.
https://onnx.ai/onnx/operators/onnx__MaxPool.html
"""

import sys

import numpy as np
import onnxruntime
from onnx import parser

MODEL = """<ir_version: 10, opset_import: ["" : 22]>
g (float[A, B, C, D] x) => (float[A, B, E, F] y) { y = MaxPool <kernel_shape: ints = [2, 2]> (x) }"""
session = onnxruntime.InferenceSession(
    parser.parse_model(MODEL).SerializeToString(), providers=["CPUExecutionProvider"]
)
x = np.array([1, np.nan, np.nan, 0], np.float32).reshape(1, 1, 2, 2)
expected = [np.nan]
got = session.run(None, {"x": x})[0].ravel().tolist()

print(f"versions: onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.isnan(got[0]) or got[0] == 1:
    sys.exit("no longer reproduces")
