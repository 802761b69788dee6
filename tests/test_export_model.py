"""`export` to a framework's own model of one layer, `.onnx` and `.keras`: the file is run by the framework itself."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from conformance import export_model
from conformance.cli import main
from conformance.errors import ConformanceError
from conformance.exporting import export

torch.manual_seed(20260101)
MODULES = {
    "linear": (nn.Linear(7, 5), (2, 3, 7), {}),
    "conv2d": (nn.Conv2d(3, 5, (3, 2)), (2, 3, 8, 9), {}),
    "lstm": (nn.LSTM(5, 7, batch_first=True), (3, 4, 5), {}),
    "gru": (nn.GRU(5, 7, batch_first=True), (3, 4, 5), {}),
    "batch_norm": (nn.BatchNorm2d(5), (2, 5, 4, 3), {}),
    "layer_norm": (nn.LayerNorm(11), (2, 3, 11), {}),
    "multi_head_attention": (nn.MultiheadAttention(12, 3, batch_first=True), (2, 5, 12), {"heads": 3}),
}
for _module, _, _ in MODULES.values():
    for _parameter in _module.parameters():
        nn.init.normal_(_parameter, std=0.3)
    _module.eval()


def exported(name, folder, output, to):
    module, _, config = MODULES[name]
    torch.save(module.state_dict(), folder / "source.pt")
    return export(folder / "source.pt", folder / output, to=to, layers=[name], config={"": config})


def expected(name):
    """An input and what PyTorch gives for it, channels last."""
    module, shape, _ = MODULES[name]
    x = torch.randn(shape)
    with torch.no_grad():
        y = module(x, x, x)[0] if name == "multi_head_attention" else module(x)
    y = y[0] if isinstance(y, tuple) else y
    last = (0, *range(2, x.ndim), 1) if name in ("conv2d", "batch_norm") else range(x.ndim)
    return x.permute(*last).numpy(), y.permute(*last).numpy()


@pytest.mark.parametrize("name", MODULES)
def test_onnx_runtime_runs_what_is_written(tmp_path, name):
    import onnx
    import onnxruntime

    done = exported(name, tmp_path, "layer.onnx", "onnx")
    assert (done.rows[0].target.subject, done.rows[0].target.status) == ("layer.onnx", "conforms")
    onnx.checker.check_model(onnx.load(tmp_path / "layer.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(tmp_path / "layer.onnx", providers=["CPUExecutionProvider"])
    x, y = expected(name)  # of other sizes than it was built with
    [fed] = session.get_inputs()
    assert [d for d in fed.shape if isinstance(d, str)]
    assert np.allclose(session.run(None, {fed.name: x})[0], y, atol=1e-5)


@pytest.mark.parametrize("name", ["linear", "conv2d", "lstm", "gru", "batch_norm"])
def test_the_weights_in_an_onnx_model_are_the_same_bytes(tmp_path, name):
    exported(name, tmp_path, "layer.onnx", "onnx")
    exported(name, tmp_path, "direct.safetensors", None)
    back = export(tmp_path / "layer.onnx", tmp_path / "back.safetensors")
    assert [row.layer for row in back.rows] == [name]
    direct, there = load_file(tmp_path / "direct.safetensors"), load_file(tmp_path / "back.safetensors")
    assert {n: a.tobytes() for n, a in direct.items()} == {n: a.tobytes() for n, a in there.items()}


def test_an_onnx_model_has_the_same_bytes_each_time(tmp_path):
    for output in ("a.onnx", "b.onnx"):
        exported("lstm", tmp_path, output, "onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


RUN = """
import sys
import keras, numpy as np
for name in sys.argv[1:]:
    model = keras.saving.load_model(f"{name}.keras")
    with np.load(f"{name}.npz") as held:
        assert np.allclose(model(held["x"]), held["y"], atol=1e-5), name
"""


def test_keras_loads_and_runs_what_is_written(tmp_path):
    names = ("linear", "lstm", "multi_head_attention")
    for name in names:
        done = exported(name, tmp_path, f"{name}.keras", "keras")
        assert done.rows[0].target.status == "conforms", name
        x, y = expected(name)
        np.savez(tmp_path / f"{name}.npz", x=x, y=y)
        exported(name, tmp_path, "direct.safetensors", None)
        export(tmp_path / f"{name}.keras", tmp_path / "back.safetensors")
        direct, back = load_file(tmp_path / "direct.safetensors"), load_file(tmp_path / "back.safetensors")
        assert {n: a.tobytes() for n, a in direct.items()} == {n: a.tobytes() for n, a in back.items()}
    words = [sys.executable, "-c", RUN, *names]
    subprocess.run(words, cwd=tmp_path, check=True, timeout=300, env={**os.environ, "KERAS_BACKEND": "jax"})


def test_a_model_that_computes_something_else_is_not_written(tmp_path, monkeypatch):
    from conformance_adapters.exporting import OnnxExporting

    right = OnnxExporting.write_model

    def wrong(self, path, request, shapes):
        right(
            self,
            path,
            request.__class__(**{**vars(request), "weights": {"kernel": -request.weights["kernel"]}}),
            shapes,
        )

    monkeypatch.setattr(OnnxExporting, "write_model", wrong)
    done = exported("linear", tmp_path, "layer.onnx", "onnx")
    assert done.exit_code == 1
    assert "the model that was written does not compute the same" in done.rows[0].reason
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source.pt"]


def test_several_layers_are_no_model(tmp_path):
    torch.save(nn.ModuleDict({"a": nn.Linear(3, 2), "b": nn.Linear(3, 2)}).state_dict(), tmp_path / "two.pt")
    with pytest.raises(ConformanceError, match=r"out.onnx: a model of one layer is written, and .*two.pt has several"):
        export(tmp_path / "two.pt", tmp_path / "out.onnx", to="onnx")
    assert export(tmp_path / "two.pt", tmp_path / "out.onnx", to="onnx", layers=["b"]).exit_code == 0


def test_a_model_needs_its_framework_as_the_target(tmp_path, monkeypatch, capsys):
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "source.pt")
    monkeypatch.chdir(tmp_path)
    assert main(["export", "source.pt", "--to", "keras", "-o", "out.onnx"]) == 2
    error = capsys.readouterr().err
    assert "out.onnx: a file of this name is not written here" in error
    assert ".onnx with --to onnx" in error
    assert not (tmp_path / "out.onnx").exists()


def test_axes_that_the_weights_do_not_tell_have_names():
    from conformance.export_source import LayerWeights

    weights = {"scale": np.ones((4, 3)), "bias": np.ones((4, 3))}
    layer = LayerWeights(
        "", "layer_norm", {"axes": 2, "epsilon": 1e-5}, weights, "float32", {"x": np.ones((2, 5, 4, 3))}
    )
    assert export_model.shapes_of(layer) == {"x": ("shape0", "shape1", 4, 3)}
