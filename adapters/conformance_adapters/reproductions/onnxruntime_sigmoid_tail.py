"""ONNX Runtime's Sigmoid is zero in float32 for x below about -18, where the result is far from the smallest float32.

1 / (1 + exp(-x)) is 2e-9 at -20, which PyTorch, TensorFlow and JAX give: https://onnx.ai/onnx/operators/onnx__Sigmoid.html
"""

import sys

import numpy as np
import onnxruntime
from onnx import parser

MODEL = """<ir_version: 10, opset_import: ["" : 13]>
g (float[N] x) => (float[N] y) { y = Sigmoid (x) }"""
session = onnxruntime.InferenceSession(
    parser.parse_model(MODEL).SerializeToString(), providers=["CPUExecutionProvider"]
)
x = np.array([-10.0, -20.0, -40.0, -80.0], np.float32)
expected = (1 / (1 + np.exp(-x.astype(float)))).tolist()
got = session.run(None, {"x": x})[0].tolist()

print(f"versions: onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, rtol=1e-3, atol=0):
    sys.exit("no longer reproduces")
