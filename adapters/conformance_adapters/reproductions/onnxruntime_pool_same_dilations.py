"""ONNX Runtime's pooling with auto_pad=SAME_UPPER and dilations gives an output that is smaller than the input.

With SAME_UPPER, output_shape = ceil(input_shape / strides), and the padding counts the dilated kernel.
https://onnx.ai/onnx/operators/onnx__MaxPool.html
"""

import sys

import numpy as np
import onnxruntime
from onnx import parser

MODEL = """<ir_version: 10, opset_import: ["" : 22]>
g (float[A, B, C] x) => (float[A, B, D] y)
{ y = MaxPool <kernel_shape: ints = [2], dilations: ints = [2], auto_pad: string = "SAME_UPPER"> (x) }"""
session = onnxruntime.InferenceSession(
    parser.parse_model(MODEL).SerializeToString(), providers=["CPUExecutionProvider"]
)
x = np.arange(1, 6, dtype=np.float32)[None, None]  # padded by one on either side, as a dilated kernel of extent 3 needs
expected = [2, 3, 4, 5, 4]
got = session.run(None, {"x": x})[0].ravel().tolist()

print(f"versions: onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.array_equal(got, expected):
    sys.exit("no longer reproduces")
