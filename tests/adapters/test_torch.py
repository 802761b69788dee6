"""PyTorch: weights go in and come back, outputs are the formulas', and the tape shows the steps."""

import math
import subprocess
import sys

import numpy as np
import plain_formulas as plain
import pytest
import torch

from conformance.errors import ConformanceError, Unsupported
from conformance.trace import Request
from conformance_adapters.torch_attention import MultiheadAttention, ProjectedDotProductAttention
from conformance_adapters.torch_convolution import Conv2d, PaddedConv2d
from conformance_adapters.torch_nn import LayerNorm, Linear, TorchAdapter
from conformance_adapters.torch_recurrent import Lstm
from conformance_adapters.torch_tape import record

ADAPTER = TorchAdapter()
PRECISE = ("float64", "float32")
PADDED = "torch.nn.ZeroPad2d + torch.nn.Conv2d"
MHA = "torch.nn.MultiheadAttention"
SDPA = "torch.nn.functional.scaled_dot_product_attention"
ATTENTION = {
    "heads": 1, "kv_heads": None, "scale": None, "causal": None, "window": None, "softcap": None, "rotary": None
}  # fmt: skip
LSTM = {"direction": "forward", "activation": "tanh", "recurrent_activation": "sigmoid"}
CONV = {"strides": 1, "padding": "valid", "dilation": 1, "groups": 1}


def request(layer, inputs, weights=None, dtype="float64", subject=None, decomposed=True, **config):
    asked = Request(layer, "", config, inputs, weights or {}, dtype, decomposed=decomposed)
    subject = subject or ADAPTER.subjects(asked)[0]
    return Request(layer, subject, config, inputs, weights or {}, dtype, decomposed=decomposed)


def run(*args, **kwargs):
    return ADAPTER.run(request(*args, **kwargs))


def found(trace, expected, dtype="float64", factor=64):
    """The operations of the tape whose output is `expected`, up to merged or singleton axes."""
    bound = factor * plain.UNIT_ROUNDOFF[dtype] * max(1.0, np.abs(expected).max())
    flat = expected.reshape(-1)
    return [
        e.operation
        for e in trace.tape
        if e.array.size == flat.size and np.abs(e.array.reshape(-1) - flat).max() <= bound
    ]


def attention_weights(dtype="float64", channel=6, key=6, value=6, hdim=6, hvdim=6, out=6, biases=True):
    shapes = {
        "query_kernel": (channel, hdim),
        "key_kernel": (key, hdim),
        "value_kernel": (value, hvdim),
        "output_kernel": (hvdim, out),
    }
    made = {n: plain.values(dtype, i, *s) for i, (n, s) in enumerate(shapes.items())}
    if biases:
        for i, name in enumerate(shapes):
            made[name.replace("kernel", "bias")] = plain.values(dtype, 10 + i, shapes[name][1])
    return made


def same(read, given):
    assert sorted(read) == sorted(given)
    for name, array in given.items():
        assert read[name].astype(np.float64).tobytes() == array.tobytes(), name


