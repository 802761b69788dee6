"""Recordings as subjects: what a `.mat` file says of itself, and how it is judged. Expected values are plain NumPy."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

import conformance_fixtures
from conformance.checking import check, check_model
from conformance.errors import ConformanceError
from conformance.loading import opened
from conformance.subject import Call, Opener, Recording
from conformance_adapters.matlab_live import MatLive
from conformance_adapters.matlab_mat import MatlabAdapter

FOLDER = Path(conformance_fixtures.__file__).parent
ATTENTION = FOLDER / "matlab-self-attention" / "recorded.mat"
NETWORK = FOLDER / "matlab-attention-network" / "recorded.mat"


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def save(path, arrays):
    savemat(path, arrays)
    return path


def arrays(path):
    return {n: a for n, a in loadmat(path, mat_dtype=True).items() if not n.startswith("__")}


def statuses(case):
    return {s.name: s.status for s in case.steps}


def test_a_mat_file_is_matlabs():
    adapter = MatlabAdapter()
    assert isinstance(adapter, Opener)
    assert adapter.owns(Path("a.mat"))
    assert adapter.owns(Path("A.MAT"))
    assert not adapter.owns(Path("a.onnx"))
    assert not adapter.owns("a.mat")
    live = opened(ATTENTION)
    assert isinstance(live, MatLive)
    assert isinstance(live, Recording)
    assert (live.name, live.adapter, live.dtype) == ("recorded.mat", "matlab", "float64")


def test_it_says_layer_heads_weights_and_input():
    own, raw = opened(ATTENTION).own(), arrays(ATTENTION)
    assert (own.layer, own.config) == ("multi_head_attention", {"heads": 6})
    assert np.array_equal(own.weights["query_kernel"], raw["QueryWeights"].T)
    assert np.array_equal(own.weights["output_bias"], raw["OutputBias"].ravel())
    assert np.array_equal(own.inputs["query_input"], raw["X"].T[None])


@pytest.mark.parametrize("name", ["recorded.mat", "recorded-single.mat", "square.mat", "square-single.mat"])
def test_a_recording_is_checked_on_what_it_holds(name):
    case = check(FOLDER / "matlab-self-attention" / name, "multi_head_attention")
    assert case.status == "conforms"
    assert case.dtype == ("float32" if "single" in name else "float64")
    assert set(statuses(case).values()) == {"conforms"}
    assert [(x.step, x.value) for x in case.layouts] == [("scores", "key-query")]


def test_a_recording_with_a_fault_is_found_at_its_step(tmp_path):
    raw = arrays(ATTENTION)
    scaled = raw["scores"] / 8  # head_dim is 8: divided by it instead of by its root
    weights = np.exp(scaled) / np.exp(scaled).sum(0)
    value = raw["value"].reshape(6, 2, 20)
    context = np.stack([value[h] @ weights[:, :, h] for h in range(6)], axis=-1)
    merged = context.transpose(2, 0, 1).reshape(12, 20)
    raw |= {"scaled": scaled, "weights": weights, "context": context, "merged": merged}
    raw["output"] = raw["OutputWeights"] @ merged + raw["OutputBias"]
    case = check(save(tmp_path / "r.mat", raw), "multi_head_attention")
    assert (case.status, case.culprit) == ("diverges", "scaled")
    assert ("attention.scale", "1/head_dim") in [(d.convention, d.value) for d in case.diagnosis]


def test_explicit_config_and_weights_go_first(tmp_path):
    assert check(ATTENTION, "multi_head_attention", config={"heads": 3}).status == "diverges"
    own = opened(ATTENTION).own()
    path = save(tmp_path / "r.mat", {n: a for n, a in arrays(ATTENTION).items() if n != "KeyWeights"})
    with pytest.raises(ConformanceError, match=r"r\.mat: there is no 'KeyWeights' \(48x10 \(hdim = 48"):
        check(path, "multi_head_attention")
    assert check(path, "multi_head_attention", weights=own.weights).status == "conforms"


def test_a_written_number_of_heads_goes_before_the_pages(tmp_path):
    raw = arrays(ATTENTION) | {"NumHeads": 3.0}
    live = opened(save(tmp_path / "r.mat", raw))
    assert live.own().config == {"heads": 3}
    trace = live.run(Call(live.own().inputs, "float64", "multi_head_attention"))
    assert "NumHeads" not in [e.operation for e in trace.tape]


def test_a_recording_is_judged_on_its_own_inputs_only():
    with pytest.raises(ConformanceError, match=r"'X' differs from the input that is asked for by up to 0\.5"):
        check(ATTENTION, "multi_head_attention", inputs={"query_input": arrays(ATTENTION)["X"].T[None] + 0.5})


def test_another_precision_is_unsupported():
    case = check(ATTENTION, "multi_head_attention", dtype="float32")
    assert (case.status, case.message) == ("unsupported", "recorded.mat was recorded in float64")


def test_it_cannot_be_called():
    with pytest.raises(ConformanceError, match="is a recording, which cannot be called"):
        check(ATTENTION, "multi_head_attention", call=lambda subject, **tensors: tensors)


def test_weightless_layers_need_only_their_name(tmp_path):
    x = numbers(4, 6)  # four channels, six of time
    total = np.exp(x - x.max(0))
    path = save(tmp_path / "r.mat", {"X": x, "output": total / total.sum(0)})
    assert opened(path).own() is None
    assert check(path, "softmax").status == "conforms"
    over_time = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    wrong = check(save(tmp_path / "q.mat", {"X": x, "output": over_time}), "softmax")
    assert (wrong.status, wrong.culprit) == ("diverges", "output")


def test_images_are_height_width_channel_batch(tmp_path):
    x, kernel, bias = numbers(5, 6, 3, 2), numbers(2, 2, 3, 4, seed=1), numbers(1, 1, 4, seed=2)
    out = np.zeros((2, 3, 4, 2))
    for i in range(2):
        for j in range(3):  # strides of two
            patch = x[2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            out[i, j] = np.einsum("hwcb,hwco->ob", patch, kernel)
    raw = {"X": x, "Weights": kernel, "Bias": bias, "Stride": [2.0, 2.0], "output": out + bias[0, 0][:, None]}
    case = check(save(tmp_path / "r.mat", raw), "conv2d")
    assert case.status == "conforms"
    with pytest.raises(ConformanceError, match="the output is 2x2x3x4, but conv2d gives 2x4x5x4"):
        check(tmp_path / "r.mat", "conv2d", config={"strides": 1})


def test_the_canonical_way(tmp_path):
    x, kernel, bias = numbers(2, 3, 5), numbers(5, 4, seed=1), numbers(4, seed=2)
    path = save(tmp_path / "r.mat", {"x": x, "kernel": kernel, "bias": bias, "output": x @ kernel + bias})
    case = check(path, "linear")
    assert case.status == "conforms"
    wrong = save(tmp_path / "q.mat", {"x": x, "kernel": kernel, "bias": bias, "output": x @ kernel})
    case = check(wrong, "linear")
    assert (case.status, case.culprit) == ("diverges", "output")
    with pytest.raises(ConformanceError, match="there is no 'x'"):
        check(save(tmp_path / "n.mat", {"kernel": kernel, "output": x @ kernel}), "linear")


def test_the_canonical_way_of_attention_reads_heads(tmp_path):
    own = opened(ATTENTION).own()
    x, w = own.inputs["query_input"], own.weights
    q, k, v = (
        (x @ w[f"{n}_kernel"] + w[f"{n}_bias"]).reshape(1, 20, 6, -1).swapaxes(1, 2) for n in ("query", "key", "value")
    )
    scores = q @ k.swapaxes(2, 3)
    weights = np.exp(scores / np.sqrt(8))
    weights /= weights.sum(-1, keepdims=True)
    output = (weights @ v).swapaxes(1, 2).reshape(1, 20, 12) @ w["output_kernel"] + w["output_bias"]
    raw = {**w, "query_input": x, "scores": scores, "weights": weights, "output": output}
    case = check(save(tmp_path / "r.mat", raw), "multi_head_attention")
    assert case.status == "conforms"
    assert statuses(case)["scores"] == "conforms"
    assert not case.layouts  # batch head query key, as it should be


def test_a_network_is_judged_where_inputs_are_recorded(tmp_path):
    run = check_model(NETWORK)
    told = {c.subject: (c.layer, c.status, c.message) for c in run.cases}
    assert told["norm"] == ("layer_norm", "unsupported", "its input was not recorded: save it as norm.X")
    assert set(told) == {"attention", "norm", "classifier"}
    x, scale, offset = numbers(4, 6), numbers(4, 1, seed=1), numbers(4, 1, seed=2)
    normal = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    right = {"X": x, "Scale": scale, "Offset": offset, "output": scale * normal + offset}
    wrong = {**right, "output": scale * normal}
    run = check_model(save(tmp_path / "r.mat", {"first": right, "second": wrong}))
    assert [(c.subject, c.status, c.culprit) for c in run.cases] == [
        ("second", "diverges", "output"),
        ("first", "conforms", None),
    ]


def test_a_network_in_a_row_needs_its_parts():
    with pytest.raises(ConformanceError, match="does not say which layers are in a row"):
        check(NETWORK, "sequential")
    layers = ["multi_head_attention", "layer_norm", "linear", "softmax"]
    names = ["attention", "norm", "classifier", "probabilities"]
    parts = [{"name": n, "layer": x, "config": {}} for n, x in zip(names, layers, strict=True)]
    parts[0]["config"] = {"heads": 6}
    case = check(NETWORK, "sequential", config={"parts": parts})
    assert case.status == "conforms"
    assert statuses(case)["attention.scores"] == statuses(case)["norm.mean"] == "conforms"
    parts[1]["config"] = {"epsilon": 0.1}
    case = check(NETWORK, "sequential", config={"parts": parts})
    assert (case.status, case.culprit) == ("diverges", "norm.normalized")


def test_a_broken_file_is_one_sentence(tmp_path):
    (tmp_path / "r.mat").write_bytes(ATTENTION.read_bytes()[:5000])
    with pytest.raises(ConformanceError, match=r"r\.mat: "):
        opened(tmp_path / "r.mat")
    (tmp_path / "t.mat").write_text("# Created by Octave 8\n")
    with pytest.raises(ConformanceError, match="Octave's text format"):
        opened(tmp_path / "t.mat")
