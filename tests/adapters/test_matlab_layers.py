"""MATLAB's layers: what GNU Octave wrote and computed with loops is judged and exported, and comes back as it was."""

import json
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy.io import savemat

import conformance_fixtures
from conformance.checking import check, check_model
from conformance.errors import ConformanceError
from conformance.exporting import export
from conformance.layers import get_layer
from conformance.mat import open_mat
from conformance.weight_file import CANONICAL, Described, write_weight_file
from conformance_adapters.matlab_layers import LAYERS
from conformance_adapters.matlab_told import plain, told

LOOPS = {  # the structs in matlab_layers.m: the layer that each is, and what its properties say
    "dense": ("linear", {}),
    "conv1": ("conv1d", {"padding": "causal", "dilation": 2, "strides": 1}),
    "conv2": ("conv2d", {"strides": [2, 1], "dilation": [1, 2], "padding": [[1, 0], [2, 1]]}),
    "single": ("conv2d", {"strides": 1, "padding": "valid"}),
    "conv3": ("conv3d", {"strides": [1, 1, 2], "padding": [[0, 1], [1, 0], [0, 1]]}),
    "grouped": ("conv2d", {"groups": 2, "strides": [1, 2]}),
    "channelwise": ("depthwise_conv2d", {"strides": [1, 2]}),
    "transposed": ("conv_transpose2d", {"strides": [2, 3], "padding": [[1, 0], [0, 2]]}),
    "lstm": ("lstm", {}),
    "bilstm": ("lstm", {"direction": "bidirectional", "merge": "concat"}),
    "gru_after": ("gru", {"reset": "after"}),
    "gru_before": ("gru", {"reset": "before"}),
    "gru_both": ("gru", {"reset": "after"}),
    "batchnorm": ("batch_norm", {"epsilon": 1e-3}),
    "groupnorm": ("group_norm", {"groups": 2, "epsilon": 1e-4}),
    "instancenorm": ("instance_norm", {"epsilon": 1e-4}),
    "layernorm": ("layer_norm", {"epsilon": 1e-4}),
    "overtime": ("group_norm", {"groups": 1, "epsilon": 1e-4}),
    "words": ("embedding", {}),
    "prelu": ("prelu", {}),
    "average": ("average_pool2d", {"size": [3, 2], "strides": [2, 1], "count_include_pad": True}),
    "largest": ("max_pool1d", {"size": 3, "strides": 1}),
}
WEIGHTED = [name for name in LOOPS if name not in ("average", "largest")]


@pytest.fixture(scope="module")
def loops(tmp_path_factory):
    """The file that Octave writes with `class_name`."""
    folder = tmp_path_factory.mktemp("loops")

    def made(class_name):
        path = folder / f"{class_name}.mat"
        if not path.is_file():
            call = f"addpath('{Path(__file__).parent}'); matlab_layers('{path}', '{class_name}')"
            command = ["octave-cli", "--no-init-file", "--quiet", "--eval", call]
            subprocess.run(command, check=True, capture_output=True, timeout=120)
        return path

    return made


def header(path):
    """What a safetensors file says of its layers, by their paths."""
    with path.open("rb") as file:
        said = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return {layer["path"]: layer for layer in json.loads(said["__metadata__"]["conformance"])["layers"]}


@pytest.mark.parametrize("class_name", ["double", "single"])
def test_what_loops_compute_is_what_the_oracle_gives(loops, class_name):
    run = check_model(loops(class_name))
    assert {c.subject: (c.layer, c.status) for c in run.cases} == {
        name: (layer, "conforms") for name, (layer, _) in LOOPS.items()
    }
    assert {c.dtype for c in run.cases} == {{"double": "float64", "single": "float32"}[class_name]}
    assert not any(c.layouts for c in run.cases)


