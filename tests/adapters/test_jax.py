"""JAX and Flax: weights go in and come back, outputs are the formulas', and the tape shows the steps."""

import subprocess
import sys

import numpy as np
import plain_formulas as plain
import pytest

from conformance.errors import Unsupported
from conformance.trace import Request
from conformance_adapters.jax_flax import JaxAdapter
from conformance_adapters.jax_subject import FlaxSubject

ADAPTER = JaxAdapter()
ADAPTER.start()
QKV = ("query", "key", "value")
PRECISE = ("float64", "float32")
SDPA, LINEN_SDPA = "jax.nn.dot_product_attention", "flax.linen.dot_product_attention"
NNX, LINEN = "flax.nnx.MultiHeadAttention", "flax.linen.MultiHeadDotProductAttention"
MODULES = (NNX, LINEN)
# These take the softmax in float32 even of float64 scores; test_softmax_of_float64_is_float32 shows it.
ALWAYS_FLOAT32 = (SDPA, NNX)
ATTENTION = {
    "heads": 1, "kv_heads": None, "scale": None, "causal": None, "window": None, "softcap": None, "rotary": None
}  # fmt: skip
LSTM = {"direction": "forward", "activation": "tanh", "recurrent_activation": "sigmoid"}
CONV = {"strides": 1, "padding": "valid", "dilation": 1, "groups": 1}
LSTMS = [s.name for s in ADAPTER.table if s.layer == "lstm" and "Bidirectional" not in s.name]
NORMS = [s.name for s in ADAPTER.table if s.layer == "layer_norm"]


def request(layer, subject, inputs, weights=None, dtype="float64", **config):
    return Request(layer, subject, config, inputs, weights or {}, dtype)


def run(*args, **kwargs):
    asked = request(*args, **kwargs)
    assert asked.subject in ADAPTER.subjects(asked)
    return ADAPTER.run(asked)


def output(*args, **kwargs):
    asked = request(*args, **kwargs)
    assert asked.subject in ADAPTER.subjects(asked)
    return ADAPTER.to_numpy(ADAPTER.build(asked)())


def reason(*args, **kwargs):
    asked = request(*args, **kwargs)
    return next(s for s in ADAPTER.table if (s.name, s.layer) == (asked.subject, asked.layer)).refuses(asked)


def found(trace, expected, dtype, factor=64):
    """The operations of the tape whose output is `expected`, up to merged or singleton axes."""
    bound = factor * plain.UNIT_ROUNDOFF[dtype] * max(1.0, np.abs(expected).max())
    flat = expected.reshape(-1)
    return [
        e.operation
        for e in trace.tape
        if e.array.size == flat.size and np.abs(e.array.reshape(-1) - flat).max() <= bound
    ]


def arithmetic(subject, dtype):
    return "float32" if subject in ALWAYS_FLOAT32 else dtype


def attention_weights(dtype="float64", channel=5, key=5, value=5, hdim=6, kv=6, hv=6, merged=6, out=7, biases=True):
    shapes = {
        "query_kernel": (channel, hdim),
        "key_kernel": (key, kv),
        "value_kernel": (value, hv),
        "output_kernel": (merged, out),
    }
    made = {n: plain.values(dtype, i, *s) for i, (n, s) in enumerate(shapes.items())}
    if biases:
        for i, (name, shape) in enumerate(shapes.items()):
            made[name.replace("kernel", "bias")] = plain.values(dtype, 10 + i, shape[1])
    return made


def lstm_weights(dtype, into=3, unit=5, bias=True):
    made = {
        "kernel": plain.values(dtype, 1, into, 4 * unit),
        "recurrent_kernel": plain.values(dtype, 2, unit, 4 * unit),
        "bias": plain.values(dtype, 3, 4 * unit),
    }
    return made if bias else {n: v for n, v in made.items() if n != "bias"}


BIASES = ("bias", "recurrent_bias")
BIDIRECTIONAL = {"direction": "bidirectional", "merge": "concat"}


def in_both_directions(weights):
    """Those of the reverse direction are others, zero where the forward direction's are."""
    return {**weights, **{f"reverse_{n}": 2 * w for n, w in weights.items()}}


