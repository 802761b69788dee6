"""com.microsoft.MultiHeadAttention(unidirectional=1) masks the last query otherwise, where keys outnumber queries.

Whether the mask begins at the first or ends at the last key, query i + 1 sees one key more than query i.
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MultiHeadAttention
"""

import sys

import numpy as np
import onnxruntime
from onnx import parser

MODEL = """<ir_version: 10, opset_import: ["" : 17, "com.microsoft" : 1]>
g (float[A, B, C] q, float[A, D, C] k, float[A, D, C] v) => (float[A, B, C] y)
{ y = com.microsoft.MultiHeadAttention <num_heads: int = 1, unidirectional: int = 1> (q, k, v) }"""
session = onnxruntime.InferenceSession(
    parser.parse_model(MODEL).SerializeToString(), providers=["CPUExecutionProvider"]
)
q, k = np.zeros((1, 3, 8), np.float32), np.zeros((1, 5, 8), np.float32)
v = np.eye(5, 8, dtype=np.float32)[None]  # with equal scores, the output shows the weights
seen = (session.run(None, {"q": q, "k": k, "v": v})[0][0, :, :5] > 0).sum(1)
expected = [[1, 2, 3], [3, 4, 5]]  # keys that the queries see: from the top left, or to the bottom right
got = seen.tolist()

print(f"versions: onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if got in expected:
    sys.exit("no longer reproduces")
