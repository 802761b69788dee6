"""ONNX Runtime's Gelu(approximate=tanh) of float64 has the digits of float32: its constants are float32.

0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), in the type of x: https://onnx.ai/onnx/operators/onnx__Gelu.html
"""

import sys

import numpy as np
import onnxruntime
from onnx import parser

MODEL = """<ir_version: 10, opset_import: ["" : 20]>
g (double[N] x) => (double[N] y) { y = Gelu <approximate: string = "tanh"> (x) }"""
session = onnxruntime.InferenceSession(
    parser.parse_model(MODEL).SerializeToString(), providers=["CPUExecutionProvider"]
)
x = np.array([-1.0, 0.5, 2.0])
expected = (x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))).tolist()
got = session.run(None, {"x": x})[0].tolist()

print(f"versions: onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, rtol=1e-12, atol=0):
    sys.exit("no longer reproduces")