def gru_weights(dtype, *biases, into=3, unit=5):
    """Flax's gates have no bias of the state, the candidate has."""
    made = {
        "kernel": plain.values(dtype, 1, into, 3 * unit),
        "recurrent_kernel": plain.values(dtype, 2, unit, 3 * unit),
    }
    made |= {n: plain.values(dtype, i, 3 * unit) for i, n in enumerate(biases, 3)}
    if "recurrent_bias" in made:
        made["recurrent_bias"][: 2 * unit] = 0
    return made


# ------------------------------------------------------------------------------------ weights ----
ROUND_TRIPS = [
    *[
        ("multi_head_attention", name, {"query_input": (2, 3, 5)}, attention_weights(), {**ATTENTION, "heads": 2})
        for name in (*MODULES, SDPA, LINEN_SDPA)
    ],
    (
        "multi_head_attention", NNX, {"query_input": (2, 3, 5), "key_input": (2, 7, 11)},
        attention_weights(key=11, value=11, hdim=12, kv=6, hv=6, merged=12), {**ATTENTION, "heads": 4, "kv_heads": 2},
    ),
    *[
        ("linear", name, {"x": (2, 3)}, {"kernel": plain.values("float64", 0, 3, 5), **bias}, {})
        for name in ("flax.nnx.Linear", "flax.linen.Dense")
        for bias in ({}, {"bias": plain.values("float64", 1, 5)})
    ],
    *[
        ("layer_norm", name, {"x": (2, 5)}, {n: plain.values("float64", 0, 5) for n in given},
         {"axes": 1, "epsilon": 1e-5})
        for name in NORMS
        for given in (("scale", "bias"), ("scale",), ("bias",), ())
    ],
    *[("lstm", name, {"x": (2, 7, 3)}, lstm_weights("float64", bias=bias), LSTM) for name in LSTMS for bias in (1, 0)],
    *[
        ("gru", name, {"x": (2, 7, 3)}, gru_weights("float64", *biases), {**LSTM, "reset": "after"})
        for name, all_biases in (("flax.nnx.RNN(GRUCell)", ("bias",)), ("flax.linen.RNN(GRUCell)", BIASES))
        for biases in (all_biases, ())
    ],
    *[
        ("simple_rnn", f"flax.{name}.RNN(SimpleCell)", {"x": (2, 7, 3)},
         {"kernel": plain.values("float64", 1, 3, 5), "recurrent_kernel": plain.values("float64", 2, 5, 5), **bias},
         {n: LSTM[n] for n in ("direction", "activation")})
        for name in ("nnx", "linen")
        for bias in ({}, {"bias": plain.values("float64", 1, 5)})
    ],
    *[
        ("lstm", f"flax.{name}.Bidirectional(OptimizedLSTMCell)", {"x": (2, 7, 3)},
         in_both_directions(lstm_weights("float64", bias=bias)), {**LSTM, **BIDIRECTIONAL})
        for name in ("nnx", "linen")
        for bias in (1, 0)
    ],
    *[
        ("gru", f"flax.{name}.Bidirectional(GRUCell)", {"x": (2, 7, 3)},
         in_both_directions(gru_weights("float64", *biases)), {**LSTM, **BIDIRECTIONAL, "reset": "after"})
        for name, biases in (("nnx", ("bias",)), ("nnx", ()), ("linen", BIASES), ("linen", ()))
    ],
    *[
        ("simple_rnn", f"flax.{name}.Bidirectional(SimpleCell)", {"x": (2, 7, 3)},
         in_both_directions({"kernel": np.ones((3, 5)), "recurrent_kernel": plain.values("float64", 2, 5, 5)}),
         {**BIDIRECTIONAL, "activation": "tanh"})
        for name in ("nnx", "linen")
    ],
    *[
        (f"conv{axes}d", name, {"x": (2, *(11, 13, 7)[:axes], 4)},
         {"kernel": plain.values("float64", 0, *(3, 5, 2)[:axes], 2, 6), "bias": plain.values("float64", 1, 6)},
         {**CONV, "groups": 2})
        for name in ("flax.nnx.Conv", "flax.linen.Conv")
        for axes in (1, 2, 3)
    ],
    *[
        (f"conv_transpose{axes}d", f"flax.{name}.ConvTranspose{form}", {"x": (2, *(5, 4, 3)[:axes], 4)},
         {"kernel": plain.values("float64", 0, *(3, 5, 2)[:axes], 6, 4), "bias": plain.values("float64", 1, 6)},
         {"strides": 1, "padding": "valid", "output_padding": 0, "dilation": 1})
        for name in ("nnx", "linen")
        for form in ("", "(transpose_kernel=True)")
        for axes in (1, 2, 3)
    ],
    *[
        ("depthwise_conv2d", f"flax.{name}.Conv(feature_group_count=in)", {"x": (2, 11, 13, 4)},
         {"kernel": plain.values("float64", 0, 3, 5, 4, 2), "bias": plain.values("float64", 1, 8)}, CONV)
        for name in ("nnx", "linen")
    ],
]  # fmt: skip