def test_nothing_imports_torch_until_the_adapter_is_started():
    code = (
        "import sys; from conformance_adapters.torch_nn import TorchAdapter; from conformance.trace import Request;"
        "import numpy as np; a = TorchAdapter();"
        "print(a.subjects(Request('linear', '', {}, {'x': np.ones((2, 3))}, {'kernel': np.ones((3, 5))})));"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch.nn.Linear" in done.stdout


# ------------------------------------------------------------------------------ linear, norm, activations
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("bias", [True, False])
def test_linear(dtype, bias):
    x, kernel = plain.values(dtype, 0, 2, 3, 5), plain.values(dtype, 1, 5, 7)
    weights = {"kernel": kernel} | ({"bias": plain.values(dtype, 2, 7)} if bias else {})
    trace = run("linear", {"x": x}, weights, dtype)
    same(trace.weights, weights)
    plain.close(trace.output, x @ kernel + weights.get("bias", 0), dtype)
    assert trace.output.tobytes() == trace.observed_output.tobytes()
    assert trace.output.dtype == ("float32" if dtype == "bfloat16" else dtype)


@pytest.mark.parametrize("dtype", PRECISE)
@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("names", [(), ("scale",), ("bias",), ("scale", "bias")])
def test_layer_norm(dtype, axes, names):
    x = plain.values(dtype, 0, 2, 3, 5)
    weights = {n: plain.values(dtype, 1 + i, *x.shape[-axes:]) for i, n in enumerate(names)}
    trace = run("layer_norm", {"x": x}, weights, dtype, axes=axes, epsilon=1e-3)
    same(trace.weights, weights)
    plain.close(trace.output, plain.layer_norm(x, axes, 1e-3, **weights), dtype)


@pytest.mark.parametrize("dtype", PRECISE)
def test_softmax_along_an_axis(dtype):
    x = plain.values(dtype, 0, 2, 3, 5)
    plain.close(run("softmax", {"x": x}, dtype=dtype, axis=1).output, plain.softmax(x, 1), dtype)


@pytest.mark.parametrize("dtype", PRECISE)
@pytest.mark.parametrize("approximation", ["none", "tanh"])
def test_gelu(dtype, approximation):
    x = plain.values(dtype, 0, 7, 11)
    trace = run("gelu", {"x": x}, dtype=dtype, approximation=approximation)
    plain.close(trace.output, plain.gelu(x, approximation), dtype)


def test_gelu_refuses_the_sigmoid_form():
    with pytest.raises(Unsupported, match="sigmoid"):
        run("gelu", {"x": np.ones(3)}, approximation="sigmoid")


# ------------------------------------------------------------------------------ recurrent
@pytest.mark.parametrize("dtype", PRECISE)
@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("initial", [(), ("initial_hidden",), ("initial_hidden", "initial_cell")])
def test_lstm(dtype, direction, bias, initial):
    x = plain.values(dtype, 0, 2, 5, 3)
    weights = {"kernel": plain.values(dtype, 1, 3, 28), "recurrent_kernel": plain.values(dtype, 2, 7, 28)}
    if bias:
        weights["bias"] = plain.values(dtype, 3, 28)
    states = {n: plain.values(dtype, 4 + i, 2, 7) for i, n in enumerate(initial)}
    trace = run("lstm", {"x": x, **states}, weights, dtype, **{**LSTM, "direction": direction})
    same(trace.weights, weights)
    short = {n.removeprefix("initial_"): s for n, s in states.items()}
    expected = plain.lstm(x, **weights, **short, reverse=direction == "reverse")
    plain.close(trace.output, expected, dtype)
    plain.close(trace.observed_output, expected, dtype)


def test_the_tape_of_an_lstm_has_every_gate_of_every_time_step():
    x, kernel, recurrent = plain.values("float32", 0, 2, 5, 3), *(plain.values("float32", i, i, 28) for i in (3, 7))
    trace = run("lstm", {"x": x}, {"kernel": kernel, "recurrent_kernel": recurrent}, "float32", **LSTM)
    gate = plain.sigmoid(x[:, 0] @ kernel[:, :7])
    assert found(trace, gate, "float32") == ["aten.sigmoid_.default"]
    assert sum(e.operation == "aten.sigmoid_.default" for e in trace.tape) == 15
    fused = run(
        "lstm", {"x": x}, {"kernel": kernel, "recurrent_kernel": recurrent}, "float32", decomposed=False, **LSTM
    )
    assert any("mkldnn_rnn_layer" in e.operation for e in fused.tape)


# ------------------------------------------------------------------------------ convolution
@pytest.mark.parametrize("dtype", PRECISE)
@pytest.mark.parametrize(
    ("subject", "config", "pads"),
    [
        ("torch.nn.Conv2d", {}, ((0, 0), (0, 0))),
        ("torch.nn.Conv2d", {"strides": (2, 3), "dilation": (1, 2)}, ((0, 0), (0, 0))),
        ("torch.nn.Conv2d", {"padding": "same-upper"}, ((0, 1), (1, 1))),
        ("torch.nn.Conv2d", {"padding": ((2, 2), (1, 1)), "groups": 2}, ((2, 2), (1, 1))),
        (PADDED, {"padding": "same-lower"}, ((1, 0), (1, 1))),
        (PADDED, {"padding": "same-upper", "strides": 2, "dilation": 2}, ((1, 1), (1, 2))),
        (PADDED, {"padding": ((0, 3), (2, 1)), "strides": 3}, ((0, 3), (2, 1))),
    ],
)  # fmt: skip
def test_conv2d(dtype, subject, config, pads):
    groups = config.get("groups", 1)
    x, kernel, bias = plain.values(dtype, 0, 2, 11, 14, 4), plain.values(dtype, 1, 2, 3, 4 // groups, 6), None
    weights = {"kernel": kernel, "bias": plain.values(dtype, 2, 6)}
    asked = request("conv2d", {"x": x}, weights, dtype, **{**CONV, **config})
    assert asked.subject == subject
    trace = ADAPTER.run(asked)
    same(trace.weights, weights)
    pairs = {n: (v, v) if isinstance(v, int) else v for n, v in config.items() if n in ("strides", "dilation")}
    bias = weights["bias"]
    plain.close(trace.output, plain.conv2d(x, kernel, bias, pads=pads, groups=groups, **pairs), dtype)


# ------------------------------------------------------------------------------ attention
@pytest.mark.parametrize("dtype", PRECISE)
@pytest.mark.parametrize("causal", [None, "top-left", "bottom-right"])
@pytest.mark.parametrize("kind", [None, "bool", "float"])
def test_scaled_dot_product_attention(dtype, causal, kind):
    query, key = plain.values(dtype, 0, 2, 4, 3, 5), plain.values(dtype, 1, 2, 2, 7, 5)
    value = plain.values(dtype, 2, 2, 2, 7, 11)
    inputs, allowed, added = {"query": query, "key": key, "value": value}, np.ones((3, 7), bool), None
    if causal:
        allowed = np.arange(7) <= np.arange(3)[:, None] + (4 if causal == "bottom-right" else 0)
    if kind == "bool":
        inputs["mask"] = plain.values(dtype, 3, 2, 1, 3, 7) > -1
        inputs["mask"][1, 0, 2] = False
        allowed = allowed & inputs["mask"]
    elif kind == "float":
        inputs["mask"] = added = plain.values(dtype, 3, 3, 7)
    config = {**ATTENTION, "scale": 0.25, "causal": causal, "kv_heads": 2}
    trace = run("scaled_dot_product_attention", inputs, {}, dtype, **config)
    *_, weights, context = plain.attention(query, key, value, scale=0.25, allowed=allowed, added=added)
    plain.close(trace.output, context, dtype)
    plain.close(trace.observed_output, context, dtype)
    assert found(trace, weights, dtype)
    assert "aten._scaled_dot_product_flash_attention_for_cpu.default" not in {e.operation for e in trace.tape}


@pytest.mark.parametrize("dtype", PRECISE)
@pytest.mark.parametrize("subject", [MHA, SDPA])
@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("widths", [{}, {"key": 5, "value": 7}])
def test_multi_head_attention(dtype, subject, biases, widths):
    weights = attention_weights(dtype, biases=biases, **widths)
    inputs = {"query_input": plain.values(dtype, 20, 2, 3, 6)}
    if widths:
        inputs["key_input"], inputs["value_input"] = plain.values(dtype, 21, 2, 4, 5), plain.values(dtype, 22, 2, 4, 7)
    trace = run("multi_head_attention", inputs, weights, dtype, subject, **{**ATTENTION, "heads": 2})
    same(trace.weights, weights)
    steps = plain.multi_head(inputs, weights, 2)
    plain.close(trace.output, steps["output"], dtype)
    plain.close(trace.observed_output, steps["output"], dtype)
    for step in ("scaled", "weights", "context"):
        assert found(trace, steps[step], dtype), step


@pytest.mark.parametrize("subject", [MHA, SDPA])
@pytest.mark.parametrize("causal", [None, "top-left", "bottom-right"])
@pytest.mark.parametrize("axes", ["bk", "qk", "bqk", "bhqk"])
@pytest.mark.parametrize("kind", ["bool", "float"])
def test_masks_of_every_shape(subject, causal, axes, kind):
    sizes = {"b": 3, "h": 2, "q": 5, "k": 7}
    mask = plain.values("float64", 30, *(sizes[a] for a in axes))
    if kind == "bool":
        mask = mask > -1
        mask[..., 0] = True  # no row is fully masked: nn.MultiheadAttention gives NaN there, see below
    inputs = {"query_input": plain.values("float64", 20, 3, 5, 6), "key_input": plain.values("float64", 21, 3, 7, 6)}
    weights = attention_weights()
    config = {**ATTENTION, "heads": 2, "causal": causal}
    trace = run("multi_head_attention", {**inputs, "mask": mask}, weights, "float64", subject, **config)
    whole = mask[:, None, None] if axes == "bk" else mask[:, None] if axes == "bqk" else mask
    allowed = np.ones((5, 7), bool)
    if causal:
        allowed = np.arange(7) <= np.arange(5)[:, None] + (2 if causal == "bottom-right" else 0)
    options = {"allowed": allowed & whole} if kind == "bool" else {"allowed": allowed, "added": whole}
    plain.close(trace.output, plain.multi_head(inputs, weights, 2, **options)["output"], "float64")


def test_widths_that_multihead_attention_cannot_have_are_composed_of_linear_and_the_function():
    weights = attention_weights(channel=11, key=5, value=7, hdim=12, hvdim=14, out=13)
    weights["key_kernel"], weights["key_bias"] = weights["key_kernel"][:, :6].copy(), weights["key_bias"][:6]
    weights["output_kernel"] = plain.values("float64", 3, 28, 13)
    inputs = {
        "query_input": plain.values("float64", 20, 2, 3, 11),
        "key_input": plain.values("float64", 21, 2, 9, 5),
        "value_input": plain.values("float64", 22, 2, 9, 7),
    }
    asked = request("multi_head_attention", inputs, weights, **{**ATTENTION, "heads": 4, "kv_heads": 2, "scale": 1.0})
    assert asked.subject == SDPA
    trace = ADAPTER.run(asked)
    same(trace.weights, weights)
    plain.close(trace.output, plain.multi_head(inputs, weights, 4, 2, scale=1.0)["output"], "float64", 1024)


def test_no_output_projection_and_some_biases_are_neutral_and_not_reported():
    weights = {n: w for n, w in attention_weights().items() if not n.startswith("output")}
    del weights["key_bias"]
    inputs = {"query_input": plain.values("float64", 20, 2, 3, 6)}
    trace = run("multi_head_attention", inputs, weights, "float64", MHA, **{**ATTENTION, "heads": 3})
    same(trace.weights, weights)
    plain.close(trace.output, plain.multi_head(inputs, weights, 3)["output"], "float64")


def test_a_fully_masked_row_is_nan_in_multihead_attention_and_zero_in_the_function():
    mask = np.array([[True, True, True], [False, False, False]])
    inputs = {"query_input": plain.values("float64", 20, 2, 3, 6), "mask": mask}
    weights = attention_weights(biases=False)
    config = {**ATTENTION, "heads": 2}
    assert np.isnan(run("multi_head_attention", inputs, weights, "float64", MHA, **config).output[1]).all()
    assert not run("multi_head_attention", inputs, weights, "float64", SDPA, **config).output[1].any()


def test_the_plain_run_takes_the_fast_path_and_switches_are_put_back():
    inputs = {"query_input": plain.values("float32", 20, 2, 3, 6)}
    config = {**ATTENTION, "heads": 2}
    trace = run(
        "multi_head_attention", inputs, attention_weights("float32"), "float32", MHA, decomposed=False, **config
    )
    assert trace.tape[0].operation == "aten._native_multi_head_attention.default"
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        record(lambda: None, decomposed=True)
        assert not torch.backends.mha.get_fastpath_enabled()
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    record(lambda: None, decomposed=True)
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.mkldnn.enabled


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"window": 2}, "window"),
        ({"softcap": 3.0}, "softcap"),
        ({"rotary": {"base": 10000.0}}, "rotary"),
        ({"scale": 1.0}, "not by 1.0"),
        ({"kv_heads": 1}, "as many key heads"),
    ],
)
def test_multihead_attention_refuses_what_it_has_no_option_for(config, reason):
    asked = Request(
        "multi_head_attention", MHA, {**ATTENTION, "heads": 2, **config}, {}, attention_weights(), "float64"
    )
    assert reason in MultiheadAttention.refuses(asked)


