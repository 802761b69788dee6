"""ONNX Runtime's LogSoftmax of a float64 row with NaN gives positive logarithms of probabilities.

Every output depends on the NaN, so every one is NaN, as in float32: https://onnx.ai/onnx/operators/onnx__LogSoftmax.html
"""

import sys

import numpy as np
import onnxruntime
from onnx import parser

MODEL = """<ir_version: 10, opset_import: ["" : 13]>
g (double[M, N] x) => (double[M, N] y) { y = LogSoftmax <axis: int = 1> (x) }"""
session = onnxruntime.InferenceSession(
    parser.parse_model(MODEL).SerializeToString(), providers=["CPUExecutionProvider"]
)
x = np.array([[0.0, 0.0, np.nan], [0.0, 0.0, np.nan]])
expected = [[np.nan] * 3] * 2
got = session.run(None, {"x": x})[0].tolist()

print(f"versions: onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.array_equal(got, expected, equal_nan=True):
    sys.exit("no longer reproduces")
