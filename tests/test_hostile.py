"""Hostile and damaged files: every reader gives arrays or one sentence, in bounded time and memory, and runs nothing.

The long search is `benchmarks/fuzz.py`; here it runs for a moment, and what it once found is kept.
"""

import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from conformance.archive import PLAIN
from conformance.arrays import read_arrays
from conformance.errors import ConformanceError
from conformance.fixture import read_folder
from conformance.mat73 import read_mat73
from conformance.policy import read_policy
from conformance_adapters import keras_hdf5

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from fuzzing import campaign, hostile

QUICK = {"mat5": 700, "mat73": 400, "safetensors": 500, "npz": 400, "fixture": 300, "divergences": 200, "policy": 200}
QUICK |= {"exported": 400}


@pytest.mark.parametrize("reader", QUICK)
def test_nothing_but_arrays_or_a_sentence(reader, tmp_path):
    tally = campaign.fuzz(reader, tmp_path / "here", 30, 1, tmp_path / "kept", QUICK[reader])
    assert tally.faults == []
    assert tally.outcomes["refused"] > 20
    assert tally.outcomes["read"] > 0


def test_the_watch_sees_what_none_may_do(tmp_path):
    """The check itself: a reader that unpickles is caught."""
    from fuzzing.child import Watch, read
    from fuzzing.readers import Reader

    class Opens:
        def __reduce__(self):
            return open, (str(tmp_path / "escaped"), "w")

    path = tmp_path / "x.pickle"
    path.write_bytes(pickle.dumps(Opens()))
    watch = Watch(tmp_path / "here")
    sys.addaudithook(watch)
    found = read(Reader(lambda p: pickle.loads(p.read_bytes()), (".pickle",)), path, watch, 1024)
    assert found["outcome"] == "forbidden"
    assert "escaped" in found["said"]
    found = read(Reader(lambda p: {}["no"], (".pickle",)), path, watch, 1024)
    assert found["outcome"] == "traceback"

    def refuse(path):
        raise ConformanceError("it is bad")

    assert read(Reader(refuse, (".pickle",)), path, watch, 1024)["outcome"] == "sentence"


def test_a_message_is_one_printable_line():
    said = str(ConformanceError("a\nb\x1b[31m\ud800 " + "x" * 5000 + " the end"))
    assert said.startswith("a\\nb\\x1b[31m\\ud800 x")
    assert said.endswith("the end")
    assert said.isprintable()
    assert len(said) <= 1010


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "bomb.npz"
    path.write_bytes(hostile.bomb("x.npy", b"\x93NUMPY\1\0"))
    assert path.stat().st_size < 2**21
    with pytest.raises(ConformanceError, match=rf"bomb.npz: unpacks to 10737\d+ bytes, where {PLAIN} are the most"):
        read_arrays(path)


def test_a_member_that_is_larger_than_it_declares_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(10**6))
    content = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(content.replace(struct.pack("<I", 10**6), struct.pack("<I", 10)))
    with pytest.raises(ConformanceError, match="is not a whole"):
        read_arrays(tmp_path / "x.npz")


def test_doubles_that_are_stored_in_bytes_count_as_doubles(tmp_path):
    def element(kind, data):
        return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)

    count = PLAIN // 8 + 8
    body = element(6, struct.pack("<II", 6, 0)) + element(5, struct.pack("<ii", count, 1)) + element(1, b"x")
    whole = zlib.compress(struct.pack("<II", 14, len(body) + 8 + count) + body + element(2, bytes(count)), 9)
    path = tmp_path / "x.mat"
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + struct.pack("<II", 15, len(whole)) + whole)
    with pytest.raises(ConformanceError, match="take more memory than those of a file of its size"):
        read_arrays(path)


@pytest.mark.parametrize("header", ["(", "'''", "{'descr': [('a', '<f8')]", "{1: 2}", "-" * 3000 + "1"])
def test_a_header_that_is_no_literal(tmp_path, header):
    said = header.encode() + b"\n"
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(said)) + said)
    with pytest.raises(ConformanceError, match="is not a whole"):
        read_arrays(tmp_path / "x.npz")


@pytest.mark.parametrize("shape", [[2] + [1] * 99, [2**62, 0], [2**40, 2**40, 0]])
def test_shapes_that_numpy_does_not_have(tmp_path, shape):
    size = 16 if 0 not in shape else 0
    header = json.dumps({"x": {"dtype": "F64", "shape": shape, "data_offsets": [0, size]}}).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(size))
    with pytest.raises(ConformanceError, match=r"x.safetensors: ('x' has a shape that NumPy|is not a whole)"):
        read_arrays(path)


