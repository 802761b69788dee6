"""ONNX Runtime's Shrink rounds float64 inputs to float32.

y = x + bias for x < -lambd, in the type of x: https://onnx.ai/onnx/operators/onnx__Shrink.html
"""

import sys

import numpy as np
import onnxruntime
from onnx import parser

MODEL = """<ir_version: 10, opset_import: ["" : 9]>
g (double[N] x) => (double[N] y) { y = Shrink <bias: float = 0.0, lambd: float = 0.5> (x) }"""
session = onnxruntime.InferenceSession(
    parser.parse_model(MODEL).SerializeToString(), providers=["CPUExecutionProvider"]
)
x = np.array([0.7, -1.1, 1e30])
expected = x.tolist()
got = session.run(None, {"x": x})[0].tolist()

print(f"versions: onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, rtol=1e-12, atol=0):
    sys.exit("no longer reproduces")