def test_exported_weights_are_proved_by_what_was_recorded(loops, tmp_path):
    done = export(loops("double"), tmp_path / "out.safetensors")
    proved = {row.path: (row.layer, row.source.status) for row in done.rows if row.reason is None}
    assert proved == {name: (LOOPS[name][0], "conforms") for name in WEIGHTED}
    left = {row.path: row.reason for row in done.rows if row.reason}
    assert left == dict.fromkeys(("average", "largest"), "it has no weights")
    said = header(tmp_path / "out.safetensors")
    for name in WEIGHTED:
        layer, config = LOOPS[name]
        assert said[name]["config"] == {**get_layer(layer, config).complete({}), **config}


def test_column_major_order_is_that_of_octave(loops, tmp_path):
    export(loops("double"), tmp_path / "out.safetensors")
    held, raw = load_file(tmp_path / "out.safetensors"), open_mat(loops("double")).arrays
    assert held["conv2.kernel"][2, 1, 0, 3] == raw["conv2.Weights"][2, 1, 0, 3]
    assert held["grouped.kernel"][1, 2, 0, 4] == raw["grouped.Weights"][1, 2, 0, 1, 1]  # the second of the second
    assert held["channelwise.kernel"][1, 2, 3, 1] == raw["channelwise.Weights"][1, 2, 0, 1, 3]
    assert held["lstm.recurrent_kernel"][2, 4] == raw["lstm.RecurrentWeights"][4, 2]  # of the forget gate
    assert held["bilstm.reverse_kernel"][3, 5] == raw["bilstm.InputWeights"][12 + 5, 3]
    assert held["gru_both.recurrent_bias"][7] == raw["gru_both.Bias"][9 + 7, 0]
    assert held["words.table"][6, 1] == raw["words.Weights"][1, 6]


@pytest.mark.parametrize("class_name", ["double", "single"])
def test_octaves_file_comes_back_as_it_was(loops, tmp_path, class_name):
    export(loops(class_name), tmp_path / "there.safetensors")
    done = export(tmp_path / "there.safetensors", tmp_path / "back.mat", to="matlab")
    assert [row.reason for row in done.rows] == [None] * len(WEIGHTED)
    before, after = open_mat(loops(class_name)).arrays, open_mat(tmp_path / "back.mat").arrays
    learned = {p.name for own in LAYERS for p in own.parameters} - {"NumHeads"}
    compared = 0
    for name, array in before.items():
        struct, _, leaf = name.partition(".")
        if struct in WEIGHTED and leaf in learned:
            assert after[name].dtype == array.dtype
            assert np.squeeze(after[name]).tobytes() == np.squeeze(array).tobytes(), name
            compared += 1
    assert compared == 45


@pytest.mark.parametrize("to", ["torch", "onnx"])
def test_a_file_of_matlabs_goes_to_a_framework_that_computes_the_same(loops, tmp_path, to):
    picks = ["dense", "conv2", "lstm", "bilstm", "gru_both", "batchnorm", "transposed", "words"]
    done = export(loops("single"), tmp_path / "out.safetensors", to=to, layers=picks)
    told = {row.path: (row.reason, row.source.status, row.target and row.target.status) for row in done.rows}
    assert len(told) == len(picks)
    for name in picks:
        if told[name][0] is None:
            assert told[name][1:] == ("conforms", "conforms")
    left = {name for name in picks if told[name][0] is not None}
    assert left <= {"transposed", "conv2"}  # neither has every padding


# -- there and back --------------------------------------------------------------------------------------------------