@pytest.mark.parametrize("line", ["x = " + "[" * 3000, "x = 0000-00-00", "x = " + "9" * 3900, "a." * 10**5 + "b = 1"])
def test_toml_that_exhausts_its_reader(tmp_path, line):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "fixture.toml").write_text(f'layer = "softmax"\nsummary = ""\nsource = ""\n{line}\n')
    with pytest.raises(ConformanceError, match=r"fixture\.toml"):
        read_folder(folder)
    (tmp_path / "policy.toml").write_text(line)
    with pytest.raises(ConformanceError, match=r"policy\.toml"):
        read_policy(tmp_path / "policy.toml")


@pytest.mark.parametrize("arrays", ["../secret.npz", "/etc/hostname", "link/secret.npz", "a\\u0000b", "x" * 300])
def test_a_fixture_reads_its_own_folder_only(tmp_path, arrays):
    np.savez(tmp_path / "secret.npz", x=1.0)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    form = f'[[form]]\nname = "a"\narrays = "{arrays}"\n'
    (folder / "fixture.toml").write_text(f'layer = "softmax"\nsummary = ""\nsource = ""\n{form}')
    with pytest.raises(ConformanceError, match="are not in its own folder"):
        read_folder(folder)


# ------------------------------------------------------------------------------------------ PyTorch's archives


@pytest.fixture(scope="module")
def exported():
    """An exported program whose first axis is of any length, as the members of its archive."""
    import torch

    content = io.BytesIO()
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Softmax(-1)).eval()
    sizes = ({0: torch.export.Dim("batch", min=2, max=64)},)
    torch.export.save(torch.export.export(module, (torch.ones(2, 4),), dynamic_shapes=sizes), content)
    with zipfile.ZipFile(content) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(path, members):
    """An archive at `path`."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return path


def test_an_exported_program_is_read(exported, tmp_path):
    from conformance_adapters.torch_archive import load

    program = load(zipped(tmp_path / "x.pt2", exported))
    assert program.state_dict["0.weight"].shape == (3, 4)
    assert any("Symbol" in m.decode("latin-1") for n, m in exported.items() if "models/" in n)  # it has expressions


@pytest.mark.parametrize("change", [{"fqn": "a part"}, {"signature": None}])
def test_an_exported_program_that_is_no_module_is_refused(exported, tmp_path, change):
    """PyTorch reads it, and fails where it is made a module: by AssertionError, and by AttributeError."""
    from conformance_adapters.torch_archive import load

    name = next(n for n in exported if "models/" in n)
    said = json.loads(exported[name])
    said["graph_module"]["module_call_graph"][0] |= change
    with pytest.raises(ConformanceError, match=r"x.pt2: not an exported program that this PyTorch can read"):
        load(zipped(tmp_path / "x.pt2", {**exported, name: json.dumps(said).encode()}))


class Touches:
    """Pickled, it makes the file `RAN` in the folder of work where it is loaded."""

    def __reduce__(self):
        return open, ("RAN", "w")


@pytest.mark.parametrize("where", ["sample_inputs", "weights", "opaque", "expression", "operation", "class", "native"])
def test_no_code_of_an_exported_program_is_run(exported, tmp_path, monkeypatch, where):
    from conformance_adapters.torch_archive import load

    monkeypatch.chdir(tmp_path)
    members, code = dict(exported), pickle.dumps(Touches(), 2)
    program = next(n for n in members if "models/" in n)
    root = program.partition("/")[0]
    if where == "sample_inputs":
        members[next(n for n in members if "sample_inputs" in n)] = code
    elif where in ("weights", "opaque"):
        config = f"{root}/data/weights/model_weights_config.json"
        if where == "opaque":
            config = config.replace("weights", "constants")
        said = json.loads(members[config])
        entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
        if where == "weights":
            entry["path_name"] = "weight_0"
        said["config"]["added"] = entry
        members[config] = json.dumps(said).encode()
        members[f"{config.rpartition('/')[0]}/{entry['path_name']}"] = code
    elif where == "expression":
        text = members[program].decode()
        start = text.index('"expr_str": "') + len('"expr_str": "')
        run = "__import__('pathlib').Path('RAN').touch()"
        members[program] = (text[:start] + run + text[text.index('"', start) :]).encode()
    elif where == "operation":
        members[program] = members[program].replace(b"torch.ops.aten.softmax.int", b"torch.os.system")
    elif where == "class":
        members[program] = members[program].replace(
            b'\\"type\\": \\"builtins.tuple\\", \\"context\\": \\"null\\"',
            b'\\"type\\": \\"collections.defaultdict\\", \\"context\\": {\\"default_factory_module\\": \\"this\\", '
            b'\\"default_factory_name\\": \\"s\\", \\"dict_context\\": []}',
        )
    else:
        members[f"{root}/data/aotinductor/model/x.so"] = b"\x7fELF"
    assert members != exported
    with pytest.raises(ConformanceError, match=r"x.pt2: .*, which is not run from a file"):
        load(zipped(tmp_path / "x.pt2", members))
    assert not (tmp_path / "RAN").exists()
    assert "this" not in sys.modules


# ------------------------------------------------------------------------------------------ Keras and ONNX


KERAS = """
import json, sys
from pathlib import Path

