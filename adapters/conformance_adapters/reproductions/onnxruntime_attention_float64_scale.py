"""ONNX Runtime's Attention of float64 has the digits of float32, since the scale passes through float32.

softmax(Q K^T / sqrt(head size)) V, in the type of Q; the scale is not given here, so nothing of it is float32.
https://onnx.ai/onnx/operators/onnx__Attention.html
"""

import sys

import numpy as np
import onnxruntime
from onnx import parser

MODEL = """<ir_version: 10, opset_import: ["" : 23]>
g (double[A, B, C, D] q, double[A, B, E, D] k, double[A, B, E, F] v)
=> (double[A, B, C, F] y) { y = Attention (q, k, v) }"""
session = onnxruntime.InferenceSession(
    parser.parse_model(MODEL).SerializeToString(), providers=["CPUExecutionProvider"]
)
q, k, v = np.random.default_rng(0).normal(size=(3, 1, 1, 2, 7))
scores = np.exp(q[0, 0] @ k[0, 0].T / np.sqrt(7))
expected = (scores / scores.sum(1, keepdims=True) @ v[0, 0])[0, :2].tolist()
got = session.run(None, {"q": q, "k": k, "v": v})[0][0, 0, 0, :2].tolist()

print(f"versions: onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, rtol=1e-12, atol=0):
    sys.exit("no longer reproduces")