def numbers(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


GATES = {"kernel": numbers(5, 12), "recurrent_kernel": numbers(3, 12), "bias": numbers(12)}
NINE = {"kernel": numbers(5, 9), "recurrent_kernel": numbers(3, 9)}
AFFINE = {"scale": numbers(6), "bias": numbers(6)}
CASES = {
    "attention": (
        "multi_head_attention",
        {"heads": 3, "causal": "top-left"},
        {"query_kernel": numbers(5, 6), "key_kernel": numbers(5, 6), "value_kernel": numbers(5, 9)}
        | {"output_kernel": numbers(9, 7), "output_bias": numbers(7), "query_bias": numbers(6)},
    ),
    "linear": ("linear", {}, {"kernel": numbers(5, 7), "bias": numbers(7)}),
    "linear-no-bias": ("linear", {}, {"kernel": numbers(5, 7)}),
    "embedding": ("embedding", {}, {"table": numbers(11, 3)}),
    "conv1d": (
        "conv1d",
        {"strides": 2, "padding": "causal", "dilation": 3},
        {"kernel": numbers(3, 5, 7), "bias": numbers(7)},
    ),
    "conv1d-one-filter": ("conv1d", {}, {"kernel": numbers(3, 5, 1), "bias": numbers(1)}),
    "conv2d": (
        "conv2d",
        {"strides": [2, 1], "padding": [[0, 1], [2, 3]], "dilation": [1, 2]},
        {"kernel": numbers(3, 2, 5, 7), "bias": numbers(7)},
    ),
    "conv2d-one-filter": ("conv2d", {"padding": "same-upper"}, {"kernel": numbers(3, 2, 5, 1), "bias": numbers(1)}),
    "grouped": ("conv2d", {"groups": 3}, {"kernel": numbers(3, 2, 2, 9), "bias": numbers(9)}),
    "depthwise": ("depthwise_conv2d", {"strides": 2}, {"kernel": numbers(3, 2, 5, 2), "bias": numbers(10)}),
    "depthwise-one-each": ("depthwise_conv2d", {}, {"kernel": numbers(3, 2, 5, 1), "bias": numbers(5)}),
    "conv3d": (
        "conv3d",
        {"padding": [[0, 1], [2, 3], [4, 5]]},
        {"kernel": numbers(3, 2, 4, 5, 7), "bias": numbers(7)},
    ),
    "conv-transpose1d": (
        "conv_transpose1d",
        {"strides": 2, "padding": [[1, 0]]},
        {"kernel": numbers(3, 5, 7), "bias": numbers(5)},
    ),
    "conv-transpose2d": (
        "conv_transpose2d",
        {"strides": [2, 3], "padding": "same-upper"},
        {"kernel": numbers(3, 2, 5, 5), "bias": numbers(5)},
    ),
    "conv-transpose3d": (
        "conv_transpose3d",
        {"padding": [[0, 1], [1, 0], [1, 1]]},
        {"kernel": numbers(3, 2, 4, 5, 7), "bias": numbers(5)},
    ),
    "lstm": ("lstm", {"recurrent_activation": "hard_sigmoid_fifth"}, GATES),
    "bilstm": ("lstm", {"direction": "bidirectional"}, GATES | {f"reverse_{n}": a + 1 for n, a in GATES.items()}),
    "gru": ("gru", {}, NINE | {"bias": numbers(9)}),
    "gru-before": ("gru", {"reset": "before"}, NINE | {"bias": numbers(9)}),
    "gru-of-two-biases": ("gru", {}, NINE | {"bias": numbers(9), "recurrent_bias": numbers(9) + 1}),
    "batch-norm": (
        "batch_norm",
        {"epsilon": 1e-3},
        AFFINE | {"moving_mean": numbers(6), "moving_variance": numbers(6) ** 2},
    ),
    "layer-norm": ("layer_norm", {"epsilon": 1e-6}, AFFINE),
    "group-norm": ("group_norm", {"groups": 2}, AFFINE),
    "instance-norm": ("instance_norm", {}, AFFINE),
    "prelu": ("prelu", {}, {"slope": numbers(6)}),
}


def canonical(folder, name):
    """The weights in a canonical file."""
    layer, config, weights = CASES[name]
    full, path = get_layer(layer, config).complete(config), folder / "canonical.safetensors"
    shapes = {n: list(a.shape) for n, a in weights.items()}
    described = Described("", layer, full, "float32", shapes, {n: n for n in weights})
    write_weight_file(path, CANONICAL, [described], weights)
    return path


def test_every_layer_that_has_parameters_is_brought_there_and_back():
    covered = {layer for layer, _, _ in CASES.values()}
    assert covered == {own.layer for own in LAYERS if own.parameters}


@pytest.mark.parametrize("suffix", [".mat", ".safetensors"])
@pytest.mark.parametrize("name", CASES)
def test_canonical_weights_come_back_with_their_config(tmp_path, name, suffix):
    layer, config, weights = CASES[name]
    source, there, back = canonical(tmp_path, name), tmp_path / f"there{suffix}", tmp_path / "back.safetensors"
    export(source, there, to="matlab")
    export(there, back)
    held, said = load_file(back), header(back)[""]
    assert said["layer"] == layer
    assert {n: said["config"][n] for n in config} == config
    assert set(held) == set(weights)
    for n, array in weights.items():
        assert held[n].dtype == array.dtype
        assert held[n].tobytes() == array.tobytes()


def test_the_file_has_matlabs_names_and_sizes(tmp_path):
    def written(name):
        export(canonical(tmp_path, name), tmp_path / "out.mat", to="matlab")
        file = open_mat(tmp_path / "out.mat")
        return file.arrays, file.texts

    arrays, texts = written("depthwise")
    assert arrays["Weights"].shape == (3, 2, 1, 2, 5)  # groups, the last, are as many as channels
    assert arrays["Bias"].shape == (1, 1, 2, 5)
    assert (texts["Type"], texts["NumGroups"]) == ("groupedConvolution2dLayer", "channel-wise")
    assert np.array_equal(arrays["Stride"], [[2, 2]])
    arrays, _ = written("batch-norm")
    assert arrays["Epsilon"].tolist() == [[1e-3]]  # a double, though its parameters are singles
    assert (arrays["Scale"].dtype, arrays["Scale"].shape) == (np.float32, (6, 1))
    arrays, _ = written("conv3d")
    assert np.array_equal(arrays["PaddingSize"], [[0, 2, 4], [1, 3, 5]])  # top left front; bottom right back
    arrays, texts = written("gru-of-two-biases")
    assert (texts["ResetGateMode"], arrays["Bias"].shape) == ("recurrent-bias-after-multiplication", (18, 1))


def test_only_biases_of_the_state_come_with_zeros(tmp_path):
    from conformance_adapters.matlab_weights import matlab_arrays

    bias = matlab_arrays("gru", {}, {**NINE, "recurrent_bias": numbers(9)})["Bias"]
    assert np.array_equal(bias.ravel(), np.concatenate([np.zeros(9), numbers(9)]))


@pytest.mark.parametrize(
    ("layer", "config", "weights", "said"),
    [
        ("gru", {"reset": "before"}, {**NINE, "recurrent_bias": numbers(9)}, "gruLayer has reset = 'after'"),
        ("lstm", {"direction": "reverse"}, GATES, "lstmLayer has direction = 'forward'"),
        (
            "lstm",
            {},
            {**GATES, "recurrent_kernel": numbers(2, 12), "projection": numbers(3, 2)},
            "projects what goes into it",
        ),
        ("conv1d", {"groups": 5}, {"kernel": numbers(3, 1, 5)}, "convolution1dLayer has groups = 1"),
        ("conv2d", {"padding": "same-lower"}, {"kernel": numbers(3, 2, 5, 7)}, "pads the odd element after"),
        ("conv_transpose2d", {"strides": 2, "output_padding": 1}, {"kernel": numbers(3, 2, 5, 7)}, "no output_padding"),
        ("multi_head_attention", {"window": 3}, CASES["attention"][2], "has no window = 3"),
        ("prelu", {}, {"slope": numbers(3, 4)}, "neither one number nor one per channel"),
        ("rms_norm", {}, {"scale": numbers(3)}, "no declared layout for rms_norm"),
        ("simple_rnn", {}, {"kernel": numbers(5, 3), "recurrent_kernel": numbers(3, 3)}, "no declared layout"),
    ],
)
def test_what_matlabs_layer_cannot_be_is_said(tmp_path, layer, config, weights, said):
    full, path = get_layer(layer, config).complete(config), tmp_path / "canonical.safetensors"
    shapes = {n: list(a.shape) for n, a in weights.items()}
    described = Described("", layer, full, "float32", shapes, {n: n for n in weights})
    write_weight_file(path, CANONICAL, [described], weights)
    with pytest.raises(ConformanceError, match=said):
        export(path, tmp_path / "out.mat", to="matlab")


# -- which layer -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("properties", "layers"),
    [
        ({"InputWeights": (12, 5), "RecurrentWeights": (12, 3)}, ["lstm"]),
        ({"InputWeights": (24, 5), "RecurrentWeights": (24, 3)}, ["lstm"]),
        ({"InputWeights": (9, 5), "RecurrentWeights": (9, 3)}, ["gru"]),
        ({"InputWeights": (12, 2), "RecurrentWeights": (12, 2), "OutputProjector": (3, 2)}, []),
        ({"Scale": (5, 1), "Offset": (5, 1)}, ["layer_norm", "instance_norm"]),
        ({"Scale": (5, 1), "Offset": (5, 1), "OperationDimension": "channel-only"}, ["layer_norm"]),
        ({"Scale": (5, 1), "Offset": (5, 1), "OperationDimension": "batch-excluded"}, ["group_norm"]),
        ({"Scale": (5, 1), "Offset": (5, 1), "OperationDimension": "auto", "X": (4, 4, 5, 2)}, ["group_norm"]),
        ({"Scale": (5, 1), "Offset": (5, 1), "Type": "LayerNormalizationLayer"}, ["layer_norm"]),
        ({"Scale": (6, 1), "Offset": (6, 1), "NumGroups": (1, 1)}, ["group_norm"]),
        ({"Scale": (6, 1), "Offset": (6, 1), "NumGroups": "channel-wise"}, ["instance_norm"]),
        ({"Scale": (5, 1), "Offset": (5, 1), "TrainedMean": (5, 1)}, ["batch_norm"]),
        ({"Weights": (3, 5)}, ["linear", "embedding"]),
        ({"Weights": (3, 5), "Bias": (3, 1)}, ["linear"]),
        ({"Weights": (3, 5), "NumWords": (1, 1)}, ["embedding"]),
        ({"Weights": (3, 5), "Type": "wordEmbeddingLayer"}, ["embedding"]),
        ({"Weights": (3, 2, 5)}, ["conv1d", "conv_transpose1d"]),
        ({"Weights": (3, 2, 5), "Bias": (1, 5)}, ["conv1d"]),
        ({"Weights": (3, 2, 5), "Bias": (1, 2)}, ["conv_transpose1d"]),
        ({"Weights": (3, 2, 5), "Bias": (1, 1)}, ["conv2d"]),  # the axis of its one filter is dropped
        ({"Weights": (3, 3, 2, 5)}, ["conv2d", "conv_transpose2d"]),
        ({"Weights": (3, 3, 2, 5), "Stride": (1, 2), "PaddingSize": (1, 4)}, ["conv2d"]),
        ({"Weights": (3, 3, 2, 5), "Bias": (1, 1, 5)}, ["conv2d"]),
        ({"Weights": (3, 3, 2, 5), "Bias": (1, 1, 2)}, ["conv_transpose2d"]),
        ({"Weights": (3, 3, 5, 5), "Bias": (1, 1, 5)}, ["conv2d", "conv_transpose2d"]),
        ({"Weights": (3, 3, 5, 5), "Bias": (1, 1, 5), "CroppingSize": (1, 4)}, ["conv_transpose2d"]),
        ({"Weights": (3, 2, 2, 3, 4), "Bias": (1, 1, 3, 4)}, ["conv2d"]),  # grouped
        ({"Weights": (3, 2, 4, 2, 5), "Bias": (1, 1, 1, 5)}, ["conv3d"]),
        ({"Weights": (3, 2, 4, 5, 2), "Bias": (1, 1, 1, 5)}, ["conv_transpose3d"]),
        ({"Weights": (3, 2, 4, 1, 5), "Bias": (1, 1, 1, 5)}, ["conv2d", "conv3d"]),
        ({"Weights": (3, 2, 4, 1, 5), "Bias": (1, 1, 1, 5), "FilterSize": (1, 3)}, ["conv3d"]),
        ({"Weights": (3, 2, 1, 1, 5), "NumGroups": "channel-wise"}, ["depthwise_conv2d"]),
        ({"QueryWeights": (3, 5)}, ["multi_head_attention"]),
        ({"Type": "nnet.cnn.layer.GELULayer"}, ["gelu"]),
        ({"Type": "Max Pooling"}, []),
        ({"scores": (3, 5)}, []),
        ({"Weights": (0, 0)}, []),
    ],
)
def test_which_layer_properties_are_of(properties, layers):
    made = {n: v if isinstance(v, str) else np.ones(v) for n, v in properties.items()}
    assert list(told(made)) == layers


