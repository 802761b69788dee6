"""ONNX's GroupNormalization loses the variance where the mean is large, since its function body has E[x^2] - E[x]^2.

y = scale * (x - mean) / sqrt(variance + epsilon) + bias: https://onnx.ai/onnx/operators/onnx__GroupNormalization.html
"""

import sys

import numpy as np
import onnxruntime
from onnx import parser

MODEL = """<ir_version: 10, opset_import: ["" : 21]>
g (float[A, B, C] x, float[B] s, float[B] b)
=> (float[A, B, C] y) { y = GroupNormalization <num_groups: int = 1> (x, s, b) }"""
session = onnxruntime.InferenceSession(
    parser.parse_model(MODEL).SerializeToString(), providers=["CPUExecutionProvider"]
)
x = (np.random.default_rng(0).normal(size=(1, 2, 8)) + 1e4).astype(np.float32)
wide = x.astype(float)
expected = ((wide - wide.mean()) / np.sqrt(wide.var() + 1e-5))[0, 0, :3].round(3).tolist()
got = session.run(None, {"x": x, "s": np.ones(2, np.float32), "b": np.zeros(2, np.float32)})[0][0, 0, :3].tolist()

print(f"versions: onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, atol=0.1):
    sys.exit("no longer reproduces")