@pytest.mark.parametrize("dtype", PRECISE)
@pytest.mark.parametrize(("layer", "subject", "shapes", "weights", "config"), ROUND_TRIPS)
def test_weights_come_back_as_they_went_in(layer, subject, shapes, weights, config, dtype):
    weights = {n: w.astype(dtype).astype(np.float64) for n, w in weights.items()}
    inputs = {n: plain.values(dtype, 9, *s) for n, s in shapes.items()}
    back = ADAPTER.build(request(layer, subject, inputs, weights, dtype, **config)).weights()
    assert set(back) == set(weights)
    for name, value in back.items():
        assert value.dtype == dtype
        assert value.tobytes() == weights[name].astype(dtype).tobytes()


def test_every_parameter_of_every_subject_has_a_round_trip():
    covered = {(layer, name) for layer, name, *_ in ROUND_TRIPS}
    elsewhere = {"group_norm", "instance_norm", "rms_norm", "batch_norm", "prelu", "embedding"}  # in tests of their own
    elsewhere.add("dropout")  # which has no weights
    with_weights = {(s.layer, s.name) for s in ADAPTER.table if issubclass(s, FlaxSubject)}
    assert {(layer, name) for layer, name in with_weights if layer not in elsewhere} <= covered


@pytest.mark.parametrize("subject", MODULES)
def test_a_head_of_flax_is_a_contiguous_block_of_the_canonical_kernel(subject):
    weights = attention_weights()
    x = {"query_input": plain.values("float64", 0, 2, 3, 5)}
    held = ADAPTER.build(request("multi_head_attention", subject, x, weights, **{**ATTENTION, "heads": 2})).parameters()
    assert np.array_equal(held["key.kernel"][:, 1], weights["key_kernel"][:, 3:])
    assert np.array_equal(held["out.kernel"][1], weights["output_kernel"][3:])


@pytest.mark.parametrize(("subject", "forget"), [("flax.nnx.RNN(LSTMCell)", "if_"), ("flax.linen.RNN(LSTMCell)", "if")])
def test_a_gate_of_flax_is_a_block_of_the_canonical_kernel(subject, forget):
    weights = lstm_weights("float64")
    held = ADAPTER.build(request("lstm", subject, {"x": np.zeros((1, 2, 3))}, weights, **LSTM)).parameters()
    assert np.array_equal(held[f"cell.{forget}.kernel"], weights["kernel"][:, 5:10])
    assert np.array_equal(held["cell.ho.bias"], weights["bias"][15:])


def test_parameters_that_do_not_fit_the_module_are_an_error():
    subject = ADAPTER.build(request("linear", "flax.nnx.Linear", {"x": np.zeros((2, 3))}, {"kernel": np.zeros((3, 5))}))
    with pytest.raises(ValueError, match="has the parameters"):
        subject.load({"kernel": np.zeros((5, 3))})


