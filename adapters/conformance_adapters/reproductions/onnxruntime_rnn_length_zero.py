"""ONNX Runtime's LSTM, GRU and RNN give zero, not the initial state, as the last state of a sequence of length zero.

Without a step the state stays what it was, as Keras has it where every step is masked:
https://onnx.ai/onnx/operators/onnx__RNN.html
"""

import sys

import numpy as np
import onnxruntime
from onnx import parser

MODEL = """<ir_version: 10, opset_import: ["" : 22]>
g (float[T, B, I] x, float[D, H, I] w, float[D, H, H] r, int32[B] lengths, float[D, B, H] initial)
=> (float[D, B, H] last) { y, last = RNN <hidden_size: int = 2> (x, w, r, , lengths, initial) }"""
session = onnxruntime.InferenceSession(
    parser.parse_model(MODEL).SerializeToString(), providers=["CPUExecutionProvider"]
)
weights = {"w": np.ones((1, 2, 1), np.float32), "r": np.ones((1, 2, 2), np.float32)}
inputs = {"x": np.zeros((1, 1, 1), np.float32), "lengths": np.zeros(1, np.int32)}
initial = np.array([[[0.25, -0.5]]], np.float32)
expected = initial.ravel().tolist()
got = session.run(None, {**weights, **inputs, "initial": initial})[0].ravel().tolist()

print(f"versions: onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.array_equal(got, expected):
    sys.exit("no longer reproduces")
