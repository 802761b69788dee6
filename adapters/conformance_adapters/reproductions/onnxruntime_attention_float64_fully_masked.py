"""ONNX Runtime's Attention of float64 gives NaN for a query that may see no key, where that of float32 gives zero.

The specification says zero for a row in which every key is masked: https://onnx.ai/onnx/operators/onnx__Attention.html
"""

import sys

import numpy as np
import onnxruntime
from onnx import parser

MODEL = """<ir_version: 10, opset_import: ["" : 23]>
g (double[A, B, C, D] q, bool[C, C] mask) => (double[A, B, C, D] y) { y = Attention (q, q, q, mask) }"""
session = onnxruntime.InferenceSession(
    parser.parse_model(MODEL).SerializeToString(), providers=["CPUExecutionProvider"]
)
expected = [0.0, 0.0]
got = session.run(None, {"q": np.ones((1, 1, 2, 2)), "mask": np.zeros((2, 2), bool)})[0][0, 0, 0].tolist()

print(f"versions: onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.array_equal(got, expected):
    sys.exit("no longer reproduces")