@pytest.mark.parametrize("option", ["window", "softcap", "rotary"])
def test_the_function_refuses_what_it_has_no_option_for(option):
    asked = Request("multi_head_attention", SDPA, {**ATTENTION, option: 3}, {}, attention_weights())
    assert option in ProjectedDotProductAttention.refuses(asked)


# ------------------------------------------------------------------------------ layouts
@pytest.mark.parametrize(
    ("subject", "weights", "inputs", "config"),
    [
        (Linear, {"kernel": (3, 5), "bias": (5,)}, {}, {}),
        (LayerNorm, {"scale": (3, 5), "bias": (3, 5)}, {"x": (2, 3, 5)}, {"axes": 2, "epsilon": 1e-5}),
        (Lstm, {"kernel": (3, 28), "recurrent_kernel": (7, 28), "bias": (28,)}, {"x": (2, 5, 3)}, LSTM),
        (Lstm, {"kernel": (3, 28), "recurrent_kernel": (7, 28), "bias": (28,)}, {"x": (2, 5, 3)},
         {**LSTM, "direction": "reverse"}),
        (Conv2d, {"kernel": (2, 3, 5, 7), "bias": (7,)}, {"x": (2, 11, 13, 5)}, CONV),
        (PaddedConv2d, {"kernel": (2, 3, 5, 7), "bias": (7,)}, {"x": (2, 11, 13, 5)},
         {**CONV, "padding": "same-lower"}),
        (MultiheadAttention, attention_weights(), {"query_input": (2, 3, 6)}, {**ATTENTION, "heads": 2}),
        (MultiheadAttention, attention_weights(key=5, value=7),
         {"query_input": (2, 3, 6), "key_input": (2, 3, 5), "value_input": (2, 3, 7)}, {**ATTENTION, "heads": 2}),
        (ProjectedDotProductAttention, attention_weights(channel=11, key=5, value=7, hdim=12, hvdim=14, out=13),
         {"query_input": (2, 3, 11), "key_input": (2, 3, 5), "value_input": (2, 3, 7)}, {**ATTENTION, "heads": 2}),
    ],
)  # fmt: skip
def test_every_layout_gives_back_the_same_bytes(subject, weights, inputs, config):
    given = {n: plain.values("float64", i, *getattr(s, "shape", s)) for i, (n, s) in enumerate(weights.items())}
    arrays = {n: np.zeros(shape) for n, shape in inputs.items()}
    made = subject(Request(subject.layer, subject.name, config, arrays, given, "float64"))
    same(made.weights(), given)
    declared = {p.name for p in made.layouts()}
    assert set(made.module.state_dict()) <= declared


