"""MATLAB's recordings and layouts. Expected sizes and values are worked out by hand or in plain NumPy."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.io import savemat

from conformance.adapter import load
from conformance.errors import ConformanceError, Unsupported
from conformance.fixture import fixtures
from conformance.layers import get_layer
from conformance.trace import Request
from conformance_adapters.matlab_axes import to_canonical
from conformance_adapters.matlab_mat import MatlabAdapter
from conformance_adapters.matlab_weights import canonical_weights, matlab_arrays

RECORDED = [
    ("matlab-self-attention", "recorded.mat", "float64", (1, 20, 15)),
    ("matlab-self-attention", "recorded-single.mat", "float32", (1, 20, 15)),
    ("matlab-self-attention/square", "square.mat", "float64", (1, 16, 16)),
    ("matlab-self-attention/square", "square-single.mat", "float32", (1, 16, 16)),
    ("matlab-attention-network", "recorded.mat", "float64", (1, 20, 4)),
    ("matlab-attention-network", "recorded-single.mat", "float32", (1, 20, 4)),
    ("matlab-lstm", "recorded.mat", "float64", (1, 7, 3)),
    ("matlab-lstm/square", "square-single.mat", "float32", (1, 6, 6)),
    ("matlab-gru", "recorded.mat", "float64", (1, 7, 4)),
    ("matlab-gru/before", "before-single.mat", "float32", (1, 7, 4)),
]


def request(name, subject, dtype):
    fixture = fixtures()[name]
    inputs, weights = ({n: a.astype(dtype).astype(np.float64) for n, a in group.items()} for group in fixture.load())
    config = get_layer(fixture.layer, fixture.config).complete(fixture.config)
    return Request(fixture.layer, subject, config, inputs, weights, dtype, source=str(fixture.folder))


def numbers(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape)


def test_the_adapter_is_found_by_name():
    assert isinstance(load("matlab"), MatlabAdapter)


def test_matlab_is_not_run():
    with pytest.raises(Unsupported, match="recorded traces only"):
        MatlabAdapter().subjects(request(*RECORDED[0][:3]))


@pytest.mark.parametrize(("name", "subject", "dtype", "shape"), RECORDED)
def test_recordings_are_traces(name, subject, dtype, shape):
    asked = request(name, subject, dtype)
    trace = MatlabAdapter().run(asked)
    assert trace.recorded
    assert trace.output.shape == shape
    assert trace.output.dtype == dtype
    assert set(trace.weights) == set(asked.weights)
    assert all(np.array_equal(trace.weights[n], asked.weights[n]) for n in asked.weights)
    steps = list(get_layer(asked.layer, asked.config).steps)
    hints = [entry.hint for entry in trace.tape]
    assert hints == [step for step in steps if step in hints]  # in flow order
    assert hints == [entry.operation for entry in trace.tape]
    assert all(entry.array.dtype == dtype for entry in trace.tape)
    assert np.array_equal(trace.tape[-1].array.T[None], trace.output)


def test_scores_are_recorded_key_by_query():
    asked = request(*RECORDED[0][:3])
    tape = {entry.hint: entry.array for entry in MatlabAdapter().run(asked).tape}
    key, query = (tape[n].reshape(6, 8, 20) for n in ("key", "query"))  # head, dim, time
    product = key[2, :, 5] @ query[2, :, 11]
    assert abs(tape["scores"][5, 11, 2] - product) <= 8 * 2.0**-53 * np.abs(key[2, :, 5] * query[2, :, 11]).sum()


def test_a_recording_in_another_precision_is_unsupported():
    with pytest.raises(Unsupported, match=r"recorded\.mat was recorded in float64"):
        MatlabAdapter().run(replace(request(*RECORDED[0][:3]), dtype="float32"))


def test_a_recording_of_another_input_is_refused():
    asked = request(*RECORDED[0][:3])
    x = asked.inputs["query_input"]
    with pytest.raises(ConformanceError, match=r"'X' differs from the input that is asked for by up to 0\.5;"):
        MatlabAdapter().run(replace(asked, inputs={"query_input": x + 0.5}))
    with pytest.raises(ConformanceError, match="'X' is 1x20x10 in canonical axes, where 1x5x10 is asked for"):
        MatlabAdapter().run(replace(asked, inputs={"query_input": x[:, :5]}))


def test_a_recording_without_an_output_is_refused(tmp_path):
    savemat(tmp_path / "r.mat", {"X": np.ones((3, 2)), "outputs": np.ones((3, 2))})
    asked = Request("softmax", "r.mat", {"axis": -1}, {"x": np.ones((1, 2, 3))}, {}, "float64", source=str(tmp_path))
    with pytest.raises(ConformanceError, match=r"there is no 'output' \(did you mean 'outputs'\?\)"):
        MatlabAdapter().run(asked)


def test_what_has_no_step_name_stays_on_the_tape_without_a_hint(tmp_path):
    x = numbers(3, 2)
    savemat(tmp_path / "r.mat", {"output": x, "tmp": x + 1, "shifted": x, "count": np.int8(3), "X": x})
    asked = Request("softmax", "r.mat", {"axis": -1}, {"x": x.T[None]}, {}, "float64", source=str(tmp_path))
    tape = MatlabAdapter().run(asked).tape
    assert [(e.operation, e.hint) for e in tape] == [("tmp", None), ("shifted", "shifted"), ("output", "output")]


# ------------------------------------------------------------------------------------------ layouts

ATTENTION = {
    "query_kernel": numbers(10, 48), "key_kernel": numbers(10, 48) + 1, "value_kernel": numbers(10, 12),
    "output_kernel": numbers(12, 15), "query_bias": numbers(48), "key_bias": numbers(48) + 1,
    "value_bias": numbers(12), "output_bias": numbers(15),
}  # fmt: skip
LAYERS = [
    ("multi_head_attention", {"heads": 6}, ATTENTION),
    ("linear", {}, {"kernel": numbers(5, 7), "bias": numbers(7)}),
    ("linear", {}, {"kernel": numbers(5, 7)}),
    ("linear", {}, {"kernel": numbers(1, 1), "bias": numbers(1)}),
    ("layer_norm", {"axes": 1, "epsilon": 1e-5}, {"scale": numbers(5), "bias": numbers(5)}),
    ("lstm", {}, {"kernel": numbers(5, 12), "recurrent_kernel": numbers(3, 12), "bias": numbers(12)}),
    ("conv2d", {"groups": 1}, {"kernel": numbers(3, 2, 5, 7), "bias": numbers(7)}),
    ("conv2d", {"groups": 1}, {"kernel": numbers(3, 2, 5, 1), "bias": numbers(1)}),
    ("conv2d", {"groups": 3}, {"kernel": numbers(3, 2, 2, 9), "bias": numbers(9)}),
]


def through_a_file(path, arrays):
    """The arrays as they come back from a `.mat` file, which drops trailing axes of length 1."""
    from conformance.mat import read_mat

    def dropped(array):
        while array.ndim > 2 and array.shape[-1] == 1:
            array = array[..., 0]
        return array

    savemat(path, {name: dropped(array) for name, array in arrays.items()})
    return read_mat(path)


@pytest.mark.parametrize(("layer", "config", "weights"), LAYERS)
def test_layouts_round_trip(tmp_path, layer, config, weights):
    arrays = through_a_file(tmp_path / "w.mat", matlab_arrays(layer, config, weights))
    back = canonical_weights(layer, config, arrays, "w.mat")
    assert set(back) == set(weights)
    for name, weight in weights.items():
        assert np.array_equal(back[name], weight)


def test_layouts_are_those_of_matlab():
    arrays = matlab_arrays("multi_head_attention", {"heads": 6}, ATTENTION)
    assert {n: a.shape for n, a in arrays.items()} == {
        "QueryWeights": (48, 10), "KeyWeights": (48, 10), "ValueWeights": (12, 10), "OutputWeights": (15, 12),
        "QueryBias": (48, 1), "KeyBias": (48, 1), "ValueBias": (12, 1), "OutputBias": (15, 1),
    }  # fmt: skip
    assert arrays["QueryWeights"][47, 9] == ATTENTION["query_kernel"][9, 47]
    kernel = np.arange(2 * 3 * 2 * 6.0).reshape(2, 3, 2, 6)
    arrays = matlab_arrays("conv2d", {"groups": 3}, {"kernel": kernel, "bias": np.arange(6.0)})
    assert arrays["Weights"].shape == (2, 3, 2, 2, 3)  # height width channels-per-group filters-per-group groups
    assert arrays["Weights"][1, 2, 1, 0, 2] == kernel[1, 2, 1, 4]  # the first filter of the third group
    assert arrays["Bias"].shape == (1, 1, 2, 3)
    assert arrays["Bias"][0, 0, 1, 2] == 5
    weights = {"kernel": numbers(5, 12), "recurrent_kernel": numbers(3, 12), "bias": numbers(12)}
    arrays = matlab_arrays("lstm", {}, weights)
    assert {n: a.shape for n, a in arrays.items()} == {
        "InputWeights": (12, 5),
        "RecurrentWeights": (12, 3),
        "Bias": (12, 1),
    }
    assert np.array_equal(arrays["RecurrentWeights"][3:6], weights["recurrent_kernel"][:, 3:6].T)  # the forget gate


def test_vectors_may_be_rows():
    arrays = matlab_arrays("linear", {}, {"kernel": numbers(5, 7), "bias": numbers(7)})
    arrays["Bias"] = arrays["Bias"].T
    assert canonical_weights("linear", {}, arrays, "w.mat")["bias"].shape == (7,)


@pytest.mark.parametrize(
    ("change", "heads", "says"),
    [
        (
            {"KeyWeights": np.ones((48, 11))},
            6,
            "w.mat: 'KeyWeights' is 48x11, but 48x10 (hdim = 48 from 'QueryWeights', channel = 10 from 'X') is needed",
        ),
        (
            {"QueryWeights": np.ones((10, 48))},
            6,
            "w.mat: 'QueryWeights' is 10x48, but hdim x 10 (channel = 10 from 'X') is needed",
        ),
        (
            {"ValueBias": np.ones((13, 1))},
            6,
            "w.mat: 'ValueBias' is 13x1, but 12x1 (hvdim = 12 from 'ValueWeights') is needed",
        ),
        (
            {"KeyWeights": None},
            6,
            "w.mat: there is no 'KeyWeights' (48x10 (hdim = 48 from 'QueryWeights', channel = 10 from 'X')), "
            "which multi_head_attention needs",
        ),
        ({}, 5, "w.mat: 'QueryWeights' has 48 rows, which 5 heads do not divide; check `heads`"),
    ],
)
def test_what_does_not_fit_is_said_with_its_reason(change, heads, says):
    arrays = {**matlab_arrays("multi_head_attention", {"heads": 6}, ATTENTION), "X": np.ones((10, 20)), **change}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    with pytest.raises(ConformanceError) as caught:
        canonical_weights("multi_head_attention", {"heads": heads}, arrays, "w.mat")
    assert str(caught.value) == says


def test_the_output_projection_may_be_absent():
    weights = {name: weight for name, weight in ATTENTION.items() if not name.startswith("output")}
    arrays = matlab_arrays("multi_head_attention", {"heads": 6}, weights)
    assert set(canonical_weights("multi_head_attention", {"heads": 6}, arrays, "w.mat")) == set(weights)


def test_gates_must_be_four_times_the_units():
    arrays = {"InputWeights": np.ones((13, 5)), "RecurrentWeights": np.ones((13, 3)), "Bias": np.ones((13, 1))}
    with pytest.raises(
        ConformanceError, match=r"'InputWeights' has 13 rows, but 3 units \(from 'RecurrentWeights'\) need 4 x 3"
    ):
        canonical_weights("lstm", {}, arrays, "w.mat")


@pytest.mark.parametrize(
    ("layer", "config", "says"),
    [
        ("rms_norm", {}, "no declared layout for rms_norm"),
        ("layer_norm", {"axes": 2}, "one scale per channel"),
        ("multi_head_attention", {"heads": 6, "kv_heads": 2}, "as many heads for keys as for queries"),
    ],
)
def test_what_matlab_does_not_have_is_unsupported(layer, config, says):
    with pytest.raises(Unsupported, match=says):
        canonical_weights(layer, config, {}, "w.mat")


@pytest.mark.parametrize(
    ("matlab", "layer", "like", "at"),  # the index of the element that is 1 in MATLAB's array, and in the canonical
    [
        ((3, 5), "linear", (1, 5, 3), ((2, 1), (0, 1, 2))),  # channel time
        ((3, 5), "linear", (5, 3), ((2, 1), (1, 2))),  # channel batch
        ((3, 2, 5), "linear", (2, 5, 3), ((2, 1, 4), (1, 4, 2))),  # channel batch time
        ((3, 2), "linear", (2, 1, 3), ((2, 1), (1, 0, 2))),  # one time step
        ((6, 7, 3, 2), "conv2d", (2, 6, 7, 3), ((5, 6, 2, 1), (1, 5, 6, 2))),
        ((6, 7, 3), "conv2d", (1, 6, 7, 3), ((5, 6, 2), (0, 5, 6, 2))),  # one image
        ((6, 7), "conv2d", (1, 6, 7, 1), ((5, 6), (0, 5, 6, 0))),
    ],
)
def test_axes_of_inputs_and_outputs(matlab, layer, like, at):
    array = np.zeros(matlab)
    array[at[0]] = 1
    canonical = to_canonical(array, layer, like)
    assert canonical.shape == like
    assert canonical[at[1]] == 1


def test_axes_that_cannot_be_are_refused():
    with pytest.raises(ConformanceError, match="an array of 3x5x2x2 does not fit a canonical input of 1x5x3"):
        to_canonical(np.ones((3, 5, 2, 2)), "linear", (1, 5, 3))
