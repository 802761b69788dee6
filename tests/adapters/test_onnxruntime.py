"""ONNX Runtime: weights go in and come back, outputs are the formulas', and the tape shows the steps."""

import subprocess
import sys

import numpy as np
import plain_formulas as plain
import pytest

from conformance.errors import Unsupported
from conformance.trace import Request
from conformance_adapters.onnx_attention import MultiHeadAttention, ProjectedAttention
from conformance_adapters.onnx_convolution import SUBJECTS as CONVOLUTIONS
from conformance_adapters.onnx_recurrent import Lstm
from conformance_adapters.onnx_runtime import Gemm, LayerNormalization, MatMulAdd, OnnxRuntimeAdapter

ADAPTER = OnnxRuntimeAdapter()
PRECISE = ("float64", "float32")
OPERATOR = "onnx.Attention"
CONTRIB = "com.microsoft.MultiHeadAttention"
ATTENTION = {
    "heads": 1, "kv_heads": None, "scale": None, "causal": None, "window": None, "softcap": None, "rotary": None
}  # fmt: skip
LSTM = {"direction": "forward", "activation": "tanh", "recurrent_activation": "sigmoid"}
CONV = {"strides": 1, "padding": "valid", "dilation": 1, "groups": 1}


def request(layer, inputs, weights=None, dtype="float32", subject=None, decomposed=True, **config):
    asked = Request(layer, "", config, inputs, weights or {}, dtype, decomposed=decomposed)
    subject = subject or ADAPTER.subjects(asked)[0]
    return Request(layer, subject, config, inputs, weights or {}, dtype, decomposed=decomposed)


def run(*args, **kwargs):
    return ADAPTER.run(request(*args, **kwargs))


def tape(trace):
    return {e.operation: e.array for e in trace.tape}


def same(read, given):
    assert sorted(read) == sorted(given)
    for name, array in given.items():
        assert read[name].astype(np.float64).tobytes() == array.tobytes(), name


def projections(dtype, channel=6, key=5, value=7, hdim=6, kdim=6, vdim=14, out=11, biases=True):
    shapes = {
        "query_kernel": (channel, hdim),
        "key_kernel": (key, kdim),
        "value_kernel": (value, vdim),
        "output_kernel": (vdim, out),
    }
    made = {n: plain.values(dtype, i, *s) for i, (n, s) in enumerate(shapes.items())}
    if biases:
        for i, name in enumerate(shapes):
            made[name.replace("kernel", "bias")] = plain.values(dtype, 10 + i, shapes[name][1])
    return made