# ------------------------------------------------------------------------------ the tape itself
def test_an_operation_in_place_does_not_change_what_was_recorded():
    def function():
        x = torch.tensor([1.0, 4.0])
        y = x + 1
        y.mul_(10)
        y[0] = -1
        return y

    output, tape = record(function)
    assert output.tolist() == [-1.0, 50.0]
    by_name = {e.operation: e.array.tolist() for e in tape}
    assert by_name["aten.add.Tensor"] == [2.0, 5.0]
    assert by_name["aten.mul_.Tensor"] == [20.0, 50.0]


def test_views_and_tuples_are_recorded_and_integers_are_not():
    def function():
        halves = torch.arange(4.0).reshape(2, 2).t().split(1)
        return torch.stack(halves).argmax()

    _, tape = record(function)
    assert [e.operation for e in tape].count("aten.split.Tensor") == 2
    assert "aten.t.default" in [e.operation for e in tape]
    assert all(e.array.dtype.kind == "f" for e in tape)


def test_bfloat16_is_given_exactly_as_float32():
    _, tape = record(lambda: torch.tensor([1.0, 3.0], dtype=torch.bfloat16) / 3)
    assert tape[-1].array.dtype == np.float32
    assert tape[-1].array.tolist() == [0.333984375, 1.0]