# ---------------------------------------------------------------------------------- attention ----
@pytest.mark.parametrize("dtype", PRECISE)
@pytest.mark.parametrize("subject", [SDPA, LINEN_SDPA])
@pytest.mark.parametrize("causal", [None, "top-left", "bottom-right"])
@pytest.mark.parametrize("mask", [None, "bool", "float"])
def test_attention_functions(subject, dtype, causal, mask):
    inputs = {
        n: plain.values(dtype, i, 2, 3, t, 4) for i, (n, t) in enumerate((("query", 5), ("key", 7), ("value", 7)))
    }
    allowed, added = np.ones((5, 7), bool), None
    if causal is not None:
        allowed = np.tri(5, 7, 0 if causal == "top-left" else 2, dtype=bool)
    if mask == "bool":
        inputs["mask"] = np.random.default_rng(5).random((2, 1, 1, 7)) < 0.6
        inputs["mask"][..., 0] = True
        allowed = allowed & inputs["mask"]
    if mask == "float":
        inputs["mask"] = added = plain.values(dtype, 6, 3, 5, 7)[None]
    config = {"scale": None, "causal": causal, "window": None, "softcap": None, "kv_heads": None}
    trace = run("scaled_dot_product_attention", subject, inputs, dtype=dtype, **config)
    *_, weights, context = plain.attention(*(inputs[n] for n in QKV), allowed=allowed, added=added)
    assert trace.output.dtype == dtype
    plain.close(trace.output, context, arithmetic(subject, dtype))
    plain.close(trace.observed_output, context, arithmetic(subject, dtype))
    assert found(trace, weights, arithmetic(subject, dtype))


def test_jax_attention_has_scale_window_and_grouped_heads():
    inputs = {
        n: plain.values("float32", i, 2, h, 5, 3) for i, (n, h) in enumerate((("query", 6), ("key", 2), ("value", 2)))
    }
    distance = np.arange(5)[None] - np.arange(5)[:, None]
    config = {"scale": 0.3, "causal": None, "softcap": None, "kv_heads": 2}
    for window, allowed in ((1, abs(distance) <= 1), ((2, 0), (distance <= 0) & (distance >= -2))):
        made = output("scaled_dot_product_attention", SDPA, inputs, dtype="float32", window=window, **config)
        expected = plain.attention(*inputs.values(), scale=0.3, allowed=allowed)[-1]
        plain.close(made, expected, "float32")


@pytest.mark.parametrize("dtype", PRECISE)
@pytest.mark.parametrize("subject", [*MODULES, SDPA, LINEN_SDPA])
def test_multi_head_attention_and_its_tape(subject, dtype):
    weights = attention_weights(dtype)
    inputs = {"query_input": plain.values(dtype, 20, 2, 3, 5)}
    trace = run("multi_head_attention", subject, inputs, weights, dtype, **{**ATTENTION, "heads": 2})
    steps = plain.multi_head(inputs, weights, 2)
    kind = arithmetic(subject, dtype)
    plain.close(trace.output, steps["output"], kind)
    plain.close(trace.observed_output, steps["output"], kind)
    assert found(trace, steps["weights"], kind)
    assert found(trace, steps["merged"], kind)


@pytest.mark.parametrize("subject", [*MODULES, SDPA, LINEN_SDPA])
@pytest.mark.parametrize("causal", [None, "top-left", "bottom-right"])
@pytest.mark.parametrize("axes", [(2, 7), (1, 1, 1, 7), (2, 3, 7), (2, 2, 3, 7)])
def test_cross_attention_under_masks(subject, causal, axes):
    weights = attention_weights("float32", key=11, value=11, biases=False)
    inputs = {"query_input": plain.values("float32", 20, 2, 3, 5), "key_input": plain.values("float32", 21, 2, 7, 11)}
    mask = np.random.default_rng(3).random(axes) < 0.5
    mask[..., 0] = True
    four = {2: mask[:, None, None] if mask.ndim == 2 else None, 3: mask[:, None] if mask.ndim == 3 else None, 4: mask}
    allowed = four[mask.ndim]
    if causal is not None:
        allowed = allowed & np.tri(3, 7, 0 if causal == "top-left" else 4, dtype=bool)
    config = {**ATTENTION, "heads": 2, "causal": causal}
    made = output("multi_head_attention", subject, {**inputs, "mask": mask}, weights, "float32", **config)
    plain.close(made, plain.multi_head(inputs, weights, 2, allowed=allowed)["output"], "float32")


@pytest.mark.parametrize("subject", [NNX, SDPA])
def test_grouped_queries(subject):
    weights = attention_weights("float32", hdim=12, kv=6, hv=6, merged=12)
    inputs = {"query_input": plain.values("float32", 20, 2, 3, 5)}
    made = output(
        "multi_head_attention", subject, inputs, weights, "float32", **{**ATTENTION, "heads": 4, "kv_heads": 2}
    )
    plain.close(made, plain.multi_head(inputs, weights, 4, 2)["output"], "float32")


