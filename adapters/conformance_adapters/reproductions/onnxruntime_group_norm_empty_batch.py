"""ONNX Runtime's GroupNormalization refuses an empty batch, which its InstanceNormalization takes.

An output of the input's shape is what PyTorch's and Flax's group norm give. The operator is run as its function body,
where a Reshape to [0, groups, -1] takes the 0 for the size that was, and cannot tell what -1 is of no elements.
https://onnx.ai/onnx/operators/onnx__GroupNormalization.html
"""

import sys

import numpy as np
import onnxruntime
from onnx import parser

MODEL = """<ir_version: 10, opset_import: ["" : 21]>
g (float[B, 4, 3] x, float[4] scale, float[4] bias) => (float[B, 4, 3] y) {
    y = GroupNormalization <num_groups: int = 2> (x, scale, bias)
}"""
onnxruntime.set_default_logger_severity(4)
session = onnxruntime.InferenceSession(
    parser.parse_model(MODEL).SerializeToString(), providers=["CPUExecutionProvider"]
)
x, ones = np.zeros((0, 4, 3), np.float32), np.ones(4, np.float32)
expected = list(x.shape)
try:
    got = list(session.run(None, {"x": x, "scale": ones, "bias": ones})[0].shape)
except Exception as error:  # its exceptions have no common base but this
    got = " ".join(str(error).split())[:80]

print(f"versions: onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if got == expected:
    sys.exit("no longer reproduces")
