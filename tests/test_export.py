"""`export`: weights come out as the frameworks themselves lay them out, and the way back gives the same bytes."""

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import scipy.io
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

from conformance.cli import main
from conformance.errors import ConformanceError
from conformance.export_source import layout_names
from conformance.exporting import export

torch.manual_seed(20260101)
MODULES = {
    "linear": (nn.Linear(7, 5), {}),
    "linear-no-bias": (nn.Linear(7, 5, bias=False), {}),
    "attention": (nn.MultiheadAttention(12, 3), {"heads": 3}),
    "cross-attention": (nn.MultiheadAttention(12, 3, kdim=5, vdim=7), {"heads": 3}),
    "lstm": (nn.LSTM(5, 7), {}),
    "both-ways": (nn.LSTM(5, 7, bidirectional=True), {}),
    "gru": (nn.GRU(5, 7), {}),
    "rnn": (nn.RNN(5, 7), {}),
    "layer-norm": (nn.LayerNorm(11), {}),
    "embedding": (nn.Embedding(11, 6), {}),
    "batch-norm": (nn.BatchNorm2d(5), {}),
    "conv1d": (nn.Conv1d(3, 5, 2), {}),
    "conv2d": (nn.Conv2d(3, 5, (3, 2)), {}),
    "conv3d": (nn.Conv3d(3, 5, (3, 2, 1)), {}),
}
SAID = {
    "linear-no-bias": ["linear"],
    "layer-norm": ["layer_norm"],
    "embedding": ["embedding"],
}  # what names and shapes do not tell
for _module, _ in MODULES.values():
    for _parameter in _module.parameters():
        nn.init.normal_(_parameter, std=0.3)
MODULES["batch-norm"][0].num_batches_tracked += 7


def saved(name, folder):
    """The state dict in a file, and the options that it is to be read with."""
    module, config = MODULES[name]
    torch.save(module.state_dict(), folder / "source.pt")
    return folder / "source.pt", {"layers": SAID.get(name, []), "config": {"": config} if config else {}}


def reasons(done):
    return {row.path: row.reason for row in done.rows if row.reason}


# -- a state dict --------------------------------------------------------------------------------------------------


def test_a_linear_layer_is_transposed(tmp_path):
    source, _ = saved("linear", tmp_path)
    done = export(source, tmp_path / "out.safetensors")
    state, held = MODULES["linear"][0].state_dict(), load_file(tmp_path / "out.safetensors")
    assert np.array_equal(held["kernel"], state["weight"].numpy().T)
    assert np.array_equal(held["bias"], state["bias"].numpy())
    [row] = done.rows
    assert (row.layer, row.source.subject, row.source.status) == ("linear", "torch.nn.Linear", "conforms")
    assert row.source.ratio < 1


def test_a_packed_attention_is_taken_apart(tmp_path):
    source, _ = saved("attention", tmp_path)
    done = export(source, tmp_path / "out.safetensors")
    packed, held = MODULES["attention"][0].in_proj_weight.detach().numpy(), load_file(tmp_path / "out.safetensors")
    for i, name in enumerate(("query_kernel", "key_kernel", "value_kernel")):
        assert np.array_equal(held[name], packed[12 * i : 12 * (i + 1)].T)
    assert done.rows[0].assumed == ("heads",)


def test_two_biases_are_one(tmp_path):
    source, _ = saved("lstm", tmp_path)
    export(source, tmp_path / "out.safetensors")
    state, held = MODULES["lstm"][0].state_dict(), load_file(tmp_path / "out.safetensors")
    assert np.array_equal(held["bias"], (state["bias_ih_l0"] + state["bias_hh_l0"]).numpy())


@pytest.mark.parametrize("name", MODULES)
def test_a_state_dict_comes_back_as_it_was(tmp_path, name):
    source, options = saved(name, tmp_path)
    there, back = tmp_path / "there.safetensors", tmp_path / "back.pt"
    assert export(source, there, **options).exit_code == 0
    assert export(there, back, to="torch").exit_code == 0
    before, after = (torch.load(f, weights_only=True) for f in (source, back))
    assert list(before) == list(after)
    for key, tensor in before.items():
        assert tensor.dtype == after[key].dtype
        assert tensor.numpy().tobytes() == after[key].numpy().tobytes()