@pytest.mark.parametrize("subject", [*MODULES, SDPA, LINEN_SDPA])
def test_no_output_projection_is_not_reported_as_one(subject):
    weights = {n: w for n, w in attention_weights("float32").items() if not n.startswith("output")}
    inputs = {"query_input": plain.values("float32", 20, 2, 3, 5)}
    trace = run("multi_head_attention", subject, inputs, weights, "float32", **{**ATTENTION, "heads": 2})
    plain.close(trace.output, plain.multi_head(inputs, weights, 2)["merged"], "float32")
    assert set(trace.weights) == set(weights)


def test_values_as_wide_as_they_like():
    weights = attention_weights(hv=4, merged=4, value=13)
    inputs = {"query_input": plain.values("float64", 20, 2, 3, 5), "value_input": plain.values("float64", 21, 2, 3, 13)}
    asked = request("multi_head_attention", "", inputs, weights, **{**ATTENTION, "heads": 2})
    assert ADAPTER.subjects(asked) == [LINEN_SDPA]
    made = output("multi_head_attention", LINEN_SDPA, inputs, weights, **{**ATTENTION, "heads": 2})
    plain.close(made, plain.multi_head(inputs, weights, 2)["output"], "float64")


def test_what_no_subject_has_is_refused_with_a_reason():
    weights, inputs = attention_weights(), {"query_input": plain.values("float64", 20, 2, 3, 5)}
    config = {**ATTENTION, "heads": 2}
    ask = ("multi_head_attention",)
    assert "softcap" in reason(*ask, SDPA, inputs, weights, **{**config, "softcap": 5.0})
    assert "rotary" in reason(*ask, LINEN, inputs, weights, **{**config, "rotary": {"base": 10000}})
    assert "1/sqrt(head_dim)" in reason(*ask, NNX, inputs, weights, **{**config, "scale": 1})
    assert reason(*ask, SDPA, inputs, weights, **{**config, "scale": 1}) is None
    assert "boolean" in reason(*ask, NNX, {**inputs, "mask": np.zeros((3, 3))}, weights, **config)
    assert "window" in reason(*ask, LINEN_SDPA, inputs, weights, **{**config, "window": 2})
    with pytest.raises(Unsupported, match="softcap"):
        ADAPTER.subjects(request(*ask, "", inputs, weights, **{**config, "softcap": 5.0}))
    with pytest.raises(Unsupported, match="no bilinear"):
        ADAPTER.subjects(request("bilinear", "", {}))


