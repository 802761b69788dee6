"""`export` of Keras's older HDF5 files: whole models of `model.save("model.h5")`, and weights alone, as of Keras 2."""

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file

from conformance.errors import ConformanceError
from conformance.exporting import export

RNG = np.random.default_rng(20260101)
MADE_IN_KERAS = """
import os
os.environ["KERAS_BACKEND"] = "jax"
import keras, numpy as np
from keras import layers
x = keras.Input((9, 6))
y = layers.MultiHeadAttention(2, 3, name="attention")(x, x)
y = layers.LayerNormalization(epsilon=1e-5, name="norm")(y)
y = layers.LSTM(5, return_sequences=True, recurrent_activation="hard_sigmoid", name="cells")(y)
inner = keras.Sequential([keras.Input((9, 5)), layers.Conv1D(4, 3, strides=2, name="conv")], name="inner")
model = keras.Model(x, layers.Dense(4, activation="relu", name="dense")(inner(y)))
model.save("model.keras")
model.save("model.h5")
def writes(x):
    open("it-ran", "w").close()
    return x
model = keras.Sequential([keras.Input((3,)), layers.Dense(2), layers.Lambda(lambda x: writes(x))])
model.save("lambda.h5")
os.remove("it-ran")
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("legacy")
    subprocess.run([sys.executable, "-c", MADE_IN_KERAS], cwd=folder, check=True, capture_output=True, timeout=300)
    return folder


def weights_file(path, layers, config=None):
    """A file as Keras 2 wrote it: the variables of each layer by name, with `:0` behind each."""
    with h5py.File(path, "w") as file:
        root = file if config is None else file.create_group("model_weights")
        if config is not None:
            file.attrs["model_config"] = json.dumps(config)
        root.attrs["layer_names"] = [name.encode() for name in layers]
        for name, variables in layers.items():
            group = root.create_group(name)
            group.attrs["weight_names"] = [f"{n}:0".encode() for n in variables]
            for variable, array in variables.items():
                group[f"{variable}:0"] = array
    return path


def drawn(*shape):
    return RNG.normal(size=shape).astype("f4")


def test_a_whole_model_is_the_same_as_in_its_newer_file(models):
    for suffix in ("keras", "h5"):
        words = [sys.executable, "-m", "conformance", "export", f"model.{suffix}", "-o", f"{suffix}.safetensors"]
        done = subprocess.run(words, cwd=models, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("conforms") == 5
    newer, older = (load_file(models / f"{suffix}.safetensors") for suffix in ("keras", "h5"))
    newer = {n.removeprefix("functional."): a for n, a in newer.items()}
    assert set(older) == set(newer)
    assert all(older[n].tobytes() == a.tobytes() for n, a in newer.items())


def test_options_are_those_of_the_config(models, tmp_path):
    done = export(models / "model.h5", tmp_path / "out.safetensors")
    with (tmp_path / "out.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    said = {one["path"]: one["config"] for one in json.loads(header["__metadata__"]["conformance"])["layers"]}
    assert said["norm"]["epsilon"] == 1e-5
    assert said["inner.conv"]["strides"] == [2]
    assert said["cells"]["recurrent_activation"] == "hard_sigmoid"
    assert next(row.source.subject for row in done.rows if row.path == "dense").endswith("its activation relu")


def test_a_lambda_is_refused_and_not_run(models, tmp_path):
    with pytest.raises(ConformanceError, match=r"lambda.h5: its Lambda 'lambda' is code"):
        export(models / "lambda.h5", tmp_path / "out.safetensors")
    assert not (models / "it-ran").exists()
    assert list(tmp_path.iterdir()) == []


def test_weights_alone_are_told_by_the_names_of_their_variables(tmp_path):
    cell = "cells/lstm_cell"
    layers = {
        "input_1": {},
        "embed": {"embed/embeddings": drawn(11, 6)},
        "conv": {"conv/kernel": drawn(3, 2, 3, 5), "conv/bias": drawn(5)},
        "cells": {
            f"{cell}/kernel": drawn(6, 28),
            f"{cell}/recurrent_kernel": drawn(7, 28),
            f"{cell}/bias": drawn(28),
        },
        "bn": {f"bn/{n}": abs(drawn(5)) for n in ("gamma", "beta", "moving_mean", "moving_variance")},
        "inner": {"head/kernel": drawn(7, 3), "head/bias": drawn(3)},
        "odd": {"odd/table": drawn(2, 2)},
    }
    done = export(weights_file(tmp_path / "weights.h5", layers), tmp_path / "out.safetensors")
    mapped = {row.path: row.layer for row in done.rows if row.reason is None}
    assert mapped == {
        "embed": "embedding",
        "conv": "conv2d",
        "cells": "lstm",
        "bn": "batch_norm",
        "inner.head": "linear",
    }
    assert all(row.source.status == "conforms" for row in done.rows if row.reason is None)
    assert [row.path for row in done.rows if row.reason] == ["odd"]
    held = load_file(tmp_path / "out.safetensors")
    assert np.array_equal(held["inner.head.kernel"], layers["inner"]["head/kernel"])
    assert np.array_equal(held["conv.kernel"], layers["conv"]["conv/kernel"])
    assert np.array_equal(held["cells.recurrent_kernel"], layers["cells"][f"{cell}/recurrent_kernel"])
    assert np.array_equal(held["bn.moving_variance"], layers["bn"]["bn/moving_variance"])


def test_a_name_ending_in_weights_h5_may_be_the_older_format(tmp_path):
    path = weights_file(tmp_path / "old.weights.h5", {"d": {"d/kernel": drawn(3, 2), "d/bias": drawn(2)}})
    done = export(path, tmp_path / "out.safetensors")
    assert [(row.path, row.layer) for row in done.rows] == [("d", "linear")]


def of_one(**options):
    """The config of a model of one layer, as Keras 2 wrote it: where inputs come from looks like code of old files."""
    called = [[["input", 0, 0, {"value": ["input", 0, 0]}]]]
    made = {"class_name": "Dense", "config": {"name": "d", "trainable": True, "units": 2, **options}, "name": "d"}
    return {"class_name": "Functional", "config": {"name": "m", "layers": [{**made, "inbound_nodes": called}]}}


def test_an_option_that_is_not_known_is_said(tmp_path):
    layers = {"d": {"d/kernel": drawn(3, 2), "d/bias": drawn(2)}}
    path = weights_file(
        tmp_path / "plain.h5", layers, of_one(kernel_initializer={"class_name": "Zeros"}, lora_rank=None)
    )
    assert export(path, tmp_path / "out.safetensors").rows[0].reason is None
    path = weights_file(tmp_path / "odd.h5", layers, of_one(spectral=3))
    with pytest.raises(ConformanceError, match="a dense with spectral=3, which is not known"):
        export(path, tmp_path / "other.safetensors")


def test_an_option_of_another_type_is_said(tmp_path):
    config = of_one(padding=[])
    config["config"]["layers"][0]["class_name"] = "Conv1D"
    path = weights_file(tmp_path / "odd.h5", {"d": {"d/kernel": drawn(3, 2, 4), "d/bias": drawn(4)}}, config)
    with pytest.raises(ConformanceError, match=r"a conv1d with padding=\[\], which is not known"):
        export(path, tmp_path / "out.safetensors")


def test_a_class_of_a_users_own_is_none(tmp_path):
    config = of_one()
    config["config"]["layers"][0]["class_name"] = "MyDense"
    path = weights_file(tmp_path / "own.h5", {"d": {"d/kernel": drawn(3, 2), "d/bias": drawn(2)}}, config)
    with pytest.raises(ConformanceError, match="the variables of a my_dense, which no layer is made from"):
        export(path, tmp_path / "out.safetensors")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda file: file["d"].attrs.update({"weight_names": [b"d/other:0"]}), "there is no d/d/other:0"),
        (lambda file: file.attrs.update({"model_config": "{"}), "its model_config is no config"),
        (lambda file: file.attrs.__delitem__("layer_names"), "holds no variables as Keras writes them"),
    ],
)
def test_a_file_that_does_not_hold_together_is_one_sentence(tmp_path, change, said):
    path = weights_file(tmp_path / "bad.h5", {"d": {"d/kernel": drawn(3, 2), "d/bias": drawn(2)}})
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(ConformanceError, match=f"bad.h5: {said}"):
        export(path, tmp_path / "out.safetensors")


def test_variables_that_are_not_those_of_the_layer_are_not_made_room_for(tmp_path):
    """A kernel of a million rows and a state of a thousand: the layer would have as many weights as their product."""
    layers = {"c": {"c/lstm_cell/kernel": drawn(10**6, 1), "c/lstm_cell/recurrent_kernel": drawn(1000, 4000)}}
    path = weights_file(tmp_path / "large.h5", layers)
    with pytest.raises(ConformanceError, match="not the variables of a lstm, which has 1000000x4000"):
        export(path, tmp_path / "out.safetensors")


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
def test_a_truncated_file_is_one_sentence(models, tmp_path, part):
    whole = (models / "model.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(ConformanceError, match=r"cut\.h5: is truncated or corrupt"):
        export(tmp_path / "cut.h5", tmp_path / "out.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["cut.h5"]


def test_the_two_directions_are_two_layers(tmp_path):
    """The config of Keras 2 has the layer once, and by its own name; weights alone do not have it at all."""
    variables = {}
    for way in ("forward", "backward"):
        cell = f"both/{way}_lstm/lstm_cell"
        variables |= {f"{cell}/kernel": drawn(3, 8), f"{cell}/recurrent_kernel": drawn(2, 8), f"{cell}/bias": drawn(8)}
    inner = {"class_name": "LSTM", "config": {"name": "lstm", "units": 2, "recurrent_activation": "hard_sigmoid"}}
    both = {"class_name": "Bidirectional", "config": {"name": "both", "layer": inner}}
    config = {"class_name": "Sequential", "config": {"name": "m", "layers": [both]}}
    for name, said, activation in (("alone.h5", None, "sigmoid"), ("whole.h5", config, "hard_sigmoid")):
        path = weights_file(tmp_path / name, {"both": variables}, said)
        done = export(path, tmp_path / "out.safetensors")
        assert all(row.source.status == "conforms" for row in done.rows)
        with (tmp_path / "out.safetensors").open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        told = {one["path"]: one["config"] for one in json.loads(header["__metadata__"]["conformance"])["layers"]}
        assert {path: made["direction"] for path, made in told.items()} == {
            "both.forward_lstm": "forward",
            "both.backward_lstm": "reverse",
        }
        assert {made["recurrent_activation"] for made in told.values()} == {activation}