MATLAB_HAS_NOT = ("cross-attention", "rnn")
PAIRS = [
    (name, to)
    for to in layout_names()
    for name in MODULES
    if (to != "matlab" or name not in MATLAB_HAS_NOT) and (to, name) != ("flax", "gru")
]


@pytest.mark.parametrize(("name", "to"), PAIRS)
def test_another_layout_and_back_gives_the_same_bytes(tmp_path, name, to):
    source, options = saved(name, tmp_path)
    there, other, back = (tmp_path / f"{n}.safetensors" for n in ("there", "other", "back"))
    export(source, there, **options)
    done = export(there, other, to=to)
    assert done.rows[0].target.status == ("not-run" if to == "matlab" else "conforms")
    export(other, back)
    before, after = load_file(there), load_file(back)
    assert before.keys() == after.keys()
    assert all(a.dtype == after[n].dtype and a.tobytes() == after[n].tobytes() for n, a in before.items())


@pytest.mark.parametrize("options", [{}, {"bidirectional": True}], ids=["forward", "in both directions"])
def test_the_biases_of_a_grus_gates_are_one_in_flax(tmp_path, options, capsys):
    module = nn.GRU(5, 7, **options)
    torch.save(module.state_dict(), tmp_path / "source.pt")
    done = export(tmp_path / "source.pt", tmp_path / "out.safetensors", to="flax")
    [row] = done.rows
    assert (row.is_folded, row.target.status, row.target.ratio < 1) == (True, "conforms", True)
    cell = "forward_rnn.cell" if options else "cell"
    held, state = load_file(tmp_path / "out.safetensors"), module.state_dict()
    both = (state["bias_ih_l0"] + state["bias_hh_l0"]).numpy()
    assert np.array_equal(held[f"{cell}.ir.bias"], both[:7])
    assert np.array_equal(held[f"{cell}.iz.bias"], both[7:14])
    assert np.array_equal(held[f"{cell}.in.bias"], state["bias_ih_l0"][14:])
    assert np.array_equal(held[f"{cell}.hn.bias"], state["bias_hh_l0"][14:])
    assert main(["export", str(tmp_path / "source.pt"), "--to", "flax", "-o", str(tmp_path / "other.safetensors")]) == 0
    assert "each gate's two biases are one, their sum" in " ".join(capsys.readouterr().out.split())
    export(tmp_path / "out.safetensors", tmp_path / "back.safetensors")
    back = load_file(tmp_path / "back.safetensors")
    assert not back["recurrent_bias"][:14].any()
    assert np.array_equal(back["bias"][:14], both[:14])


def test_a_gru_whose_gates_have_one_bias_is_flax_as_it_is(tmp_path):
    module = nn.GRU(5, 7)
    nn.init.zeros_(module.bias_hh_l0[:14])
    torch.save(module.state_dict(), tmp_path / "source.pt")
    export(tmp_path / "source.pt", tmp_path / "there.safetensors")
    [row] = export(tmp_path / "there.safetensors", tmp_path / "out.safetensors", to="flax").rows
    assert not row.is_folded
    export(tmp_path / "out.safetensors", tmp_path / "back.safetensors")
    before, after = (load_file(tmp_path / f"{n}.safetensors") for n in ("there", "back"))
    assert all(a.tobytes() == after[n].tobytes() for n, a in before.items())


@pytest.mark.parametrize(
    ("name", "to", "said"),
    [
        ("rnn", "matlab", "no declared layout for simple_rnn"),
        ("cross-attention", "matlab", "12x12"),
    ],
)
def test_what_a_framework_does_not_have_is_said(tmp_path, name, to, said):
    source, options = saved(name, tmp_path)
    with pytest.raises(ConformanceError, match=said):
        export(source, tmp_path / "out.safetensors", to=to, **options)


