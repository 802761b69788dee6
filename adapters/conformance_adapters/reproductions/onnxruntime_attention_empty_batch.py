"""ONNX Runtime's Attention refuses an empty batch.

Nothing attends to nothing: an output of the query's shape, as jax.nn.dot_product_attention and PyTorch's
scaled_dot_product_attention give it. https://onnx.ai/onnx/operators/onnx__Attention.html
"""

import sys

import numpy as np
import onnxruntime
from onnx import parser

MODEL = """<ir_version: 11, opset_import: ["" : 24]>
g (float[B, 2, 3, 4] q, float[B, 2, 3, 4] k, float[B, 2, 3, 4] v) => (float[B, 2, 3, 4] y) {
    y = Attention (q, k, v)
}"""
onnxruntime.set_default_logger_severity(4)
session = onnxruntime.InferenceSession(
    parser.parse_model(MODEL).SerializeToString(), providers=["CPUExecutionProvider"]
)
x = np.zeros((0, 2, 3, 4), np.float32)
expected = list(x.shape)
try:
    got = list(session.run(None, {"q": x, "k": x, "v": x})[0].shape)
except Exception as error:  # its exceptions have no common base but this
    got = " ".join(str(error).split())[:80]

print(f"versions: onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if got == expected:
    sys.exit("no longer reproduces")