def test_inference_mode_is_taken_apart_too():
    query = torch.ones(1, 1, 2, 3)

    @torch.inference_mode()
    def function():
        return torch.nn.functional.scaled_dot_product_attention(query, query, query)

    assert [e.operation for e in record(function)[1]] == ["aten.scaled_dot_product_attention.default"]
    names = [e.operation for e in record(function, decomposed=True)[1]]
    assert names.count("aten.bmm.default") == 2
    assert "aten._safe_softmax.default" in names


# ------------------------------------------------------------------------------ what an operation read, and where
def graph(tape):
    """Each operation by its short name, with what it read."""
    return [(e.operation.split(".")[1], e.reads) for e in tape]


def test_an_operation_reads_what_made_its_operands():
    x = torch.tensor([1.0, -4.0])

    def function():
        twice = x * 2
        positive = twice > 0  # a mask is not on the tape, and is made of `twice`
        return torch.where(positive, x.exp(), torch.zeros_like(x)) + twice

    assert graph(record(function)[1]) == [
        ("mul", ()),
        ("exp", ()),
        ("zeros_like", ()),
        ("where", (0, 1, 2)),
        ("add", (0, 3)),
    ]


def test_integers_and_shapes_pass_on_what_they_were_made_of():
    x = torch.tensor([3.0, 1.0, 2.0])

    def function():
        order = (x * 2).argsort() + 1
        return torch.ones(5)[order]

    # The sorted values are on the tape, and nobody reads them.
    assert graph(record(function)[1]) == [("mul", ()), ("sort", (0,)), ("ones", ()), ("index", (0, 2))]