def test_a_safetensors_file_of_pytorch_is_a_state_dict(tmp_path):
    module = MODULES["conv2d"][0]
    save_file({n: t.numpy() for n, t in module.state_dict().items()}, tmp_path / "model.safetensors")
    done = export(tmp_path / "model.safetensors", tmp_path / "out.safetensors")
    assert done.rows[0].layer == "conv2d"
    held = load_file(tmp_path / "out.safetensors")["kernel"]
    assert np.array_equal(held, module.weight.detach().permute(2, 3, 1, 0).numpy())


@pytest.mark.parametrize(
    ("path", "layer"),
    [
        ("model.layers.0.self_attn.q_proj", "linear"),
        ("model.layers.0.mlp.down_proj", "linear"),
        ("lm_head", "linear"),
        ("blocks.0.attn.qkv", "linear"),
        ("model.embed_tokens", "embedding"),
        ("transformer.wte", "embedding"),
        ("embeddings.position_embeddings", "embedding"),
        ("tok_emb", "embedding"),
    ],
)
def test_a_matrix_alone_is_told_by_its_name(tmp_path, path, layer):
    weight = torch.randn(5, 4)
    torch.save({f"{path}.weight": weight}, tmp_path / "model.pt")
    done = export(tmp_path / "model.pt", tmp_path / "out.safetensors")
    assert [(row.path, row.layer) for row in done.rows] == [(path, layer)]
    [held] = load_file(tmp_path / "out.safetensors").values()
    assert np.array_equal(held, weight.numpy() if layer == "embedding" else weight.numpy().T)


