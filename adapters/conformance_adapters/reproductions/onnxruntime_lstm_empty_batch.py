"""ONNX Runtime's LSTM of an empty batch ends the process; so does its GRU.

Its RNN gives an output without elements, of 3 time steps, 1 direction, batch 0 and 2 units, as PyTorch's and Keras's
LSTM do. https://onnx.ai/onnx/operators/onnx__LSTM.html
"""

import subprocess
import sys

import numpy as np
import onnxruntime
from onnx import parser

MODEL = """<ir_version: 10, opset_import: ["" : 22]>
g (float[T, B, 2] x, float[1, G, 2] w, float[1, G, 2] r) => (float[T, 1, B, 2] y) {
    y = OPERATOR <hidden_size: int = 2> (x, w, r)
}"""


def shape(operator: str, gates: int) -> list[int]:
    """The shape of the output."""
    model = parser.parse_model(MODEL.replace("OPERATOR", operator)).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    weights = np.ones((1, 2 * gates, 2), np.float32)
    return list(session.run(None, {"x": np.zeros((3, 0, 2), np.float32), "w": weights, "r": weights})[0].shape)


if len(sys.argv) > 1:
    sys.exit(str(shape("LSTM", 4)))
expected = shape("RNN", 1)
done = subprocess.run([sys.executable, __file__, "LSTM"], capture_output=True, text=True, check=False)
got = done.stderr.strip() if done.returncode == 1 else f"the process ended with {done.returncode}"
print(f"versions: onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if got == str(expected):
    sys.exit("no longer reproduces")