def test_classes_and_functions_are_called_alike():
    for own, spelled in {
        "transposedConv2dLayer": "nnet.cnn.layer.TransposedConvolution2DLayer",
        "fullyConnectedLayer": "nnet.cnn.layer.FullyConnectedLayer",
        "groupedConvolution2dLayer": "GroupedConvolution2DLayer",
        "bilstmLayer": "nnet.cnn.layer.BiLSTMLayer",
        "preluLayer": "nnet.cnn.layer.PReLULayer",
    }.items():
        assert plain(own) == plain(spelled)


def test_what_is_ambiguous_is_said_with_the_option_that_settles_it(tmp_path):
    made = {"head": {"Weights": numbers(3, 5)}, "block": {"Scale": numbers(5, 1), "Offset": numbers(5, 1)}}
    savemat(tmp_path / "net.mat", made)
    with pytest.raises(ConformanceError) as caught:
        export(tmp_path / "net.mat", tmp_path / "out.safetensors")
    assert "head: Weights 3x5 may be linear or embedding: say which with --layer head=NAME" in str(caught.value)
    assert "may be layer_norm or instance_norm: say which with --layer block=NAME" in str(caught.value)
    done = export(tmp_path / "net.mat", tmp_path / "out.safetensors", layers=["head=embedding", "block=instance_norm"])
    assert {row.path: row.layer for row in done.rows} == {"head": "embedding", "block": "instance_norm"}
    done = export(tmp_path / "net.mat", tmp_path / "out.safetensors", layers=["linear"])
    assert [row.layer for row in done.rows] == ["linear"]


