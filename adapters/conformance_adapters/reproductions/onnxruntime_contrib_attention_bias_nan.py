"""com.microsoft.MultiHeadAttention gives NaN where attention_bias is minus infinity for every key of a row.

The ONNX operator Attention of the same runtime, and PyTorch's scaled_dot_product_attention, give zero.
https://onnx.ai/onnx/operators/onnx__Attention.html
"""

import sys

import numpy as np
import onnxruntime
from onnx import parser

MODEL = """<ir_version: 10, opset_import: ["" : 17, "com.microsoft" : 1]>
g (float[A, B, C] q, float[A, D, C] k, float[A, D, C] v, float[A, E, B, D] bias) => (float[A, B, C] y)
{ y = com.microsoft.MultiHeadAttention <num_heads: int = 1> (q, k, v, , , bias) }"""
session = onnxruntime.InferenceSession(
    parser.parse_model(MODEL).SerializeToString(), providers=["CPUExecutionProvider"]
)
q, bias = np.ones((1, 2, 8), np.float32), np.full((1, 1, 2, 2), -np.inf, np.float32)
expected = [0.0, 0.0]
got = session.run(None, {"q": q, "k": q, "v": q, "bias": bias})[0][0, 0, :2].tolist()

print(f"versions: onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.array_equal(got, expected):
    sys.exit("no longer reproduces")