def test_a_view_reads_what_was_written_through_another():
    x = torch.ones(3)

    def function():
        whole = torch.zeros(2, 3)
        before = whole + 1
        whole[1].copy_(x * 5)
        return before, whole + 1, whole[0].sum()

    assert graph(record(function)[1]) == [
        ("zeros", ()),
        ("add", (0,)),
        ("select", (0,)),
        ("mul", ()),
        ("copy_", (2, 3)),
        ("add", (0, 4)),
        ("select", (0, 4)),
        ("sum", (6,)),
    ]


def test_an_operation_in_place_and_one_with_out_are_read_afterwards():
    x = torch.ones(3)

    def function():
        y = x + 1
        kept = torch.empty(3)
        torch.exp(y, out=kept)
        y.mul_(10)
        return y + kept

    tape = record(function)[1]
    assert [name for name, _ in graph(tape)] == ["add", "empty", "exp", "mul_", "add"]
    assert [tape[3].reads, tape[4].reads] == [(0,), (2, 3)]


def test_storage_that_is_used_again_reads_nothing_of_its_former_tensor():
    x = torch.ones(7)

    def function():
        for _ in range(20):
            y = x + 1
            y.mul_(2)
            del y
        return x * 3

    assert graph(record(function)[1])[-1] == ("mul", ())


class _Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.ReLU())
        self.register_buffer("table", torch.ones(3))

    def forward(self, x):
        return self.layers(x) + self.table.exp() * torch.tensor(2.0)


def test_the_module_in_which_an_operation_ran_and_what_is_made_of_weights_alone():
    block, x = _Block(), torch.ones(2, 3)
    with torch.no_grad():
        tape = record(lambda: block(x), decomposed=True)[1]
    named = {e.operation.split(".")[1]: (e.scope, e.fixed) for e in tape}
    assert named["t"] == ("layers.0", True)
    assert named["addmm"] == ("layers.0", False)
    assert named["relu"] == ("layers.1", False)
    assert named["exp"] == ("", True)
    assert named["mul"] == ("", True)
    assert named["add"] == ("", False)


