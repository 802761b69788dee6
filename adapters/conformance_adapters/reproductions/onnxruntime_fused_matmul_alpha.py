"""ONNX Runtime's optimiser makes a float32 of a float64 constant that multiplies a MatMul.

An optimised graph must give what the graph says: 1/sqrt(7) is no float32. Without optimisations it is right.
https://github.com/microsoft/onnxruntime/pull/28145
"""

import sys

import numpy as np
import onnxruntime
from onnx import parser

MODEL = """<ir_version: 10, opset_import: ["" : 13]>
g (double[M, K] a, double[K, N] b) => (double[M, N] y)
<double scale = {0.3779644730092272}> { scaled = Mul (a, scale)
y = MatMul (scaled, b) }"""
session = onnxruntime.InferenceSession(
    parser.parse_model(MODEL).SerializeToString(), providers=["CPUExecutionProvider"]
)
a, b = np.random.default_rng(0).normal(size=(2, 3, 3))
expected = (a * 0.3779644730092272 @ b)[0, :2].tolist()
got = session.run(None, {"a": a, "b": b})[0][0, :2].tolist()

print(f"versions: onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, rtol=1e-12, atol=0):
    sys.exit("no longer reproduces")