def test_the_path_may_name_a_normalisation(tmp_path):
    pair = {"Scale": numbers(5, 1), "Offset": numbers(5, 1)}
    savemat(tmp_path / "net.mat", {"layernorm_1": pair, "instance_norm": pair})
    done = export(tmp_path / "net.mat", tmp_path / "out.safetensors")
    assert {row.path: row.layer for row in done.rows} == {"layernorm_1": "layer_norm", "instance_norm": "instance_norm"}


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ({"Type": "lstmLayer", "StateActivationFunction": "softsign"}, "StateActivationFunction is 'softsign'"),
        ({"Type": "convolution2dLayer", "PaddingMode": "reflect"}, "PaddingMode is 'reflect'"),
        ({"Type": "convolution2dLayer", "PaddingSize": [[1.0, 0, 0, 0]], "PaddingValue": 1.0}, "PaddingValue is 1"),
        ({"Type": "convolution2dLayer", "PaddingSize": numbers(1, 3)}, "has 3 numbers, where 2 axes need 4"),
        ({"Type": "clippedReluLayer", "Ceiling": 10.0}, "Ceiling is 10.0, and not 6"),
        ({"Type": "lstmProjectedLayer", "InputWeights": numbers(8, 2)}, "are kept as products"),
        ({"InputWeights": numbers(8, 2), "InputProjector": numbers(3, 2)}, "no layer of MATLAB's is known"),
        ({"Type": "batchNormalizationLayer", "Scale": np.ones((3, 1)), "TrainedMean": []}, "no 'TrainedMean'"),
    ],
)  # fmt: skip
def test_what_the_canonical_layers_do_not_have_is_said(tmp_path, properties, said):
    savemat(tmp_path / "net.mat", {"a": properties})
    with pytest.raises(ConformanceError, match=said):
        export(tmp_path / "net.mat", tmp_path / "out.safetensors")