def test_a_view_of_a_weight_is_not_copied_and_that_of_a_tensor_that_is_written_to_is():
    linear, x = torch.nn.Linear(3, 3), torch.ones(2, 3)

    def function():
        made = torch.zeros(2, 3)
        row = made[1]
        row.copy_(linear(x)[0])
        return made

    with torch.no_grad():
        tape = record(function, decomposed=True)[1]
    named = {e.operation.split(".")[1]: e for e in tape}
    assert np.shares_memory(named["t"].array, linear.weight.detach().numpy())
    assert next(e.array.tolist() for e in tape if e.operation == "aten.select.int") == [0.0, 0.0, 0.0]


def test_random_numbers_are_not_fixed():
    assert [e.fixed for e in record(lambda: torch.rand(3) + torch.ones(3))[1]] == [False, True, False]


def test_a_module_that_raises_leaves_no_hook_and_no_scope():
    class Raises(torch.nn.Module):
        def forward(self, x):
            raise ValueError

    class Catches(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Sequential(Raises())

        def forward(self, x):
            try:
                self.inner(x)
            except ValueError:
                return x + 1

    hooks = torch.nn.modules.module
    before = dict(hooks._global_forward_hooks), dict(hooks._global_forward_pre_hooks)
    tape = record(lambda: Catches()(torch.ones(2)) * 2)[1]
    assert [e.scope for e in tape if e.operation.startswith(("aten.add", "aten.mul"))] == ["", ""]
    assert before == (hooks._global_forward_hooks, hooks._global_forward_pre_hooks)


# ------------------------------------------------------------------------------ a fixture's module
SOURCE = """
import torch

class Scale(torch.nn.Module):
    def __init__(self, factor, kernel):
        super().__init__()
        self.factor, self.kernel = factor, torch.nn.Parameter(kernel)

    def forward(self, x, mask=None):
        product = x @ self.kernel
        return {"output": product * self.factor, "product": product}

def build(config, weights):
    return Scale(config["factor"], weights["kernel"])

def wrong(config, weights):
    return 3
"""


def test_a_module_beside_the_fixture_is_built_and_run(tmp_path):
    (tmp_path / "scale.py").write_text(SOURCE)
    x, kernel = plain.values("float32", 0, 2, 3), plain.values("float32", 1, 3, 5)
    asked = Request("linear", "scale.py:build", {"factor": 3.0}, {"x": x}, {"kernel": kernel}, source=str(tmp_path))
    trace = ADAPTER.run(asked)
    assert trace.weights == {}
    plain.close(trace.output, x @ kernel * 3, "float32")
    assert found(trace, x @ kernel, "float32")


@pytest.mark.parametrize(("subject", "message"), [
    ("scale.py:wrong", "returned a int"),
    ("scale.py:absent", "no function 'absent'"),
    ("other.py:build", "no such file"),
])  # fmt: skip
def test_a_wrong_source_says_what_is_wrong(tmp_path, subject, message):
    (tmp_path / "scale.py").write_text(SOURCE)
    with pytest.raises(ConformanceError, match=message):
        ADAPTER.run(Request("linear", subject, {}, {}, {"kernel": np.ones((3, 5))}, source=str(tmp_path)))


def test_a_dtype_without_a_kernel_is_unsupported(tmp_path):
    (tmp_path / "polar.py").write_text(
        "import torch\n"
        "class Inverse(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return torch.linalg.inv(x)\n"
        "def build(config, weights):\n"
        "    return Inverse()\n"
    )
    asked = Request("linear", "polar.py:build", {}, {"x": np.eye(3)}, {}, "float16", source=str(tmp_path))
    with pytest.raises(Unsupported, match="not supported"):
        ADAPTER.run(asked)


def test_scale_that_equals_the_default_is_not_refused():
    asked = Request("multi_head_attention", MHA, {**ATTENTION, "heads": 2, "scale": 1 / math.sqrt(3)}, {},
                    attention_weights())  # fmt: skip
    assert MultiheadAttention.refuses(asked) is None