def test_refusal_imports_no_framework():
    code = (
        "import sys, numpy as np\n"
        "from conformance.trace import Request\n"
        "from conformance_adapters.jax_flax import JaxAdapter\n"
        "JaxAdapter().subjects(Request('softmax', '', {'axis': -1}, {'x': np.zeros(3)}, {}))\n"
        "assert not {'jax', 'flax', 'torch', 'tensorflow'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ----------------------------------------------------------- what JAX and Flax do otherwise ----
@pytest.mark.parametrize(("subject", "wrong"), [(SDPA, True), (LINEN_SDPA, False)])
def test_softmax_of_float64_is_float32(subject, wrong):
    inputs = {n: plain.values("float64", i, 2, 3, 5, 4) for i, n in enumerate(QKV)}
    config = {"scale": None, "causal": None, "window": None, "softcap": None, "kv_heads": None}
    trace = run("scaled_dot_product_attention", subject, inputs, **config)
    error = np.abs(trace.output - plain.attention(*inputs.values())[-1]).max()
    assert trace.output.dtype == np.float64
    assert (error > 2.0**-30) == wrong
    assert any(e.array.dtype == np.float32 for e in trace.tape) == wrong


@pytest.mark.parametrize("subject", [*MODULES, SDPA, LINEN_SDPA])
def test_a_fully_masked_row_is_uniform(subject):
    weights = attention_weights("float32", biases=False)
    inputs = {"query_input": plain.values("float32", 20, 2, 3, 5)}
    masked = {**inputs, "mask": np.array([[True, True, False], [False, False, False]])}
    made = output("multi_head_attention", subject, masked, weights, "float32", **{**ATTENTION, "heads": 2})
    uniform = (inputs["query_input"][1] @ weights["value_kernel"]).mean(0) @ weights["output_kernel"]
    plain.close(made[1], np.broadcast_to(uniform, (3, 7)), "float32")


def test_default_variance_of_flax_cancels_where_the_mean_is_large():
    x = 300 + plain.values("float32", 0, 4, 64)
    x = x.astype(np.float32).astype(np.float64)
    errors = {
        name: np.abs(
            output("layer_norm", name, {"x": x}, dtype="float32", axes=1, epsilon=1e-5) - plain.layer_norm(x, 1, 1e-5)
        ).max()
        for name in NORMS
    }
    for name, error in errors.items():
        assert (error > 1e-3) == ("use_fast_variance=False" not in name), errors


# ------------------------------------------------------------------------------- other layers ----
@pytest.mark.parametrize("dtype", PRECISE)
@pytest.mark.parametrize("subject", ["flax.nnx.Linear", "flax.linen.Dense"])
def test_linear(subject, dtype):
    weights = {"kernel": plain.values(dtype, 0, 7, 5), "bias": plain.values(dtype, 1, 5)}
    x = plain.values(dtype, 2, 2, 3, 7)
    trace = run("linear", subject, {"x": x}, weights, dtype)
    assert trace.output.dtype == dtype
    plain.close(trace.output, x @ weights["kernel"] + weights["bias"], dtype)
    assert "dot_general" in found(trace, x @ weights["kernel"], dtype)


@pytest.mark.parametrize("dtype", PRECISE)
@pytest.mark.parametrize("subject", NORMS)
@pytest.mark.parametrize("epsilon", [1e-5, 0.1])
def test_layer_norm(subject, dtype, epsilon):
    x = plain.values(dtype, 0, 3, 5, 7)
    weights = {"scale": plain.values(dtype, 1, 7), "bias": plain.values(dtype, 2, 7)}
    trace = run("layer_norm", subject, {"x": x}, weights, dtype, axes=1, epsilon=epsilon)
    plain.close(trace.output, plain.layer_norm(x, 1, epsilon, **weights), dtype)
    assert found(trace, x.var(-1), dtype)


@pytest.mark.parametrize("subject", NORMS)
def test_layer_norm_over_two_axes(subject):
    x = plain.values("float32", 0, 3, 5, 7)
    weights = {"scale": plain.values("float32", 1, 5, 7), "bias": plain.values("float32", 2, 5, 7)}
    if "nnx" in subject:
        assert "one axis" in reason("layer_norm", subject, {"x": x}, weights, axes=2, epsilon=1e-5)
        weights = {}
    made = output("layer_norm", subject, {"x": x}, weights, "float32", axes=2, epsilon=1e-5)
    plain.close(made, plain.layer_norm(x, 2, 1e-5, **weights), "float32")


@pytest.mark.parametrize("dtype", PRECISE)
@pytest.mark.parametrize("axis", [-1, 0])
def test_softmax(dtype, axis):
    x = plain.values(dtype, 0, 3, 5) * 8
    trace = run("softmax", "jax.nn.softmax", {"x": x}, dtype=dtype, axis=axis)
    plain.close(trace.output, plain.softmax(x, axis), dtype)
    assert any("exp" in o for o in found(trace, np.exp(x - x.max(axis, keepdims=True)), dtype))


@pytest.mark.parametrize("dtype", PRECISE)
@pytest.mark.parametrize("approximation", ["none", "tanh"])
def test_gelu(dtype, approximation):
    x = plain.values(dtype, 0, 3, 50) * 3
    trace = run("gelu", "jax.nn.gelu", {"x": x}, dtype=dtype, approximation=approximation)
    plain.close(trace.output, plain.gelu(x, approximation), dtype)
    assert "sigmoid" in reason("gelu", "jax.nn.gelu", {"x": x}, approximation="sigmoid")


@pytest.mark.parametrize("dtype", PRECISE)
@pytest.mark.parametrize("subject", LSTMS)
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_lstm_and_its_hidden_states_on_the_tape(subject, dtype, direction):
    weights = lstm_weights(dtype)
    x = plain.values(dtype, 4, 2, 7, 3)
    start = {"initial_hidden": plain.values(dtype, 5, 2, 5), "initial_cell": plain.values(dtype, 6, 2, 5)}
    reverse = direction == "reverse"
    trace = run("lstm", subject, {"x": x, **start}, weights, dtype, **{**LSTM, "direction": direction})
    expected = plain.lstm(x, **weights, hidden=start["initial_hidden"], cell=start["initial_cell"], reverse=reverse)
    plain.close(trace.output, expected, dtype)
    plain.close(trace.observed_output, expected, dtype)
    for t in range(7):
        place = f"scan[{6 - t if reverse else t}]/"
        assert any(place in o for o in found(trace, expected[:, t], dtype)), t


@pytest.mark.parametrize("subject", LSTMS)
def test_lstm_options(subject):
    weights = lstm_weights("float32", bias=False)
    x = plain.values("float32", 4, 2, 7, 3)
    made = output("lstm", subject, {"x": x}, weights, "float32", **{**LSTM, "recurrent_activation": "hard_sigmoid"})
    expected = plain.lstm(x, **weights, gate=lambda v: np.clip(v / 6 + 0.5, 0, 1))
    plain.close(made, expected, "float32")
    cell = plain.values("float32", 6, 2, 5)
    made = output("lstm", subject, {"x": x, "initial_cell": cell}, weights, "float32", **LSTM)
    plain.close(made, plain.lstm(x, **weights, cell=cell), "float32")


@pytest.mark.parametrize("dtype", PRECISE)
@pytest.mark.parametrize("subject", ["flax.nnx.Conv", "flax.linen.Conv"])
@pytest.mark.parametrize(
    ("config", "pads"),
    [
        ({}, ((0, 0), (0, 0))),
        ({"strides": 2, "padding": "same-upper"}, ((1, 1), (1, 2))),
        ({"strides": 2, "padding": "same-lower"}, ((1, 1), (2, 1))),
        ({"strides": (2, 1), "dilation": (1, 2), "padding": ((2, 0), (1, 3))}, ((2, 0), (1, 3))),
        ({"groups": 2}, ((0, 0), (0, 0))),
    ],
)
def test_conv2d(subject, dtype, config, pads):
    # Rows 11 under a window of 3 and stride 2: 6 outputs need 13 rows, one more on each side. Columns 10
    # under a window of 5 and stride 2: 5 outputs need 13 columns, so the odd one goes to one side.
    channel = 4 // config.get("groups", 1)
    weights = {"kernel": plain.values(dtype, 0, 3, 5, channel, 6), "bias": plain.values(dtype, 1, 6)}
    x = plain.values(dtype, 2, 2, 11, 10, 4)
    made = output("conv2d", subject, {"x": x}, weights, dtype, **{**CONV, **config})
    pair = {n: v if isinstance(v, tuple) else (v, v) for n, v in config.items() if n in ("strides", "dilation")}
    expected = plain.conv2d(x, **weights, pads=pads, groups=config.get("groups", 1), **pair)
    plain.close(made, expected, dtype)


def narrow(dtype, values):
    import ml_dtypes

    return values.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float16).astype(np.float64)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    ("layer", "subject", "shapes", "weights", "config"), {(c[0], c[1]): c for c in ROUND_TRIPS}.values()
)
def test_narrow_formats(layer, subject, shapes, weights, config, dtype):
    weights = {n: narrow(dtype, w) for n, w in weights.items()}
    inputs = {n: plain.values(dtype, 9, *s) for n, s in shapes.items()}
    built = ADAPTER.build(request(layer, subject, inputs, weights, dtype, **config))
    assert built().dtype == dtype
    assert all(np.array_equal(built.weights()[n], w) for n, w in weights.items())
    whole = ADAPTER.build(request(layer, subject, inputs, weights, "float64", **config))()
    plain.close(ADAPTER.to_numpy(built()), np.asarray(whole), dtype)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_tape_of_a_narrow_format(dtype):
    inputs = {n: plain.values(dtype, i, 2, 3, 5, 4) for i, n in enumerate(QKV)}
    config = {"scale": None, "causal": None, "window": None, "softcap": None, "kv_heads": None}
    trace = run("scaled_dot_product_attention", SDPA, inputs, dtype=dtype, **config)
    *_, weights, context = plain.attention(*inputs.values())
    assert trace.output.dtype == ("float32" if dtype == "bfloat16" else "float16")
    assert np.array_equal(trace.output, narrow(dtype, trace.output))
    plain.close(trace.observed_output, context, dtype)
    assert found(trace, weights, "float32")