def test_nothing_imports_onnx_until_the_adapter_is_started():
    code = (
        "import sys; from conformance_adapters.onnx_runtime import OnnxRuntimeAdapter;"
        "from conformance.trace import Request; import numpy as np;"
        "print(OnnxRuntimeAdapter().subjects(Request('linear', '', {}, {'x': np.ones((2, 3))}, {})));"
        "assert not {'onnx', 'onnxruntime'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['onnx.MatMul + onnx.Add', 'onnx.Gemm']"


# ------------------------------------------------------------------------------ linear, norm, activations
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("subject", ["onnx.MatMul + onnx.Add", "onnx.Gemm"])
@pytest.mark.parametrize("bias", [True, False])
def test_linear(dtype, subject, bias):
    x, kernel = plain.values(dtype, 0, 3, 5), plain.values(dtype, 1, 5, 7)
    weights = {"kernel": kernel} | ({"bias": plain.values(dtype, 2, 7)} if bias else {})
    trace = run("linear", {"x": x}, weights, dtype, subject)
    same(trace.weights, weights)
    assert trace.output.dtype == dtype
    plain.close(trace.output, x @ kernel + weights.get("bias", 0), dtype)
    if subject != "onnx.Gemm":
        plain.close(tape(trace)["MatMul:product"], x @ kernel, dtype)


def test_bfloat16_is_refused():
    with pytest.raises(Unsupported, match="bfloat16"):
        run("linear", {"x": np.ones((2, 3))}, {"kernel": np.ones((3, 5))}, "bfloat16")


@pytest.mark.parametrize("dtype", PRECISE)
@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("names", [(), ("scale",), ("bias",), ("scale", "bias")])
def test_layer_norm(dtype, axes, names):
    x = plain.values(dtype, 0, 2, 3, 5)
    weights = {n: plain.values(dtype, 1 + i, *x.shape[-axes:]) for i, n in enumerate(names)}
    epsilon = 2.0**-10  # the attribute is a float32: another epsilon would be another layer in float64
    trace = run("layer_norm", {"x": x}, weights, dtype, axes=axes, epsilon=epsilon)
    same(trace.weights, weights)
    plain.close(trace.output, plain.layer_norm(x, axes, epsilon, **weights), dtype)
    over = tuple(range(-axes, 0))
    if dtype == "float32":
        plain.close(tape(trace)["LayerNormalization:Mean"], x.mean(over, keepdims=True), dtype)


def test_layer_norm_in_float64_has_an_epsilon_in_float32():
    x = 2.0**-10 * plain.values("float64", 0, 3, 64)
    output = run("layer_norm", {"x": x}, {}, "float64", axes=1, epsilon=1e-5).output
    plain.close(output, plain.layer_norm(x, 1, float(np.float32(1e-5))), "float64")
    assert np.abs(output - plain.layer_norm(x, 1, 1e-5)).max() > 1e-10


def test_gelu_in_float64_has_constants_in_float32():
    x = plain.values("float64", 0, 7, 11)
    output = run("gelu", {"x": x}, {}, "float64", approximation="tanh").output
    assert 1e-9 < np.abs(output - plain.gelu(x, "tanh")).max() < 1e-7


@pytest.mark.parametrize("dtype", PRECISE)
def test_softmax_shows_its_steps_through_the_function_body(dtype):
    x = plain.values(dtype, 0, 2, 3, 5)
    trace = run("softmax", {"x": x}, dtype=dtype, axis=1)
    for output in (trace.output, trace.observed_output):
        plain.close(output, plain.softmax(x, 1), dtype)
    shifted = x - x.max(1, keepdims=True)
    by_operation = {e.operation.split(":")[0]: e.array for e in trace.tape}
    plain.close(by_operation["Sub"], shifted, dtype)
    plain.close(by_operation["ReduceSum"], np.exp(shifted).sum(1, keepdims=True), dtype)
    fused = run("softmax", {"x": x}, dtype=dtype, decomposed=False, axis=1)
    assert [e.operation for e in fused.tape] == ["Softmax:output"]


@pytest.mark.parametrize("approximation", ["none", "tanh"])
def test_gelu(approximation):
    x = plain.values("float32", 0, 7, 11)
    trace = run("gelu", {"x": x}, approximation=approximation)
    plain.close(trace.output, plain.gelu(x, approximation), "float32")


@pytest.mark.parametrize(
    ("layer", "shapes", "weights", "config"),
    [
        ("gelu", {"x": (3, 5)}, {}, {"approximation": "none"}),
        ("lstm", {"x": (2, 5, 3)}, {"kernel": (3, 28), "recurrent_kernel": (7, 28)}, LSTM),
        ("conv2d", {"x": (2, 5, 5, 3)}, {"kernel": (2, 2, 3, 5)}, CONV),
    ],
)
def test_what_has_no_float64_kernel_is_unsupported(layer, shapes, weights, config):
    inputs = {n: np.ones(s) for n, s in shapes.items()}
    with pytest.raises(Unsupported, match="float64"):
        run(layer, inputs, {n: np.ones(s) for n, s in weights.items()}, "float64", **config)


# ------------------------------------------------------------------------------ recurrent
@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("initial", [(), ("initial_cell",), ("initial_hidden", "initial_cell")])
def test_lstm(direction, bias, initial):
    x = plain.values("float32", 0, 2, 5, 3)
    weights = {"kernel": plain.values("float32", 1, 3, 28), "recurrent_kernel": plain.values("float32", 2, 7, 28)}
    if bias:
        weights["bias"] = plain.values("float32", 3, 28)
    states = {n: plain.values("float32", 4 + i, 2, 7) for i, n in enumerate(initial)}
    trace = run("lstm", {"x": x, **states}, weights, **{**LSTM, "direction": direction})
    same(trace.weights, weights)
    short = {n.removeprefix("initial_"): s for n, s in states.items()}
    expected = plain.lstm(x, **weights, **short, reverse=direction == "reverse")
    plain.close(trace.output, expected, "float32")
    plain.close(trace.observed_output, expected, "float32")


def test_lstm_with_hard_sigmoid_gates_of_a_sixth():
    x = plain.values("float32", 0, 2, 5, 3)
    weights = {"kernel": plain.values("float32", 1, 3, 28), "recurrent_kernel": plain.values("float32", 2, 7, 28)}
    trace = run("lstm", {"x": x}, weights, **{**LSTM, "recurrent_activation": "hard_sigmoid"})
    expected = plain.lstm(x, **weights, gate=lambda z: np.clip(z / 6 + 0.5, 0, 1))
    plain.close(trace.output, expected, "float32")


# ------------------------------------------------------------------------------ convolution
@pytest.mark.parametrize(
    ("config", "pads"),
    [
        ({}, ((0, 0), (0, 0))),
        ({"strides": (2, 3), "dilation": (1, 2)}, ((0, 0), (0, 0))),
        ({"padding": "same-upper"}, ((0, 1), (1, 1))),
        ({"padding": "same-lower"}, ((1, 0), (1, 1))),
        ({"padding": "same-upper", "strides": 2}, ((0, 1), (0, 1))),
        ({"padding": "same-lower", "strides": 2}, ((1, 0), (1, 0))),
        ({"padding": "same-upper", "dilation": (1, 2)}, ((0, 1), (2, 2))),
        ({"padding": ((0, 3), (2, 1)), "strides": 3, "groups": 2}, ((0, 3), (2, 1))),
    ],
)
def test_conv2d(config, pads):
    groups = config.get("groups", 1)
    x, kernel = plain.values("float32", 0, 2, 11, 14, 4), plain.values("float32", 1, 2, 3, 4 // groups, 6)
    weights = {"kernel": kernel, "bias": plain.values("float32", 2, 6)}
    trace = run("conv2d", {"x": x}, weights, **{**CONV, **config})
    same(trace.weights, weights)
    pairs = {n: (v, v) if isinstance(v, int) else v for n, v in config.items() if n in ("strides", "dilation")}
    plain.close(trace.output, plain.conv2d(x, kernel, weights["bias"], pads=pads, groups=groups, **pairs), "float32")


# ------------------------------------------------------------------------------ attention
@pytest.mark.parametrize("causal", [None, "top-left", "bottom-right"])
@pytest.mark.parametrize("kind", [None, "bool", "float"])
@pytest.mark.parametrize("softcap", [None, 0.75])
@pytest.mark.parametrize("dtype", PRECISE)
def test_scaled_dot_product_attention(dtype, causal, kind, softcap):
    query, key = plain.values(dtype, 0, 2, 4, 3, 5), plain.values(dtype, 1, 2, 2, 7, 5)
    value = plain.values(dtype, 2, 2, 2, 7, 11)
    inputs, allowed, added = {"query": query, "key": key, "value": value}, np.ones((3, 7), bool), None
    if causal:
        allowed = np.arange(7) <= np.arange(3)[:, None] + (4 if causal == "bottom-right" else 0)
    if kind == "bool":
        inputs["mask"] = plain.values(dtype, 3, 2, 1, 3, 7) > -1
        inputs["mask"][..., 0] = True
        inputs["mask"][1, 0, 2] = dtype == "float64"  # a row without a key: float32 only, see below
        allowed = allowed & inputs["mask"]
    elif kind == "float":
        inputs["mask"] = added = plain.values(dtype, 3, 3, 7)
    # A scale whose square root is exact in float32, for the float64 case: see below.
    config = {**ATTENTION, "scale": 0.25, "causal": causal, "kv_heads": 2, "softcap": softcap}
    if dtype == "float64" and kind == "float" and causal == "top-left":  # its function body adds a float32 bias
        with pytest.raises(Unsupported, match="bound to different types"):
            run("scaled_dot_product_attention", inputs, {}, dtype, **config)
        return
    trace = run("scaled_dot_product_attention", inputs, {}, dtype, **config)
    _, scaled, weights, context = plain.attention(
        query, key, value, scale=0.25, allowed=allowed, added=added, softcap=softcap
    )
    plain.close(trace.output, context, dtype)
    plain.close(trace.observed_output, context, dtype)
    seen = tape(trace)
    plain.close(seen["Attention:qk_matmul_output.scaled"], scaled, dtype)
    plain.close(seen["Attention:qk_matmul_output.probabilities"], weights, dtype)
    assert ("Attention:qk_matmul_output.softcapped" in seen) == (softcap is not None)
    assert ("Attention:qk_matmul_output.masked" in seen) == (causal is not None or kind is not None)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("kv_heads", [None, 1])
def test_multi_head_attention_of_the_default_domain(dtype, biases, kv_heads):
    weights = projections(dtype, kdim=6 // (2 // (kv_heads or 2)), vdim=14, biases=biases)
    if kv_heads:
        weights["output_kernel"] = plain.values(dtype, 4, 28, 11)
    inputs = {
        "query_input": plain.values(dtype, 20, 2, 3, 6),
        "key_input": plain.values(dtype, 21, 2, 4, 5),
        "value_input": plain.values(dtype, 22, 2, 4, 7),
    }
    config = {**ATTENTION, "heads": 2, "kv_heads": kv_heads, "scale": 0.25}
    trace = run("multi_head_attention", inputs, weights, dtype, OPERATOR, **config)
    same(trace.weights, weights)
    steps = plain.multi_head(inputs, weights, 2, kv_heads, scale=0.25)
    factor = 256  # inner products of 28 terms of products of inner products
    plain.close(trace.output, steps["output"], dtype, factor)
    plain.close(tape(trace)["Attention:attention"], steps["merged"], dtype, factor)
    plain.close(tape(trace)["Attention:qk_matmul_output.probabilities"], steps["weights"], dtype, factor)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_multi_head_attention_of_com_microsoft(dtype):
    weights = projections(dtype)
    inputs = {
        "query_input": plain.values(dtype, 20, 2, 3, 6),
        "key_input": plain.values(dtype, 21, 2, 4, 5),
        "value_input": plain.values(dtype, 22, 2, 4, 7),
    }
    trace = run("multi_head_attention", inputs, weights, dtype, CONTRIB, **{**ATTENTION, "heads": 2})
    same(trace.weights, weights)
    steps = plain.multi_head(inputs, weights, 2)
    plain.close(trace.output, steps["output"], dtype, 256)
    plain.close(tape(trace)["MultiHeadAttention:qk"], steps["scaled"], dtype, 256)


def test_one_input_no_bias_and_no_output_projection():
    weights = {n: w for n, w in projections("float32", key=6, value=6, biases=False).items() if n != "output_kernel"}
    inputs = {"query_input": plain.values("float32", 20, 2, 3, 6)}
    for subject in (OPERATOR, CONTRIB):
        trace = run("multi_head_attention", inputs, weights, "float32", subject, **{**ATTENTION, "heads": 2})
        same(trace.weights, weights)
        plain.close(trace.output, plain.multi_head(inputs, weights, 2)["output"], "float32", 256)


@pytest.mark.parametrize("subject", [OPERATOR, CONTRIB])
@pytest.mark.parametrize("causal", [None, "bottom-right"])
@pytest.mark.parametrize("axes", ["bk", "qk", "bqk", "bhqk"])
@pytest.mark.parametrize("kind", ["bool", "float"])
def test_masks_of_every_shape(subject, causal, axes, kind):
    sizes = {"b": 3, "h": 2, "q": 5, "k": 7}
    mask = plain.values("float32", 30, *(sizes[a] for a in axes))
    if kind == "bool":
        mask = mask > -1
        mask[..., 0] = True
    weights = projections("float32", key=6, value=6)
    inputs = {"query_input": plain.values("float32", 20, 3, 5, 6), "key_input": plain.values("float32", 21, 3, 7, 6)}
    config = {**ATTENTION, "heads": 2, "causal": causal}
    trace = run("multi_head_attention", {**inputs, "mask": mask}, weights, "float32", subject, **config)
    whole = mask[:, None, None] if axes == "bk" else mask[:, None] if axes == "bqk" else mask
    allowed = np.ones((5, 7), bool)
    if causal:
        allowed = np.arange(7) <= np.arange(5)[:, None] + 2
    options = {"allowed": allowed & whole} if kind == "bool" else {"allowed": allowed, "added": whole}
    plain.close(trace.output, plain.multi_head(inputs, weights, 2, **options)["output"], "float32", 256)


@pytest.mark.parametrize(
    ("subject", "config", "reason"),
    [
        (ProjectedAttention, {"window": 2}, "window"),
        (ProjectedAttention, {"rotary": {"base": 10000.0}}, "rotary"),
        (MultiHeadAttention, {"softcap": 3.0}, "softcap"),
        (MultiHeadAttention, {"kv_heads": 1}, "as many key heads"),
    ],
)
def test_what_an_operator_has_no_option_for_is_refused(subject, config, reason):
    asked = Request(
        "multi_head_attention", subject.name, {**ATTENTION, "heads": 2, **config}, {}, projections("float32")
    )
    assert reason in subject.refuses(asked)


# ------------------------------------------------------------- what ONNX Runtime really does otherwise
def plain_attention(dtype, query=3, key=7, scale=None, **config):
    tensors = {
        "query": plain.values(dtype, 0, 1, 2, query, 4),
        "key": plain.values(dtype, 1, 1, 2, key, 4),
        "value": plain.values(dtype, 2, 1, 2, key, 5),
    }
    trace = run("scaled_dot_product_attention", tensors, {}, dtype, **{**ATTENTION, "scale": scale, **config})
    return tensors, trace


def test_attention_in_float64_scales_in_float32():
    tensors, trace = plain_attention("float64")
    _, scaled, _, _ = plain.attention(**tensors, scale=None)
    factor = tape(trace)["Attention:qk_matmul_output.scaled"] / scaled - 1
    rounded_root = float(np.sqrt(np.float32(0.5)))  # head_dim 4
    assert abs(factor - (rounded_root**2 / 0.5 - 1)).max() <= 256 * 2.0**-53
    assert abs(factor).min() > 1e-8


def test_masked_scores_are_the_lowest_float_where_the_operator_says_minus_infinity():
    _, trace = plain_attention("float32", causal="top-left")
    masked = tape(trace)["Attention:qk_matmul_output.masked"]
    assert (masked[..., ~np.tri(3, 7, dtype=bool)] == np.finfo(np.float32).min).all()
    assert trace.tape[-1].operation == "Attention:attention"
    assert len(trace.tape) == 4


def test_unidirectional_lets_the_last_query_see_every_key():
    weights = projections("float32", key=6, value=6)
    inputs = {"query_input": plain.values("float32", 20, 3, 5, 6), "key_input": plain.values("float32", 21, 3, 7, 6)}
    config = {**ATTENTION, "heads": 2, "causal": "top-left"}
    output = run("multi_head_attention", inputs, weights, "float32", CONTRIB, **config).output
    allowed = np.tri(5, 7, dtype=bool)
    expected = plain.multi_head(inputs, weights, 2, allowed=allowed)["output"]
    plain.close(output[:, :-1], expected[:, :-1], "float32", 256)
    assert np.abs(output[:, -1] - expected[:, -1]).max() > 0.01
    allowed[-1] = True
    plain.close(output, plain.multi_head(inputs, weights, 2, allowed=allowed)["output"], "float32", 256)


def test_a_row_without_a_key():
    mask = np.array([[True, True, True], [False, False, False]])
    weights = projections("float32", key=6, value=6, biases=False)
    inputs = {"query_input": plain.values("float32", 20, 2, 3, 6)}
    config = {**ATTENTION, "heads": 2}
    outputs = {
        (subject, kind): run(
            "multi_head_attention", {**inputs, "mask": given}, weights, "float32", subject, **config
        ).output[1]
        for subject in (OPERATOR, CONTRIB)
        for kind, given in (("bool", mask), ("float", np.where(mask, 0, -np.inf)))
    }
    assert not outputs[OPERATOR, "bool"].any()
    assert not outputs[OPERATOR, "float"].any()
    assert np.isnan(outputs[CONTRIB, "float"]).all()
    unmasked = plain.multi_head(inputs, weights, 2)["output"][1]  # -10000 is added to every key alike
    assert 2.0**-24 < np.abs(outputs[CONTRIB, "bool"] - unmasked).max() < 0.1
    wide = {n: np.ones((1, 1, 3, 4)) for n in ("query", "key", "value")} | {"mask": np.zeros((3, 3), bool)}
    assert np.isnan(run("scaled_dot_product_attention", wide, {}, "float64", **ATTENTION).output).all()


# ------------------------------------------------------------------------------ layouts
@pytest.mark.parametrize(
    ("subject", "weights", "inputs", "config"),
    [
        (MatMulAdd, {"kernel": (3, 5), "bias": (5,)}, {"x": (2, 3)}, {}),
        (Gemm, {"kernel": (3, 5), "bias": (5,)}, {"x": (2, 3)}, {}),
        (LayerNormalization, {"scale": (3, 5), "bias": (3, 5)}, {"x": (2, 3, 5)}, {"axes": 2, "epsilon": 1e-5}),
        (Lstm, {"kernel": (3, 28), "recurrent_kernel": (7, 28), "bias": (28,)}, {"x": (2, 5, 3)}, LSTM),
        (CONVOLUTIONS[1], {"kernel": (2, 3, 5, 7), "bias": (7,)}, {"x": (2, 11, 13, 5)}, CONV),
        (ProjectedAttention, projections("float32"),
         {"query_input": (2, 3, 6), "key_input": (2, 3, 5), "value_input": (2, 3, 7)}, {**ATTENTION, "heads": 2}),
    ],
)  # fmt: skip
def test_every_layout_gives_back_the_same_bytes(subject, weights, inputs, config):
    given = {n: plain.values("float64", i, *getattr(s, "shape", s)) for i, (n, s) in enumerate(weights.items())}
    arrays = {n: np.zeros(shape) for n, shape in inputs.items()}
    made = subject(Request(subject.layer, subject.name, config, arrays, given, "float64"))
    same(made.weights(), given)
    declared = {p.name for p in made.layouts()}
    assert {n for n, a in made.graph.initializers.items() if a.dtype.kind == "f"} <= declared


def test_gates_are_stored_in_the_order_of_the_operator():
    kernel = np.repeat(np.arange(4.0), 7)[None].repeat(3, axis=0)  # gate i is 0, f is 1, g is 2, o is 3
    weights = {"kernel": kernel, "recurrent_kernel": np.zeros((7, 28))}
    made = Lstm(Request("lstm", "onnx.LSTM", LSTM, {"x": np.zeros((2, 5, 3))}, weights, "float32"))
    assert made.graph.initializers["W"].shape == (1, 28, 3)
    assert made.graph.initializers["W"][0, ::7, 0].tolist() == [0, 3, 1, 2]
