"""torch.onnx.export(dynamo=False) writes CELU of float64 with a cast to float32 and back.

A float64 model must stay one, as ELU does: https://docs.pytorch.org/docs/stable/generated/torch.nn.CELU.html
"""

import io
import sys
import warnings

import numpy as np
import onnxruntime
import torch

x = np.array([-1.0, 0.1, 0.7])

model = io.BytesIO()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch.onnx.export(torch.nn.CELU(), (torch.tensor(x),), model, dynamo=False, input_names=["x"])
session = onnxruntime.InferenceSession(model.getvalue(), providers=["CPUExecutionProvider"])

expected = np.where(x > 0, x, np.expm1(x)).tolist()
got = session.run(None, {"x": x})[0].tolist()

print(f"versions: torch {torch.__version__}, onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if np.allclose(got, expected, rtol=1e-12, atol=0):
    sys.exit("no longer reproduces")
