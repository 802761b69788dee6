"""MatConvNet's networks, as GNU Octave saves a cell array of structs."""

import subprocess

import numpy as np
import pytest
from safetensors.numpy import load_file

from conformance.errors import ConformanceError, Unsupported
from conformance.exporting import export
from conformance.mat import open_mat
from conformance_adapters import matconvnet

PROGRAM = """
randn ('twister', 3);
s = @(varargin) single (randn (varargin{:}));
net.layers{1} = struct ('type', 'conv', 'weights', {{s(3, 2, 4, 6), s(6, 1)}}, 'stride', [2 1], 'pad', [0 1 2 3]);
net.layers{2} = struct ('type', 'bnorm', 'weights', {{s(6, 1), s(6, 1), [s(6, 1), abs(s(6, 1)) + 0.1]}});
net.layers{3} = struct ('type', 'relu', 'leak', 0.2);
net.layers{4} = struct ('type', 'pool', 'method', 'max', 'pool', [3 2], 'stride', 2, 'pad', 0);
net.layers{5} = struct ('type', 'convt', 'weights', {{s(4, 3, 5, 6), []}}, 'upsample', 2, 'crop', [1 0 0 1]);
net.layers{6} = struct ('type', 'lrn', 'param', [5 1 0.0001 0.75]);
net.layers{7} = struct ('type', 'conv', 'filters', s(1, 1, 5, 7), 'biases', s(1, 7));
net.layers{8} = struct ('type', 'softmax');
net.meta.classes = {'a', 'b'};
save ('-v7', 'net.mat', 'net');
"""


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    folder = tmp_path_factory.mktemp("matconvnet")
    command = ["octave-cli", "--no-init-file", "--quiet", "--eval", PROGRAM]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
    return folder / "net.mat"


def test_every_layer_of_a_network_is_told(network, tmp_path):
    done = export(network, tmp_path / "out.safetensors")
    told = {row.path: (row.layer, row.reason) for row in done.rows}
    for number, layer in {1: "conv2d", 2: "batch_norm", 5: "conv_transpose2d", 7: "conv2d"}.items():
        assert told[f"net.layers{{{number}}}"] == (layer, None)
    for number, layer in {3: "leaky_relu", 4: "max_pool2d", 8: "softmax"}.items():
        assert told[f"net.layers{{{number}}}"] == (layer, "it has no weights")
    assert "type 'lrn' is no canonical layer" in told["net.layers{6}"][1]


def test_weights_are_those_of_the_cells(network, tmp_path):
    export(network, tmp_path / "out.safetensors")
    held, raw = load_file(tmp_path / "out.safetensors"), open_mat(network).arrays
    own = {n.removeprefix("net."): a for n, a in held.items()}
    assert np.array_equal(own["layers{1}.kernel"], raw["net.layers{1}.weights{1}"])
    assert np.array_equal(own["layers{5}.kernel"], raw["net.layers{5}.weights{1}"])  # height width filter channel
    assert "layers{5}.bias" not in own
    assert np.array_equal(own["layers{7}.bias"], raw["net.layers{7}.biases"].ravel())
    moments = raw["net.layers{2}.weights{3}"]
    assert np.array_equal(own["layers{2}.moving_mean"], moments[:, 0])
    assert np.array_equal(np.sqrt(own["layers{2}.moving_variance"]), moments[:, 1])  # to the bit
    assert all(a.dtype == np.float32 for a in own.values())


def test_options_are_config(network):
    file = open_mat(network)

    def own(number):
        held = file.within(f"net.layers{{{number}}}")
        return matconvnet.own({**held.arrays, **held.texts})

    assert own(1).config == {"strides": [2, 1], "padding": [[0, 1], [2, 3]], "dilation": [1, 1]}
    assert own(2).config == {"epsilon": 0.0}
    assert own(3).config == {"slope": 0.2}
    assert own(4).config == {"size": [3, 2], "strides": [2, 2], "padding": "valid"}
    assert own(5).config == {"strides": [2, 2], "padding": [[1, 0], [0, 1]]}


def test_a_network_goes_to_pytorch_and_to_matlab(network, tmp_path):
    done = export(network, tmp_path / "net.pt", to="torch", layers=["conv2d", "batch_norm"])
    assert {row.path[-2]: row.target.status for row in done.rows} == dict.fromkeys("127", "conforms")
    done = export(network, tmp_path / "net.mat", to="matlab")
    assert {row.path[-2]: row.target.subject for row in done.rows if row.target} == {
        "1": "convolution2dLayer",
        "2": "batchNormalizationLayer",
        "5": "transposedConv2dLayer",
        "7": "convolution2dLayer",
    }


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ({"type": "convt", "weights{1}": np.ones((2, 2, 3, 4)), "numGroups": np.full((1, 1), 2)}, "has no groups"),
        ({"type": "bnorm", "weights{1}": np.ones(3), "weights{3}": np.ones((2, 2))}, "moments are 2x2, not 3x2"),
        ({"type": "pool", "pool": np.full((1, 1), 2), "pad": np.ones((1, 1)), "method": "avg"}, "not documented"),
        ({"type": "conv"}, "it has no weights"),
        ({"type": "custom"}, "type 'custom' is no canonical layer"),
    ],
)
def test_what_no_canonical_layer_is_is_said(properties, said):
    with pytest.raises(Unsupported, match=said):
        matconvnet.own(properties)


def test_groups_are_said(network, tmp_path):
    layer = "net.layers{7}"
    done = export(network, tmp_path / "out.safetensors", layers=[layer], config={layer: {"groups": 7}})
    assert [row.reason for row in done.rows] == [None]
    with pytest.raises(ConformanceError, match="is a conv2d, and no linear"):
        export(network, tmp_path / "out.safetensors", layers=[f"{layer}=linear", layer])
