"""ONNX Runtime's Elu, Selu and Celu lose the digits of small negative x in float32, which come out as zero at -1e-8.

exp(x) - 1 cancels where expm1(x) does not, which PyTorch and JAX take: https://onnx.ai/onnx/operators/onnx__Elu.html
"""

import sys

import numpy as np
import onnxruntime
from onnx import parser

MODEL = """<ir_version: 10, opset_import: ["" : 22]>
g (float[N] x) => (float[N] y) { y = Elu (x) }"""
session = onnxruntime.InferenceSession(
    parser.parse_model(MODEL).SerializeToString(), providers=["CPUExecutionProvider"]
)
x = np.array([-1e-3, -1e-5, -1e-8], np.float32)
expected = np.expm1(x.astype(float)).tolist()
got = session.run(None, {"x": x})[0].tolist()

print(f"versions: onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, rtol=1e-6, atol=0):
    sys.exit("no longer reproduces")
