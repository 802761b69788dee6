"""`export` on bad input, by the command line: one sentence, exit 2, no code run, nothing written."""

import io
import json
import pickle
import zipfile

import h5py
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from conformance.cli import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the command is run: what it leaves there is seen."""
    made = tmp_path / "here"
    made.mkdir()
    monkeypatch.chdir(made)
    return made


def refused(folder, capfd, *words):
    """The sentence; the command wrote nothing, and said nothing else."""
    before = {p: p.read_bytes() for p in folder.parent.rglob("*") if p.is_file()}
    assert main(["export", *words]) == 2
    out, error = capfd.readouterr()
    lines = [line for line in error.splitlines() if line.startswith("conformance: ")]
    assert out == ""
    assert len(lines) == 1
    assert "Traceback" not in error
    assert {p: p.read_bytes() for p in folder.parent.rglob("*") if p.is_file()} == before
    return lines[0]


def test_a_layer_that_is_not_there(folder, capfd):
    torch.save(nn.ModuleDict({"fc1": nn.Linear(3, 2), "norm": nn.LayerNorm(2)}).state_dict(), "model.pt")
    said = refused(folder, capfd, "model.pt", "--layer", "fc2", "-o", "out.safetensors")
    assert "model.pt: there is no layer 'fc2' (did you mean 'fc1'?)" in said
    assert said.endswith("it has fc1 (linear), norm (layer_norm)")


def test_a_layout_that_nobody_knows(folder, capfd):
    torch.save(nn.Linear(3, 2).state_dict(), "model.pt")
    said = refused(folder, capfd, "model.pt", "--to", "tensroflow", "-o", "out.safetensors")
    assert "unknown layout 'tensroflow'; it can be flax, keras, matlab, onnx, torch" in said


class Writes:
    """A pickle of it makes a file where it is loaded."""

    def __reduce__(self):
        return open, ("it-ran", "w")


def archive(members):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as new:
        for name, body in members.items():
            new.writestr(name, body)
    return made.getvalue()


@pytest.mark.parametrize("kind", ["archive", "old", "alone", "checkpoint"])
def test_a_state_dict_with_pickled_code(folder, capfd, kind):
    state = {**nn.Linear(3, 2).state_dict(), "extra": Writes()}
    if kind == "alone":
        (folder / "model.pt").write_bytes(pickle.dumps(state))
    else:
        content = {"model": nn.Linear(3, 2).state_dict(), "args": Writes()} if kind == "checkpoint" else state
        torch.save(content, "model.pt", _use_new_zipfile_serialization=kind != "old")
    said = refused(folder, capfd, "model.pt", "-o", "out.safetensors")
    assert "model.pt: it holds pickled code, which is never run" in said
    assert not (folder / "it-ran").exists()


def test_a_byte_array_of_any_size(folder, capfd):
    """PyTorch's own unpickler without code makes one, of as many bytes as a pickle of thirty says."""
    torch.save(nn.Linear(3, 2).state_dict(), "model.pt")
    with zipfile.ZipFile("model.pt") as held:
        members = {name: held.read(name) for name in held.namelist()}
    (root,) = {name.partition("/")[0] for name in members}
    members[f"{root}/data.pkl"] = b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x01\x85R."
    (folder / "model.pt").write_bytes(archive(members))
    said = refused(folder, capfd, "model.pt", "-o", "out.safetensors")
    assert "model.pt: it holds a bytearray, which may be of any size" in said


def test_a_dictionary_that_holds_itself(folder, capfd):
    around = {}
    around["model"] = around
    torch.save(around, "model.pt")
    assert "model.pt: holds no state dict" in refused(folder, capfd, "model.pt", "-o", "out.safetensors")


@pytest.mark.parametrize("shapes", [{"l.weight_ih_l0": (12, 0), "l.weight_hh_l0": (12, 0)}, {"n.running_mean": ()}])
def test_sizes_that_no_module_has(folder, capfd, shapes):
    torch.save({name: torch.zeros(shape) for name, shape in shapes.items()}, "model.pt")
    said = refused(folder, capfd, "model.pt", "-o", "out.safetensors")
    assert "model.pt: nothing in it can be converted" in said
    assert "are of no module" in said


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_lambda(folder, capfd, suffix):
    config = {"name": "lambda", "function": {"class_name": "__lambda__", "config": {"code": "4wEAAAA="}}}
    layer = {"module": "keras.layers", "class_name": "Lambda", "config": config, "registered_name": None}
    model = {"module": "keras", "class_name": "Sequential", "config": {"name": "m", "layers": [layer]}}
    if suffix == "keras":
        members = {"metadata.json": b'{"keras_version": "3.15.1"}', "config.json": json.dumps(model).encode()}
        (folder / "model.keras").write_bytes(archive(members))
    else:
        with h5py.File("model.h5", "w") as file:
            file.attrs["model_config"] = json.dumps(model)
            file.create_group("model_weights").attrs["layer_names"] = [b"lambda"]
    said = refused(folder, capfd, f"model.{suffix}", "-o", "out.safetensors")
    assert f"model.{suffix}: its Lambda 'lambda' is code or leads to it, which is not run from a file" in said


@pytest.mark.parametrize("where", ["above", "absolute", "link", "linked folder"])
def test_onnx_data_outside_of_its_folder(folder, capfd, where):
    np.arange(12, dtype="<f4").tofile(folder.parent / "secret.bin")
    if where == "link":
        (folder / "data.bin").symlink_to(folder.parent / "secret.bin")
    if where == "linked folder":
        (folder / "inner").symlink_to(folder.parent)
    location = {"above": "../secret.bin", "absolute": str(folder.parent / "secret.bin"), "link": "data.bin"}
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3, 4], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=location.get(where, "inner/secret.bin"))
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [2, 3]), ("y", [2, 4]))]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), "model.onnx")
    said = refused(folder, capfd, "model.onnx", "-o", "out.safetensors")
    assert said.startswith("conformance: model.onnx: ")


@pytest.mark.parametrize("name", ["cut.h5", "cut.weights.h5", "cut.hdf5"])
@pytest.mark.parametrize("part", [0.1, 0.6, 0.95])
def test_a_truncated_file_of_hdf5(folder, capfd, name, part):
    with h5py.File("whole.h5", "w") as file:
        file.attrs["layer_names"] = [b"d"]
        file.create_group("d").attrs["weight_names"] = [b"d/kernel:0"]
        file["d/d/kernel:0"] = np.ones((30, 20))
    whole = (folder / "whole.h5").read_bytes()
    (folder / name).write_bytes(whole[: int(len(whole) * part)])
    said = refused(folder, capfd, name, "-o", "out.safetensors")
    assert f"{name}: is truncated or corrupt" in said