def test_the_same_weights_have_the_same_bytes(tmp_path):
    source, _ = saved("lstm", tmp_path)
    for name in "ab":
        export(source, tmp_path / f"{name}.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_bfloat16_stays_bfloat16(tmp_path):
    torch.save(nn.Linear(7, 5).bfloat16().state_dict(), tmp_path / "narrow.pt")
    export(tmp_path / "narrow.pt", tmp_path / "there.safetensors")
    export(tmp_path / "there.safetensors", tmp_path / "back.pt", to="torch")
    before, after = (torch.load(tmp_path / n, weights_only=True) for n in ("narrow.pt", "back.pt"))
    assert all(after[n].dtype == torch.bfloat16 and torch.equal(t, after[n]) for n, t in before.items())


def test_a_wrong_conversion_is_not_written(tmp_path, monkeypatch):
    """Of a square kernel no shape tells that it was not transposed: only the run does."""
    from conformance_adapters import torch_live

    right = torch_live.held
    torch.save(nn.Linear(5, 5).state_dict(), tmp_path / "square.pt")
    monkeypatch.setattr(torch_live, "held", lambda module: {**right(module), "kernel": right(module)["kernel"].T})
    done = export(tmp_path / "square.pt", tmp_path / "out.safetensors")
    assert done.exit_code == 1
    assert done.rows[0].source.status == "diverges"
    assert "product" in done.rows[0].source.message
    assert not (tmp_path / "out.safetensors").exists()


# -- a whole model -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A state dict of several layers, with what is ambiguous and what is none."""
    made = nn.ModuleDict(
        {
            "encoder": nn.TransformerEncoderLayer(12, 3, 20),
            "stack": nn.GRU(6, 5, 2),
            "names": nn.Embedding(11, 6),
            "scaled": nn.LayerNorm(6),
        }
    )
    made.register_parameter("cls_token", nn.Parameter(torch.zeros(1, 1, 12)))
    path = tmp_path_factory.mktemp("model") / "model.pt"
    torch.save({"state_dict": made.state_dict(), "epoch": 3}, path)
    return path


def test_a_model_is_converted_layer_by_layer(tmp_path, model):
    done = export(model, tmp_path / "out.safetensors")
    mapped = {row.path: row.layer for row in done.rows if row.reason is None}
    assert mapped == {
        "encoder.self_attn": "multi_head_attention",
        "encoder.linear1": "linear",
        "encoder.linear2": "linear",
        "encoder.norm1": "layer_norm",
        "encoder.norm2": "layer_norm",
        "stack.l0": "gru",
        "stack.l1": "gru",
    }
    assert "encoder.self_attn.query_kernel" in load_file(tmp_path / "out.safetensors")
    left = reasons(done)
    assert "linear or embedding" in left["names"]
    assert "--layer names=NAME" in left["names"]
    assert "layer_norm or rms_norm or group_norm or instance_norm" in left["scaled"]
    assert "cls_token" in left[""]


def test_a_layer_is_picked_by_its_path_and_has_no_prefix(tmp_path, model):
    export(model, tmp_path / "out.safetensors", layers=["encoder.linear1"])
    assert set(load_file(tmp_path / "out.safetensors")) == {"kernel", "bias"}


def test_what_is_ambiguous_is_settled_by_path(tmp_path, model):
    done = export(model, tmp_path / "out.safetensors", layers=["names=linear", "scaled=layer_norm"])
    assert {"names", "scaled"} <= {row.path for row in done.rows if row.reason is None}


def test_a_canonical_name_picks_all_such_layers(tmp_path, model):
    done = export(model, tmp_path / "out.safetensors", layers=["gru"])
    assert [row.path for row in done.rows] == ["stack.l0", "stack.l1"]


def test_an_unknown_layer_is_refused_with_those_there_are(tmp_path, model):
    with pytest.raises(
        ConformanceError, match=r"no layer 'encoder.linear3' \(did you mean .*encoder.norm2 \(layer_norm"
    ):
        export(model, tmp_path / "out.safetensors", layers=["encoder.linear3"])
    with pytest.raises(ConformanceError, match=r"no 'encoder.x'.*encoder.linear1"):
        export(model, tmp_path / "out.safetensors", layers=["encoder.x=linear"])
    assert not (tmp_path / "out.safetensors").exists()


def test_without_its_heads_an_attention_goes_nowhere_else(tmp_path, model):
    done = export(model, tmp_path / "out.safetensors", to="flax", layers=["encoder"])
    assert "--config encoder.self_attn.heads=N" in reasons(done)["encoder.self_attn"]
    config = {"encoder.self_attn": {"heads": 3}}
    done = export(model, tmp_path / "out.safetensors", to="flax", layers=["encoder"], config=config)
    assert reasons(done) == {}
    held = load_file(tmp_path / "out.safetensors")
    assert held["encoder.self_attn.query.kernel"].shape == (12, 3, 4)


def test_heads_may_be_said_later(tmp_path):
    source, _ = saved("attention", tmp_path)
    export(source, tmp_path / "there.safetensors")
    done = export(tmp_path / "there.safetensors", tmp_path / "out.safetensors", to="flax", config={"": {"heads": 3}})
    assert done.rows[0].target.status == "conforms"
    assert load_file(tmp_path / "out.safetensors")["query.kernel"].shape == (12, 3, 4)


def test_a_wrong_layer_is_told_by_its_parameters(tmp_path, model):
    done = export(model, tmp_path / "out.safetensors", layers=["encoder.linear1=conv2d"])
    assert "no `weight` of 4 axes" in reasons(done)["encoder.linear1"]


# -- canonical files -------------------------------------------------------------------------------------------------


def test_canonical_weights_without_a_header_are_of_the_layer_that_is_named(tmp_path):
    rng = np.random.default_rng(1)
    save_file({"kernel": rng.normal(size=(5, 3)), "bias": rng.normal(size=3)}, tmp_path / "mine.safetensors")
    done = export(tmp_path / "mine.safetensors", tmp_path / "out.pt", layers=["linear"], to="torch")
    assert done.rows[0].target.status == "conforms"
    state = torch.load(tmp_path / "out.pt", weights_only=True)
    assert state["weight"].shape == (3, 5)
    assert state["weight"].dtype == torch.float64


def altered(path, change):
    """The safetensors file with another header."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    said = json.loads(header["__metadata__"]["conformance"])
    change(said)
    header["__metadata__"]["conformance"] = json.dumps(said)
    packed = json.dumps(header).encode()
    path.write_bytes(len(packed).to_bytes(8, "little") + packed + content[8 + size :])


@pytest.mark.parametrize(
    "change",
    [
        lambda said: said.update(schema=2),
        lambda said: said.update(layout="kears"),
        lambda said: said["layers"][0].update(layer="liner"),
        lambda said: said["layers"][0].update(dtype="int7"),
        lambda said: said["layers"][0]["arrays"].update(kernel="other"),
        lambda said: said["layers"][0].update(config={"heads": 3}),
        lambda said: said["layers"][0].update(weights={"kernel": [-1]}),
        lambda said: said.update(layers=3),
        lambda said: said["layers"][0].update(config={"heads": {}}, layer="multi_head_attention"),
    ],
)
def test_a_header_that_does_not_fit_is_one_sentence(tmp_path, change):
    source, _ = saved("linear", tmp_path)
    export(source, tmp_path / "there.safetensors")
    altered(tmp_path / "there.safetensors", change)
    with pytest.raises(ConformanceError):
        export(tmp_path / "there.safetensors", tmp_path / "out.safetensors")


def test_sizes_that_the_arrays_do_not_have_are_not_made_room_for(tmp_path):
    source, _ = saved("linear", tmp_path)
    export(source, tmp_path / "there.safetensors", to="flax")
    altered(tmp_path / "there.safetensors", lambda said: said["layers"][0].update(weights={"kernel": [2**20, 2**20]}))
    with pytest.raises(ConformanceError, match="weights are declared"):
        export(tmp_path / "there.safetensors", tmp_path / "out.safetensors")


@pytest.mark.parametrize(
    ("name", "config"), [("conv2d", {"groups": 2**31}), ("lstm", {"layers": 2**32}), ("layer-norm", {"axes": 2**40})]
)
def test_config_of_more_than_there_is_is_not_made_room_for(tmp_path, name, config):
    source, options = saved(name, tmp_path)
    export(source, tmp_path / "there.safetensors", **options)
    altered(tmp_path / "there.safetensors", lambda said: said["layers"][0]["config"].update(config))
    with pytest.raises(ConformanceError, match=r"there.safetensors: .*: its header does not fit"):
        export(tmp_path / "there.safetensors", tmp_path / "out.safetensors")


# -- models and recordings -------------------------------------------------------------------------------------------


def test_an_onnx_model_gives_the_same_weights_as_what_it_was_exported_from(tmp_path):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.cells, self.head = nn.LSTM(5, 7, batch_first=True), nn.Linear(7, 3)
            self.gain = nn.Parameter(torch.randn(3))

        def forward(self, x):
            return self.head(self.cells(x)[0]) * self.gain

    model = Model().eval()
    torch.onnx.export(model, (torch.randn(2, 4, 5),), tmp_path / "model.onnx", dynamo=False)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    found = export(tmp_path / "model.onnx", tmp_path / "onnx.safetensors")
    export(tmp_path / "model.pt", tmp_path / "torch.safetensors")
    assert [row.layer for row in found.rows if row.reason is None] == ["lstm", "linear"]
    assert all(row.source.status == "conforms" for row in found.rows if row.reason is None)
    assert "gain" in reasons(found)
    ours, theirs = (load_file(tmp_path / f"{n}.safetensors") for n in ("onnx", "torch"))
    by_end = {n.replace("/", ".").rpartition(".")[2] + str(a.shape): a for n, a in ours.items()}
    for name, array in theirs.items():
        assert np.array_equal(by_end[name.rpartition(".")[2] + str(array.shape)], array)


def test_onnx_data_outside_its_folder_is_refused(tmp_path):
    import onnx

    (tmp_path / "inner").mkdir()
    path = tmp_path / "inner" / "model.onnx"
    torch.onnx.export(nn.Linear(64, 64), (torch.randn(2, 64),), path, dynamo=False)
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="data.bin", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../data.bin"
    path.write_bytes(model.SerializeToString())
    (path.parent / "data.bin").rename(tmp_path / "data.bin")
    with pytest.raises(ConformanceError, match=r"model\.onnx"):
        export(path, tmp_path / "out.safetensors")


MADE_IN_KERAS = """
import os, sys
os.environ["KERAS_BACKEND"] = "jax"
import keras
from keras import layers
x = keras.Input((9, 6))
y = layers.MultiHeadAttention(2, 3, name="attention")(x, x)
y = layers.LayerNormalization(name="norm")(y)
y = layers.LSTM(5, return_sequences=True, name="cells")(y)
y = layers.Dense(4, activation="relu", name="dense")(y)
model = keras.Model(x, y)
model.save("model.keras")
model.save_weights("model.weights.h5")
numpy = {v.path: v.numpy() for v in model.weights}
import numpy as np
np.savez("weights.npz", **numpy)
model = keras.Sequential([keras.Input((3,)), layers.Lambda(lambda x: print("it ran") or x)])
model.save("lambda.keras")
"""


@pytest.fixture(scope="module")
def keras_models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keras")
    subprocess.run([sys.executable, "-c", MADE_IN_KERAS], cwd=folder, check=True, capture_output=True, timeout=300)
    return folder


def command(folder, *words):
    done = subprocess.run(
        [sys.executable, "-m", "conformance", "export", *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "KERAS_BACKEND": "jax"},
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_keras_model_goes_to_pytorch(keras_models):
    code, said, _ = command(keras_models, "model.keras", "--to", "torch", "-o", "model.pt")
    assert code == 0, said
    state = torch.load(keras_models / "model.pt", weights_only=True)
    with np.load(keras_models / "weights.npz") as held:
        assert np.array_equal(state["dense.weight"].numpy().T, held["dense/kernel"])
        query = held["attention/query/kernel"].reshape(6, 6)
        assert np.array_equal(state["attention.in_proj_weight"].numpy()[:6].T, query)
        input_first = held["cells/lstm_cell/kernel"]
        assert np.array_equal(state["cells.weight_ih_l0"].numpy().T, input_first)
    module = nn.Linear(5, 4)
    module.load_state_dict({n: state[f"dense.{n}"] for n in ("weight", "bias")})


def test_a_file_of_keras_weights_holds_what_the_model_does(keras_models):
    for name in ("model.keras", "model.weights.h5"):
        code, said, error = command(keras_models, name, "-o", f"{name}.safetensors")
        assert code == 0, error
        assert said.count("conforms") == 4
    whole, weights = (load_file(keras_models / f"model.{kind}.safetensors") for kind in ("keras", "weights.h5"))
    assert whole.keys() == weights.keys()
    assert all(np.array_equal(a, weights[n]) for n, a in whole.items())


def test_a_truncated_file_of_keras_weights_is_one_sentence(keras_models):
    whole = (keras_models / "model.weights.h5").read_bytes()
    (keras_models / "cut.weights.h5").write_bytes(whole[: len(whole) // 2])
    code, said, error = command(keras_models, "cut.weights.h5", "-o", "cut.safetensors")
    assert (code, said) == (2, "")
    assert error.splitlines()[-1].startswith("conformance: cut.weights.h5: is truncated or corrupt")
    assert not (keras_models / "cut.safetensors").exists()


def test_a_lambda_is_refused_and_not_run(keras_models):
    code, said, error = command(keras_models, "lambda.keras", "-o", "lambda.safetensors")
    assert (code, said) == (2, "")
    assert "Lambda" in error
    assert "it ran" not in error


def test_matlab_structs_keep_their_paths(tmp_path):
    torch.save(nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(4, 3)]), "cells": nn.LSTM(3, 2)}).state_dict(),
               tmp_path / "model.pt")  # fmt: skip
    export(tmp_path / "model.pt", tmp_path / "out.mat", to="matlab")
    held = scipy.io.loadmat(tmp_path / "out.mat", simplify_cells=True)
    assert held["blocks"]["x0"]["Weights"].shape == (3, 4)
    export(tmp_path / "out.mat", tmp_path / "back.safetensors")
    export(tmp_path / "model.pt", tmp_path / "direct.safetensors")
    back, direct = load_file(tmp_path / "back.safetensors"), load_file(tmp_path / "direct.safetensors")
    assert back.keys() == direct.keys()
    assert all(np.array_equal(a, back[n]) and a.dtype == back[n].dtype for n, a in direct.items())


def test_a_network_of_matconvnet_is_read(tmp_path):
    rng = np.random.default_rng(2)
    first, biases = rng.normal(size=(3, 2, 4, 5)).astype("f4"), rng.normal(size=(1, 5)).astype("f4")
    older = rng.normal(size=(1, 1, 5, 7)).astype("f4")
    cells = np.empty((1, 3), object)
    cells[0, 0] = {
        "type": "conv",
        "weights": np.array([[None, None]], object),
        "stride": [[2, 1]],
        "pad": [[0, 1, 0, 1]],
    }
    cells[0, 0]["weights"][0, 0], cells[0, 0]["weights"][0, 1] = first, biases
    cells[0, 1] = {"type": "relu"}
    cells[0, 2] = {"type": "conv", "filters": older, "biases": np.zeros((1, 7), "f4")}
    scipy.io.savemat(tmp_path / "net.mat", {"net": {"layers": cells}})
    export(tmp_path / "net.mat", tmp_path / "out.safetensors")
    held = load_file(tmp_path / "out.safetensors")
    assert np.array_equal(held["net.layers{1}.kernel"], first)
    assert np.array_equal(held["net.layers{1}.bias"], biases.ravel())
    assert np.array_equal(held["net.layers{3}.kernel"], older)


# -- bad input -------------------------------------------------------------------------------------------------------


class Payload:
    def __reduce__(self):
        return (print, ("it ran",))


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, capfd):
    torch.save({"weight": torch.zeros(2, 2), "x": Payload()}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps({"x": Payload()}))
    for name in ("a.pt", "b.pt"):
        with pytest.raises(ConformanceError, match="pickled code, which is never run"):
            export(tmp_path / name, tmp_path / "out.safetensors")
    assert "it ran" not in capfd.readouterr().out


def test_a_tensor_larger_than_its_bytes_is_refused(tmp_path):
    torch.save({"weight": torch.zeros(1).expand(2**20, 2**20)}, tmp_path / "huge.pt")
    with pytest.raises(ConformanceError, match="which its bytes do not hold"):
        export(tmp_path / "huge.pt", tmp_path / "out.safetensors")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".onnx", ".keras", ".mat"])
def test_a_damaged_file_is_one_sentence(tmp_path, suffix):
    (tmp_path / f"bad{suffix}").write_bytes(b"no such file of weights" * 9)
    with pytest.raises(ConformanceError, match=f"bad{suffix}"):
        export(tmp_path / f"bad{suffix}", tmp_path / "out.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == [f"bad{suffix}"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none.pt", "-o", "out.safetensors"], "none.pt: there is no such file"),
        (["source.pt", "-o", "out.txt"], "out.txt: a file of this name is not written here"),
        (["source.pt", "-o", "none/out.safetensors"], "cannot be written"),
        (["source.pt", "--to", "kears", "-o", "out.safetensors"], "unknown layout 'kears' (did you mean 'keras'?)"),
        (
            ["source.pt", "--layer", ".=liner", "-o", "out.safetensors"],
            "unknown layer 'liner' (did you mean 'linear'?)",
        ),
        (["source.pt"], "-o"),
    ],
)
def test_bad_usage_is_one_sentence(tmp_path, monkeypatch, capsys, words, said):
    saved("linear", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["export", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_an_earlier_file_stays_where_nothing_can_be_converted(tmp_path):
    torch.save({"names": torch.zeros(3, 2, 2, 2, 2, 2)}, tmp_path / "odd.pt")
    (tmp_path / "out.safetensors").write_bytes(b"earlier")
    with pytest.raises(ConformanceError, match="nothing in it can be converted"):
        export(tmp_path / "odd.pt", tmp_path / "out.safetensors")
    assert (tmp_path / "out.safetensors").read_bytes() == b"earlier"


# -- the command -----------------------------------------------------------------------------------------------------


def test_the_command_prints_a_table_and_writes(tmp_path):
    source, _ = saved("attention", tmp_path)
    words = [sys.executable, "-m", "conformance", "export", source.name, "--config", "heads=3", "-o", "out.safetensors"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "conforms" in done.stdout
    assert "out.safetensors: 8 arrays of 1 layer, in the canonical layout" in done.stdout