import keras

from conformance.errors import ConformanceError
from conformance_adapters import keras_file
from conformance_adapters.keras_file import load

if sys.argv[1] == "save":
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(sys.argv[2])
else:
    for path in sys.argv[2:]:
        try:
            load(Path(path))
            print(json.dumps("read"))
        except ConformanceError as error:
            print(json.dumps(str(error)))
"""


def in_keras(*words):
    """What a process of its own prints: this one may have Keras with any back end, or is to have one later."""
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    run = [sys.executable, "-c", KERAS, *map(str, words)]
    return subprocess.run(run, env=environment, check=True, capture_output=True, text=True).stdout.splitlines()


def test_keras_files_that_are_hostile(tmp_path):
    from fuzzing.hostile_keras import _layer

    in_keras("save", tmp_path / "valid.keras")
    with zipfile.ZipFile(tmp_path / "valid.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    layers = [
        (_layer("Dense", "keras.layers", units=2**40), r"its layers have \d{13} weights"),
        (
            _layer("TorchModuleWrapper", "keras.layers", module="UEs="),
            "TorchModuleWrapper 'added' is code",
        ),
        (_layer("TFSMLayer", "keras.layers", filepath="/"), "TFSMLayer 'added' is code or leads to it"),
        (_layer("StringLookup", "keras.layers", vocabulary="/etc/hostname"), "StringLookup that reads another file"),
    ]
    paths, expected = [tmp_path / "valid.keras"], ["read"]
    for number, (layer, says) in enumerate(layers):
        config = json.loads(members["config.json"])
        config["config"]["layers"].append(layer)
        paths.append(zipped(tmp_path / f"{number}.keras", members | {"config.json": json.dumps(config).encode()}))
        expected.append(rf"{number}\.keras: .*{says}")
    paths.append(zipped(tmp_path / "escapes.keras", members | {"assets/../../escaped": b""}))
    expected.append(r"it has a member 'assets/\.\./\.\./escaped'")
    linked = io.BytesIO(members["model.weights.h5"])
    with h5py.File(linked, "r+") as file:
        del file["layers/dense/vars/0"]
        file["layers/dense/vars/0"] = h5py.ExternalLink("/etc/hostname", "/x")
    paths.append(zipped(tmp_path / "linked.keras", members | {"model.weights.h5": linked.getvalue()}))
    expected.append("'0' in its weights is a link to something elsewhere")
    for said, pattern in zip(in_keras("load", *paths), expected, strict=True):
        assert re.search(pattern, json.loads(said)), (said, pattern)


@pytest.mark.parametrize("location", ["../secret.bin", "link.bin", "a\0b", "x" * 5000, "", "."])
def test_data_of_an_onnx_model_is_in_its_own_folder(tmp_path, location):
    from onnx import TensorProto, helper

    from conformance_adapters.onnx_model import read_model

    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(8))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=location)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])], "g", [value("x", 1, [2])], [value("y", 1, [2])], [weight]
    )
    (folder / "m.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(ConformanceError, match="not inside the model's own folder"):
        read_model(folder / "m.onnx")


@pytest.mark.parametrize("dims", [[2**40], [2**62, 4], [3]])
def test_a_tensor_that_does_not_hold_what_it_declares(tmp_path, dims):
    from onnx import TensorProto, helper

    from conformance_adapters.onnx_model import read_model

    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=bytes(8))
    value = helper.make_tensor_value_info
    graph = helper.make_graph([], "g", [], [value("w", 1, [2])], [weight])
    (tmp_path / "m.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(ConformanceError, match="'w' does not hold what its type and shape say"):
        read_model(tmp_path / "m.onnx")


def test_what_h5py_raises_for_a_keras_files_weights_is_a_sentence(tmp_path, monkeypatch):
    """A root that is damaged in a certain way has no identity: h5py raises TypeError, and not OSError."""

    def unhashable(*arguments):
        raise TypeError("Objects of class FileID cannot be hashed")

    monkeypatch.setattr("h5py.File", unhashable)
    with pytest.raises(ValueError, match=r"its weights do not hold together \(Objects of class FileID"):
        keras_hdf5.require_plain(tmp_path / "x.keras", b"")


@pytest.mark.parametrize("error", [IndexError("tuple index out of range"), TypeError("cannot be hashed")])
def test_whatever_h5py_raises_for_a_damaged_file_is_a_sentence(tmp_path, monkeypatch, error):
    """A dataset whose chunks have fewer axes than itself: h5py raises IndexError where its compression is asked for."""

    def damaged(*arguments):
        raise error

    monkeypatch.setattr("h5py.File", damaged)
    with pytest.raises(ConformanceError, match=rf"x.mat: is truncated or corrupt \({error}\); save it anew"):
        read_mat73(tmp_path / "x.mat", "save it anew")
