"""ONNX Runtime's pooling with auto_pad=VALID and ceil_mode=1 has windows that reach beyond the input.

With VALID, output_shape = ceil((input_shape - kernel + 1) / strides) with ceil_mode too, which is 1 here.
https://onnx.ai/onnx/operators/onnx__AveragePool.html, https://github.com/microsoft/onnxruntime/issues/10083
"""

import sys

import numpy as np
import onnxruntime
from onnx import parser

MODEL = """<ir_version: 10, opset_import: ["" : 22]>
g (float[A, B, C] x) => (float[A, B, D] y)
{ y = AveragePool
<kernel_shape: ints = [3], strides: ints = [2], auto_pad: string = "VALID", ceil_mode: int = 1> (x) }"""
session = onnxruntime.InferenceSession(
    parser.parse_model(MODEL).SerializeToString(), providers=["CPUExecutionProvider"]
)
x = np.arange(1, 5, dtype=np.float32)[None, None]
expected = [2.0]
got = session.run(None, {"x": x})[0].ravel().tolist()

print(f"versions: onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.array_equal(got, expected):
    sys.exit("no longer reproduces")
