"""ONNX Runtime's ReduceMax of numbers and NaN gives neither NaN nor the greatest of the numbers, in float32.

It is 4 where NaN is ignored, and NaN where it is kept, as by NumPy: https://onnx.ai/onnx/operators/onnx__ReduceMax.html,
https://github.com/microsoft/onnxruntime/issues/10514
"""

import sys

import numpy as np
import onnxruntime
from onnx import parser

MODEL = """<ir_version: 10, opset_import: ["" : 18]>
g (float[N] x) => (float y) { y = ReduceMax <keepdims: int = 0> (x) }"""
session = onnxruntime.InferenceSession(
    parser.parse_model(MODEL).SerializeToString(), providers=["CPUExecutionProvider"]
)
x = np.array([1, np.nan, 3, 4, np.nan, 0, np.nan, 2], np.float32)
expected = np.nan
got = session.run(None, {"x": x})[0].item()

print(f"versions: onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.isnan(got) or got == 4:
    sys.exit("no longer reproduces")
