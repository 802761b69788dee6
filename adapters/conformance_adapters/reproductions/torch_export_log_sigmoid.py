"""torch.onnx.export(dynamo=False) writes LogSigmoid as Log(Sigmoid(x)), which is minus infinity for x = -200.

It is -softplus(-x), which overflows nowhere: https://docs.pytorch.org/docs/stable/generated/torch.nn.LogSigmoid.html
"""

import io
import sys
import warnings

import numpy as np
import onnxruntime
import torch

x = np.array([-200.0, -1.0, 17.0], np.float32)

model = io.BytesIO()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch.onnx.export(torch.nn.LogSigmoid(), (torch.tensor(x),), model, dynamo=False, input_names=["x"])
session = onnxruntime.InferenceSession(model.getvalue(), providers=["CPUExecutionProvider"])

expected = [(-np.logaddexp(0, -np.float64(v))).item() for v in x]
got = session.run(None, {"x": x})[0].tolist()

print(f"versions: torch {torch.__version__}, onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, rtol=1e-5, atol=0):
    sys.exit("no longer reproduces")
