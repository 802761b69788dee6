"""Valid files to start from, each made by the program that makes such files for users."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

X = np.arange(12.0).reshape(3, 4)


def _mat5(folder: Path) -> None:
    from scipy.io import savemat
    from scipy.sparse import csc_matrix

    content = {"x": X, "i": np.int8([1, -2]), "l": np.array([True, False]), "t": "text", "z": X[0] * 1j, "e": X[:0]}
    content |= {"s": {"a": X, "deep": {"b": np.float32([1])}}, "c": np.array([1.0, "two", X], object)}
    content |= {"p": csc_matrix(np.eye(2)), "m": np.array([(1.0, 2.0), (3.0, 4.0)], [("u", object), ("v", object)])}
    for packed in (False, True):
        savemat(folder / f"all{packed}.mat", content, do_compression=packed)
        recorded = {"X": X, "Weights": X.T, "Bias": X[:, :1], "output": X, "NumHeads": 2.0}
        savemat(folder / f"recording{packed}.mat", recorded, do_compression=packed)
    from conformance_fixtures import __file__ as package

    for file in sorted(Path(package).parent.rglob("*.mat"), key=lambda f: (f.stat().st_size, f))[:2]:
        shutil.copy(file, folder / f"octave-{file.name}")  # recorded by GNU Octave


def _mat73(folder: Path) -> None:
    import h5py

    path = folder / "v73.mat"
    with h5py.File(path, "w", userblock_size=512) as file:

        def put(group: h5py.Group, name: str, data: object, kind: str, **options: object) -> h5py.Dataset:
            item = group.create_dataset(name, data=data, **options)
            item.attrs["MATLAB_class"] = np.bytes_(kind)
            return item

        put(file, "x", X, "double")
        put(file, "packed", np.zeros((20, 20)), "single", compression="gzip", shuffle=True, fletcher32=True)
        put(file, "l", np.uint8([[1, 0]]), "logical").attrs["MATLAB_int_decode"] = np.int32(1)
        put(file, "e", np.uint64([0, 3]), "double").attrs["MATLAB_empty"] = np.uint8(1)
        put(file, "t", np.uint16([[116], [119]]), "char")
        group = file.create_group("s")
        group.attrs["MATLAB_class"] = np.bytes_("struct")
        put(group, "field", X, "int16")
        refs = file.create_group("#refs#")
        inner = put(refs, "a", X, "double")
        cell = file.create_dataset("c", (2, 1), h5py.ref_dtype)
        cell[:, 0] = [inner.ref, group.ref]
        cell.attrs["MATLAB_class"] = np.bytes_("cell")
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 .".ljust(124) + b"\x00\x02IM")


def _safetensors(folder: Path) -> None:
    from safetensors.numpy import save_file

    tensors = {"x": X, "y": X.astype(np.float16), "n": np.arange(5), "b": np.array([True]), "e": X[:0]}
    save_file(tensors, folder / "arrays.safetensors", {"format": "pt"})


def _npz(folder: Path) -> None:
    np.savez(folder / "plain.npz", x=X, y=X.T, n=np.arange(5), b=np.array(True), e=X[:0])
    np.savez_compressed(folder / "packed.npz", x=X, f=np.asfortranarray(X))


def _fixture(folder: Path) -> None:
    from conformance_fixtures import __file__ as package

    for file in sorted(Path(package).parent.rglob("fixture.toml"))[::4]:
        shutil.copy(file, folder / f"{file.parent.name}.toml")
        for arrays in file.parent.glob("*.safetensors"):  # under one name, all of them are there
            shutil.copy(arrays, folder / f"{file.parent.name}-{arrays.name}.companion")
            text = (folder / f"{file.parent.name}.toml").read_text()
            (folder / f"{file.parent.name}.toml").write_text(
                text.replace(f'"{arrays.name}"', f'"{file.parent.name}-{arrays.name}"')
            )


def _divergences(folder: Path) -> None:
    import conformance_adapters

    for file in sorted((Path(conformance_adapters.__file__).parent / "known_divergences").glob("*.toml")):
        shutil.copy(file, folder)


def _policy(folder: Path) -> None:
    (folder / "policy.toml").write_text(
        '[[rule]]\nchange = ["drift", "new"]\nadapter = ["onnx*"]\nlayer = "softmax"\nabove = 4.0\nverdict = "fail"\n'
        'reason = "why"\n\n[[rule]]\nconvention = "attention.*"\nverdict = "pass"\n'
    )


def _result(folder: Path) -> None:
    """A run with a divergence, a diagnosis and samples."""
    import torch

    from conformance.checking import checked_run
    from conformance.report import write

    def softmax(x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(x, 0)

    write("json", checked_run(softmax, "softmax", adapter="torch"), folder / "run.json")


def _saved(folder: Path) -> None:
    """What `run --save` leaves, as an archive."""
    words = ["run", "--fixture", "softmax", "--adapter", "torch", "--dtype", "float32", "--save", str(folder / "run")]
    subprocess.run([sys.executable, "-m", "conformance", *words], check=True, capture_output=True)
    with zipfile.ZipFile(folder / "run.saved", "w") as archive:
        for file in sorted((folder / "run").rglob("*")):
            if file.is_file():
                archive.writestr(zipfile.ZipInfo(str(file.relative_to(folder / "run"))), file.read_bytes())
    with zipfile.ZipFile(folder / "run.saved") as whole, zipfile.ZipFile(folder / "cut.saved", "w") as archive:
        for name in whole.namelist():
            if name != "run.json":  # as an interrupted run has none
                archive.writestr(zipfile.ZipInfo(name), whole.read(name))
    shutil.rmtree(folder / "run")


def _onnx(folder: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper, save_model

    weight = numpy_helper.from_array(np.float32(X.T), "weight")
    nodes = [
        helper.make_node("Gemm", ["x", "weight"], ["h"], "gemm", transB=0),
        helper.make_node("Softmax", ["h"], ["p"], "softmax", axis=-1),
        helper.make_node("Constant", [], ["shape"], value=numpy_helper.from_array(np.array([-1, 3]))),
        helper.make_node("Reshape", ["p", "shape"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "model", [value("x", TensorProto.FLOAT, ["n", 4])], [value("y", TensorProto.FLOAT, None)], [weight]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    save_model(model, folder / "layers.onnx")
    save_model(model, folder / "outside.onnx", save_as_external_data=True, location="layers.data", size_threshold=0)
    (folder / "layers.data").rename(folder / "layers.data.companion")
    filled = helper.make_graph(
        [
            helper.make_node("Constant", [], ["size"], value=numpy_helper.from_array(np.array([2, 4]))),
            helper.make_node("ConstantOfShape", ["size"], ["c"], value=numpy_helper.from_array(np.float32([1]))),
            helper.make_node("Add", ["x", "c"], ["y"]),
        ],
        "filled",
        [value("x", TensorProto.FLOAT, [2, 4])],
        [value("y", TensorProto.FLOAT, None)],
    )
    save_model(
        helper.make_model(filled, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "filled.onnx"
    )


def _keras(folder: Path) -> None:
    import keras

    inputs = keras.Input((4, 3))
    x = keras.layers.MultiHeadAttention(2, 2, name="attention")(inputs, inputs)
    x = keras.layers.LayerNormalization()(x)
    keras.Model(inputs, keras.layers.Dense(5, activation="gelu")(x)).save(folder / "functional.keras")
    rows = [keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 3), keras.layers.Flatten(), keras.layers.Dense(2)]
    keras.Sequential(rows).save(folder / "sequential.keras")


def _pt2(folder: Path) -> None:
    import torch

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(4, 3)
            self.register_buffer("mask", torch.ones(3))
            self.scale = torch.tensor(2.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.softmax(self.linear(x) * self.mask * self.scale, -1) * x.shape[0]

    sizes = {"x": {0: torch.export.Dim("batch", min=2, max=64)}}
    for name, dynamic in (("static", None), ("dynamic", sizes)):
        content = io.BytesIO()
        torch.export.save(torch.export.export(Model().eval(), (torch.ones(2, 4),), dynamic_shapes=dynamic), content)
        (folder / f"{name}.pt2").write_bytes(content.getvalue())


def _state(folder: Path) -> None:
    import torch
    from torch import nn

    layers = {"linear": nn.Linear(3, 2), "norm": nn.LayerNorm(3), "cells": nn.LSTM(3, 2, 2, bidirectional=True)}
    layers |= {"attention": nn.MultiheadAttention(4, 2), "conv": nn.Conv2d(2, 3, 2), "batch": nn.BatchNorm2d(3)}
    plain = nn.Linear(3, 2).state_dict()
    every = nn.ModuleDict(layers).state_dict()
    every["half.weight"], every["half.bias"] = torch.zeros(2, 3).bfloat16(), torch.zeros(2).bfloat16()
    optimizer = torch.optim.Adam(nn.Linear(3, 2).parameters()).state_dict()
    for name, content in (("plain", plain), ("every", every), ("checkpoint", {"model": every, "optimizer": optimizer})):
        made = io.BytesIO()
        torch.save(content, made)
        (folder / f"{name}.pt").write_bytes(made.getvalue())
    torch.save(plain, folder / "old.pt", _use_new_zipfile_serialization=False)
    torch.save(every, folder / "old-every.pt", _use_new_zipfile_serialization=False)


def _layers(folder: Path) -> Iterator[object]:
    """Models of Keras that have, together, a layer of every kind that is read off a file of weights."""
    import keras
    from keras import layers

    inputs = keras.Input((5, 4))
    x = layers.MultiHeadAttention(2, 2)(inputs, inputs)
    x = layers.LayerNormalization(epsilon=1e-5)(x)
    x = layers.LSTM(3, return_sequences=True)(layers.GRU(3, return_sequences=True)(x))
    yield keras.Model(inputs, layers.Dense(2, activation="relu")(layers.Conv1D(3, 2, strides=2)(x)))
    rows = [keras.Input((4, 4, 2)), layers.Conv2D(3, 2), layers.BatchNormalization(), layers.Conv2DTranspose(2, 2)]
    inner = keras.Sequential([layers.DepthwiseConv2D(2), layers.Flatten(), layers.Dense(2)])
    yield keras.Sequential([*rows, layers.GroupNormalization(2), inner])
    yield keras.Sequential([keras.Input((3,)), layers.Embedding(5, 3), layers.SimpleRNN(2), layers.RMSNormalization()])


def _weights_h5(folder: Path) -> None:
    for number, model in enumerate(_layers(folder)):
        model.save_weights(folder / f"model{number}.weights.h5")  # type: ignore[attr-defined]


def _legacy_h5(folder: Path) -> None:
    """Whole models, and the weights alone as Keras 2 wrote them: the same group at the root, names that end in `:0`."""
    import h5py

    for number, model in enumerate(_layers(folder)):
        whole = folder / f"model{number}.h5"
        model.save(whole)  # type: ignore[attr-defined]
        with h5py.File(whole) as old, h5py.File(folder / f"alone{number}.h5", "w") as new:
            _described(old["model_weights"], new)
            for name in old["model_weights"]:
                group = new.create_group(name)
                weights = [
                    n.decode() if isinstance(n, bytes) else n for n in old["model_weights"][name].attrs["weight_names"]
                ]
                group.attrs["weight_names"] = [f"{n}:0".encode() for n in weights]
                for weight in weights:
                    group[f"{weight}:0"] = old["model_weights"][name][weight][()]


def _described(old: Any, new: Any) -> None:
    for name, value in old.attrs.items():
        new.attrs[name] = value


def _exported(folder: Path) -> None:
    from conformance.exporting import export

    (folder / "state").mkdir()
    _state(folder / "state")
    source = folder / "state" / "every.pt"
    export(source, folder / "canonical.safetensors", config={"attention": {"heads": 2}})
    for to in ("torch", "onnx", "matlab"):
        export(folder / "canonical.safetensors", folder / f"{to}.safetensors", to=to)
    for file in folder.glob("*.safetensors"):
        file.rename(file.with_suffix(".exported"))
    shutil.rmtree(folder / "state")


WRITERS: dict[str, Callable[[Path], None]] = {
    "mat5": _mat5,
    "mat73": _mat73,
    "safetensors": _safetensors,
    "npz": _npz,
    "fixture": _fixture,
    "divergences": _divergences,
    "policy": _policy,
    "result": _result,
    "saved": _saved,
    "onnx": _onnx,
    "keras": _keras,
    "pt2": _pt2,
    "state": _state,
    "weights-h5": _weights_h5,
    "legacy-h5": _legacy_h5,
    "exported": _exported,
}