@pytest.mark.parametrize(
    "properties",
    [
        {"Scale": np.ones((3, 1)), "Offset": np.ones((3, 1)), "OperationDimension": np.ones((3, 4))},
        {"Weights": np.ones((1, 12, 12, 2)), "NumGroups": np.ones((3, 1, 6))},
        {"Type": "clippedReluLayer", "Ceiling": np.ones((8, 2))},
        {"Type": "lstmLayer", "InputWeights": "text", "RecurrentWeights": np.ones((8, 2))},
        {"Type": "fullyConnectedLayer", "Weights": np.ones((3, 4)), "X": np.ones((4, 2)), "Format": "auto"},
        {"Type": "wordEmbeddingLayer", "Weights": np.ones((3, 4)), "X": np.ones((0, 6)), "output": np.ones((3, 6))},
    ],
)
def test_properties_of_nonsense_are_one_sentence(tmp_path, properties):
    savemat(tmp_path / "net.mat", {"a": properties})
    with pytest.raises(ConformanceError):
        export(tmp_path / "net.mat", tmp_path / "out.safetensors")


# -- recordings ------------------------------------------------------------------------------------------------------


def test_axes_that_may_be_two_things_are_asked_for(tmp_path):
    x = numbers(4, 5, 4).astype(float)
    raw = {"X": x, "output": x.mean((0, 1))[:, None]}
    savemat(tmp_path / "r.mat", raw)
    with pytest.raises(ConformanceError, match="record which as text, Format = 'CBT' or Format = 'SSC'"):
        check(tmp_path / "r.mat", "global_average_pool")
    savemat(tmp_path / "r.mat", raw | {"Format": "SSC", "output": x.mean((0, 1)).reshape(1, 1, 4)})
    assert check(tmp_path / "r.mat", "global_average_pool").status == "conforms"
    savemat(tmp_path / "r.mat", raw | {"Format": "CBT", "output": x.mean(2)})
    assert check(tmp_path / "r.mat", "global_average_pool").status == "conforms"
    savemat(tmp_path / "r.mat", raw | {"Format": "HWC"})
    with pytest.raises(ConformanceError, match="'HWC' is no Format"):
        check(tmp_path / "r.mat", "global_average_pool")


def test_an_image_along_one_axis_has_its_format(tmp_path):
    x, kernel = numbers(6, 3, 2).astype(float), numbers(2, 3, 4).astype(float)  # space channel batch
    out = np.einsum("kscb,kco->sob", np.stack([x[:-1], x[1:]]), kernel)
    raw = {"X": x, "Weights": kernel, "output": out, "Format": "SCB", "Type": "convolution1dLayer"}
    savemat(tmp_path / "r.mat", raw)
    assert check(tmp_path / "r.mat", "conv1d").status == "conforms"


def test_a_layer_that_matlab_does_not_have_is_judged_where_it_has_no_weights(tmp_path):
    x = numbers(4, 6).astype(float)
    savemat(tmp_path / "r.mat", {"X": x, "output": x / (1 + np.abs(x))})
    assert check(tmp_path / "r.mat", "softsign").status == "conforms"


def test_properties_of_a_layer_that_was_not_recorded(tmp_path):
    savemat(tmp_path / "r.mat", {"act": {"Type": "geluLayer", "Approximation": "tanh"}})
    [case] = check_model(tmp_path / "r.mat").cases
    assert (case.layer, case.message) == ("gelu", "its input was not recorded: save it as act.X")


def fixture(name):
    """What Octave recorded for a fixture, as arrays and text."""
    file = open_mat(Path(conformance_fixtures.__file__).parent / name)
    return {**file.arrays, **file.texts}


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("matlab-lstm/recorded.mat", "lstm"),
        ("matlab-gru/recorded.mat", "gru"),
        ("matlab-gru/before.mat", "gru"),
        ("matlab-conv2d/recorded.mat", "conv2d"),
        ("matlab-batch-norm/recorded.mat", "batch_norm"),
    ],
)
def test_a_recording_says_its_layer_and_agrees_at_every_step(name, layer):
    [case] = check_model(Path(conformance_fixtures.__file__).parent / name).cases
    assert (case.layer, case.status) == (layer, "conforms")
    steps = {s.name: s.status for s in case.steps}
    assert set(steps.values()) == {"conforms"}
    assert len(steps) == {"lstm": 7, "gru": 5, "conv2d": 3, "batch_norm": 2}[layer]


def test_gates_in_another_order_are_found_at_the_first(tmp_path):
    """As who takes the second block for the input gate computes."""
    raw = fixture("matlab-lstm/recorded.mat")
    n, x = raw["RecurrentWeights"].shape[1], raw["X"]
    state, cell = np.zeros((n, 1)), np.zeros((n, 1))
    made = {"input_gate": [], "forget_gate": [], "hidden": [], "cell": []}
    for t in range(x.shape[1]):
        rows = raw["InputWeights"] @ x[:, [t]] + raw["RecurrentWeights"] @ state + raw["Bias"]
        f, i, g, o = np.split(rows, 4)
        i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
        cell = f * cell + i * np.tanh(g)
        state = o * np.tanh(cell)
        for name, value in {"input_gate": i, "forget_gate": f, "hidden": state, "cell": cell}.items():
            made[name].append(value)
    kept = {n: raw[n] for n in ("X", "InputWeights", "RecurrentWeights", "Bias")}
    joined = {name: np.hstack(values) for name, values in made.items()}
    savemat(tmp_path / "r.mat", {**kept, **joined, "output": joined["hidden"]})
    case = check(tmp_path / "r.mat", "lstm")
    assert (case.status, case.culprit) == ("diverges", "input_gate")
    assert ("lstm.gate-order", "f,i,g,o") in [(d.convention, d.value) for d in case.diagnosis]


def test_a_filter_that_is_turned_around_is_found(tmp_path):
    raw = fixture("matlab-conv2d/recorded.mat")
    turned = raw | {"Weights": raw["Weights"][::-1, ::-1]}
    savemat(tmp_path / "r.mat", turned)
    case = check(tmp_path / "r.mat", "conv2d")
    assert (case.status, case.culprit) == ("diverges", "convolved")
    assert ("conv.flip", "convolution") in [(d.convention, d.value) for d in case.diagnosis]


def test_version_73_says_the_same(loops, tmp_path):
    path = tmp_path / "seven.mat"
    file = open_mat(loops("double"))
    with h5py.File(path, "w", userblock_size=512) as made:
        for name, array in file.arrays.items():
            item = made.create_dataset(name.replace(".", "/"), data=array.T)
            item.attrs["MATLAB_class"] = np.bytes_("double")
        for name, said in file.texts.items():
            codes = np.array([[ord(letter)] for letter in said], np.uint16)
            item = made.create_dataset(name.replace(".", "/"), data=codes)
            item.attrs["MATLAB_class"] = np.bytes_("char")
        for struct in made:
            made[struct].attrs["MATLAB_class"] = np.bytes_("struct")
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 .".ljust(124) + b"\x00\x02IM")
    for source, target in ((path, "seven"), (loops("double"), "five")):
        export(source, tmp_path / f"{target}.safetensors")
    seven, five = (load_file(tmp_path / f"{n}.safetensors") for n in ("seven", "five"))
    assert seven.keys() == five.keys()
    assert all(a.tobytes() == seven[n].tobytes() for n, a in five.items())
    assert header(tmp_path / "seven.safetensors") == header(tmp_path / "five.safetensors")
