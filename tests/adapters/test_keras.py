"""Keras on its three back ends: weights go in and come back, outputs are the formulas', the tape shows the steps.

One process has one Keras back end, so each has a process of its own, in which all its cases run. What a back end
does not compute as it should is tested too, so that a fixed Keras is noticed.
"""

import multiprocessing
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
import plain_formulas as plain
import pytest

from conformance.errors import ConformanceError, Unsupported
from conformance.trace import Request
from conformance_adapters.keras_layers import SUBJECTS, KerasOnJax, KerasOnTensorFlow, KerasOnTorch

ADAPTERS = {"tensorflow": KerasOnTensorFlow, "jax": KerasOnJax, "torch": KerasOnTorch}
PRECISE = ("float64", "float32")
MHA = {
    "heads": 2, "kv_heads": 2, "scale": None, "causal": None, "window": None, "softcap": None, "rotary": None
}  # fmt: skip
SDPA = {"scale": None, "causal": None, "window": None, "softcap": None, "kv_heads": None}
LSTM = {"direction": "forward", "activation": "tanh", "recurrent_activation": "sigmoid"}
CONV = {"strides": 1, "padding": "valid", "dilation": 1, "groups": 1}

# On JAX and PyTorch `keras.backend.result_type` makes float32 of float64, so these are computed in it at least in
# part; on TensorFlow a Python number, such as the scale of attention, passes through float32.
IN_FLOAT32 = {
    "tensorflow": {"gelu", "scaled_dot_product_attention", "multi_head_attention"},
    "jax": {"layer_norm", "lstm", "scaled_dot_product_attention", "multi_head_attention"},
    "torch": {"linear", "layer_norm", "scaled_dot_product_attention", "multi_head_attention"},
}


# ------------------------------------------------------------------------------ a process per back end
@cache
def started(backend):
    adapter = ADAPTERS[backend]()
    versions = adapter.start()
    return adapter, versions


def in_process(backend, request):
    """What the back end's own process does with a request."""
    adapter, _ = started(backend)
    return adapter.run(replace(request, subject=request.subject or adapter.subjects(request)[0]))


def versions_in_process(backend):
    return started(backend)[1]


def other_backend_in_process(backend):
    started(backend)
    ADAPTERS["torch" if backend == "jax" else "jax"]().start()


def value_width_in_process(backend):
    """Keras's own attention with values wider than keys, without an adapter."""
    started(backend)
    import keras

    layer = keras.layers.MultiHeadAttention(2, 3, value_dim=5)
    return layer(keras.ops.ones((1, 4, 7)), keras.ops.ones((1, 4, 7))).shape


def single_key_head_in_process(backend):
    """Keras's own attention with one key head for two query heads, without an adapter."""
    started(backend)
    import keras

    shared = keras.ops.ones((1, 4, 1, 3))
    return keras.ops.dot_product_attention(keras.ops.ones((1, 4, 2, 3)), shared, shared).shape


class Process:
    def __init__(self, backend):
        self.backend = backend
        self.pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))

    def call(self, function, *arguments):
        return self.pool.submit(function, self.backend, *arguments).result()

    def run(self, layer, inputs, weights=None, dtype="float64", subject="", **config):
        return self.call(in_process, Request(layer, subject, config, inputs, weights or {}, dtype))

    def close(self, layer, output, expected, dtype):
        """Compare within the rounding of `dtype`, or of float32 where the back end is known to fall back to it."""
        fallen = dtype == "float64" and layer in IN_FLOAT32[self.backend]
        plain.close(output, expected, "float32" if fallen else dtype)


@pytest.fixture(scope="module", params=list(ADAPTERS))
def process(request):
    made = Process(request.param)
    yield made
    made.pool.shutdown()


def same(read, given, dtype="float64"):
    assert sorted(read) == sorted(given)
    for name, array in given.items():
        assert read[name].dtype == ("float32" if dtype == "bfloat16" else dtype)
        assert read[name].astype(np.float64).tobytes() == array.tobytes(), name


def found(tape, expected, dtype="float32"):
    """The operations whose result has the values of `expected`, in whatever arrangement."""
    bound = 64 * plain.UNIT_ROUNDOFF[dtype] * max(1.0, np.abs(expected).max())
    flat = np.sort(expected.reshape(-1))
    return [
        e.operation
        for e in tape
        if e.array.size == flat.size and np.abs(np.sort(e.array.reshape(-1)) - flat).max() <= bound
    ]


def attention_weights(dtype="float32", channel=13, key=13, value=13, hdim=6, kdim=6, hvdim=6, merged=6, out=17):
    shapes = {"query": (channel, hdim), "key": (key, kdim), "value": (value, hvdim), "output": (merged, out)}
    kernels = {f"{n}_kernel": plain.values(dtype, i, *s) / 4 for i, (n, s) in enumerate(shapes.items())}
    biases = {f"{n}_bias": plain.values(dtype, 10 + i, s[1]) / 4 for i, (n, s) in enumerate(shapes.items())}
    return {**kernels, **biases}


# ------------------------------------------------------------------------------ the adapters themselves
def test_nothing_imports_a_framework_until_the_adapter_is_started():
    code = (
        "import sys; from conformance_adapters.keras_layers import KerasOnJax; from conformance.trace import Request;"
        "import numpy as np;"
        "print(KerasOnJax().subjects(Request('linear', '', {}, {'x': np.ones((2, 3))}, {'kernel': np.ones((3, 5))})));"
        "assert not {'keras', 'jax', 'torch', 'tensorflow'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "keras.layers.Dense" in done.stdout


def test_the_versions_are_told(process):
    assert sorted(process.call(versions_in_process)) == sorted(["keras", process.backend])


def test_a_second_back_end_in_one_process_is_refused(process):
    with pytest.raises(ConformanceError, match="one process has one Keras back end"):
        process.call(other_backend_in_process)


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda s: s.__name__)
def test_every_layout_is_undone_exactly(subject):
    sizes = {
        "channel": 3, "out": 5, "height": 7, "width": 11, "(head dim)": 2 * 13, "(kvhead dim)": 3 * 13,
        "(gate unit)": 12 * 13, "state": 13, "unit": 13, "...": 17,
        "multiplier": 2, "index": 19, "dim": 13, "depth": 23,
    }  # fmt: skip
    for seed, parameter in enumerate(subject.parameters):
        left = parameter.pattern.partition(" -> ")[0].removeprefix("part ").strip()
        axes = left.replace(" ", "_").replace("(", " (").replace(")_", ") ").replace("_(", " (").split()
        axes = [a.replace("_", " ") if "(" in a else a for a in axes]
        shape = [sizes[b] for a in axes for b in ([a] if "(" in a else a.strip("_").split("_"))]
        weights = {n: plain.values("float64", seed + i, *shape) for i, n in enumerate(parameter.names)}
        same(parameter.read(parameter.write(weights, head=2, kvhead=3), head=2, kvhead=3), weights)


def test_a_head_owns_a_contiguous_block():
    attention = next(s for s in SUBJECTS if s.__name__ == "MultiHeadAttention")
    parameter = next(p for p in attention.parameters if p.weights == "query_kernel")
    kernel = np.arange(3 * 6.0).reshape(3, 6)
    assert parameter.write({"query_kernel": kernel}, head=2)[:, 1, :].tolist() == kernel[:, 3:].tolist()


# ------------------------------------------------------------------------------ linear, norm, activations
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("bias", [True, False])
def test_dense(process, dtype, bias):
    x, kernel = plain.values(dtype, 0, 2, 3, 5), plain.values(dtype, 1, 5, 7)
    weights = {"kernel": kernel} | ({"bias": plain.values(dtype, 2, 7)} if bias else {})
    trace = process.run("linear", {"x": x}, weights, dtype)
    same(trace.weights, weights, dtype)
    process.close("linear", trace.output, x @ kernel + weights.get("bias", 0), dtype)
    process.close("linear", trace.observed_output, x @ kernel + weights.get("bias", 0), dtype)


@pytest.mark.parametrize("dtype", PRECISE)
@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("given", [(), ("scale",), ("bias",), ("scale", "bias")])
def test_layer_normalization(process, dtype, axes, given):
    x = plain.values(dtype, 0, 2, 3, 5)
    weights = {n: plain.values(dtype, 1 + i, *x.shape[-axes:]) for i, n in enumerate(given)}
    trace = process.run("layer_norm", {"x": x}, weights, dtype, axes=axes, epsilon=1e-3)
    same(trace.weights, weights, dtype)
    process.close("layer_norm", trace.output, plain.layer_norm(x, axes, 1e-3, **weights), dtype)
    assert found(trace.tape, x.mean(tuple(range(-axes, 0))))


@pytest.mark.parametrize("dtype", PRECISE)
@pytest.mark.parametrize("axis", [-1, 1])
def test_softmax(process, dtype, axis):
    x = plain.values(dtype, 0, 2, 3, 5)
    process.close(
        "softmax", process.run("softmax", {"x": x}, {}, dtype, axis=axis).output, plain.softmax(x, axis), dtype
    )


@pytest.mark.parametrize("dtype", PRECISE)
@pytest.mark.parametrize("approximation", ["none", "tanh"])
def test_gelu(process, dtype, approximation):
    x = plain.values(dtype, 0, 7, 11)
    trace = process.run("gelu", {"x": x}, {}, dtype, approximation=approximation)
    process.close("gelu", trace.output, plain.gelu(x, approximation), dtype)


# ------------------------------------------------------------------------------ recurrent
@pytest.mark.parametrize("dtype", PRECISE)
@pytest.mark.parametrize(
    ("direction", "bias", "initial"),
    [
        ("forward", True, ()),
        ("forward", False, ("initial_hidden", "initial_cell")),
        ("reverse", True, ("initial_hidden", "initial_cell")),
        ("reverse", False, ("initial_hidden",)),
    ],
)
def test_lstm(process, dtype, direction, bias, initial):
    x = plain.values(dtype, 0, 2, 5, 3)
    weights = {"kernel": plain.values(dtype, 1, 3, 28), "recurrent_kernel": plain.values(dtype, 2, 7, 28)}
    if bias:
        weights["bias"] = plain.values(dtype, 3, 28)
    states = {n: plain.values(dtype, 4 + i, 2, 7) for i, n in enumerate(initial)}
    trace = process.run("lstm", {"x": x, **states}, weights, dtype, **LSTM | {"direction": direction})
    same(trace.weights, weights, dtype)
    short = {n.removeprefix("initial_"): s for n, s in states.items()}
    expected = plain.lstm(x, **weights, **short, reverse=direction == "reverse")
    process.close("lstm", trace.output, expected, dtype)
    process.close("lstm", trace.observed_output, expected, dtype)
    if process.backend == "tensorflow":  # its observed form is the unrolled layer
        assert trace.output.tobytes() == trace.observed_output.tobytes()


def test_lstm_with_hard_sigmoid(process):
    x = plain.values("float32", 0, 2, 5, 3)
    weights = {"kernel": plain.values("float32", 1, 3, 28), "recurrent_kernel": plain.values("float32", 2, 7, 28)}
    config = LSTM | {"recurrent_activation": "hard_sigmoid"}
    trace = process.run("lstm", {"x": x}, weights, "float32", **config)
    plain.close(trace.output, plain.lstm(x, **weights, gate=lambda v: np.clip(v / 6 + 0.5, 0, 1)), "float32")


def test_lstm_shows_each_gate_of_each_time_step(process):
    x = plain.values("float32", 0, 2, 5, 3)
    weights = {"kernel": plain.values("float32", 1, 3, 28), "recurrent_kernel": plain.values("float32", 2, 7, 28)}
    trace = process.run("lstm", {"x": x}, weights, "float32", **LSTM)
    hidden = np.concatenate([np.zeros((2, 1, 7)), plain.lstm(x, **weights)], axis=1)
    for t in range(5):
        i, f, g, o = np.split(x[:, t] @ weights["kernel"] + hidden[:, t] @ weights["recurrent_kernel"], 4, axis=-1)
        for gate in (plain.sigmoid(i), plain.sigmoid(f), np.tanh(g), plain.sigmoid(o), hidden[:, t + 1]):
            assert found(trace.tape, gate), t


# ------------------------------------------------------------------------------ convolution
@pytest.mark.parametrize("dtype", PRECISE)
@pytest.mark.parametrize(
    ("options", "pads"),
    [
        ({}, ((0, 0), (0, 0))),
        ({"padding": "same-upper"}, ((1, 1), (0, 1))),
        ({"padding": "same-upper", "strides": 2}, ((0, 1), (0, 1))),  # 8 x 7 and a window of 3 x 2
        ({"padding": "same-upper", "strides": (1, 2)}, ((1, 1), (0, 1))),
        ({"padding": "same-upper", "dilation": (2, 1)}, ((2, 2), (0, 1))),
        ({"padding": ((1, 2), (0, 3)), "strides": (2, 1)}, ((1, 2), (0, 3))),
        ({"padding": ((3, 0), (1, 0)), "dilation": 2}, ((3, 0), (1, 0))),
        ({"groups": 3}, ((0, 0), (0, 0))),
    ],
)
def test_conv2d(process, dtype, options, pads):
    config = {**CONV, **options}
    x, groups = plain.values(dtype, 0, 2, 8, 7, 6), config["groups"]
    weights = {"kernel": plain.values(dtype, 1, 3, 2, 6 // groups, 9), "bias": plain.values(dtype, 2, 9)}
    trace = process.run("conv2d", {"x": x}, weights, dtype, **config)
    same(trace.weights, weights, dtype)
    strides, dilation = ((n, n) if isinstance(n, int) else n for n in (config["strides"], config["dilation"]))
    expected = plain.conv2d(x, **weights, strides=strides, pads=pads, dilation=dilation, groups=groups)
    process.close("conv2d", trace.output, expected, dtype)
    assert found(trace.tape, expected, dtype)


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"padding": "same-lower"}, "same-lower"), ({"strides": 2, "dilation": 2}, "not supported in conjunction")],
)
def test_conv2d_refuses(options, reason):
    request = Request("conv2d", "", CONV | options, {"x": np.ones((1, 4, 4, 1))}, {"kernel": np.ones((2, 2, 1, 1))})
    with pytest.raises(Unsupported, match=reason):
        KerasOnTorch().subjects(request)


# ------------------------------------------------------------------------------ attention
ALLOWED = np.random.default_rng(3).random((2, 3, 5, 11)) > 0.3
ALLOWED[..., 0] = True
CAUSAL = {
    "top-left": np.tri(5, 11, dtype=bool),
    "bottom-right": np.tri(5, 11, 6, dtype=bool),
    None: np.ones((5, 11), bool),
}


@pytest.mark.parametrize("dtype", PRECISE)
@pytest.mark.parametrize("causal", [None, "top-left", "bottom-right"])
@pytest.mark.parametrize(("mask", "scale"), [("none", None), ("none", 0.5), ("bool", 0.5), ("float", None)])
def test_dot_product_attention(process, dtype, causal, mask, scale):
    query, key, value = (plain.values(dtype, i, 2, 3, n, 7) for i, n in enumerate((5, 11, 11)))
    added = plain.values(dtype, 5, 2, 3, 5, 11) if mask == "float" else None
    allowed = CAUSAL[causal] & ALLOWED if mask == "bool" else CAUSAL[causal]
    inputs = {"query": query, "key": key, "value": value}
    inputs |= {"bool": {"mask": ALLOWED}, "float": {"mask": added}, "none": {}}[mask]
    layer = "scaled_dot_product_attention"
    trace = process.run(layer, inputs, {}, dtype, **SDPA | {"causal": causal, "scale": scale})
    scores, scaled, weights, context = plain.attention(query, key, value, scale=scale, allowed=allowed, added=added)
    process.close(layer, trace.output, context, dtype)
    process.close(layer, trace.observed_output, context, dtype)
    assert found(trace.tape, weights)
    assert found(trace.tape, context)
    if process.backend != "torch":  # PyTorch scales the query before the product, and the scores never exist
        assert found(trace.tape, scores)
    if mask == "none" or process.backend != "torch":
        assert found(trace.tape, scaled)


def test_attention_shares_key_heads_in_blocks(process):
    query, key, value = (plain.values("float32", i, 2, h, n, 7) for i, (h, n) in enumerate(((6, 5), (3, 11), (3, 11))))
    inputs = {"query": query, "key": key, "value": value}
    trace = process.run("scaled_dot_product_attention", inputs, {}, "float32", **SDPA | {"kv_heads": 3})
    plain.close(trace.output, plain.attention(query, key, value)[-1], "float32")


def test_a_row_with_every_key_masked_is_uniform(process):
    """Keras masks with a large finite number, so the weights of such a row are equal, and not zero."""
    query, key, value = (plain.values("float32", i, 2, 3, n, 7) for i, n in enumerate((5, 11, 11)))
    allowed = ALLOWED.copy()
    allowed[1, 2, 4] = False
    inputs = {"query": query, "key": key, "value": value, "mask": allowed}
    output = process.run("scaled_dot_product_attention", inputs, {}, "float32", **SDPA).output
    expected = plain.attention(query, key, value, allowed=allowed)[-1]
    assert expected[1, 2, 4].tolist() == [0] * 7
    expected[1, 2, 4] = value[1, 2].mean(axis=0)
    plain.close(output, expected, "float32")


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"softcap": 5.0}, "softcap=5.0"), ({"window": 2}, "window=2")],
)
def test_dot_product_attention_refuses(options, reason):
    inputs = {n: np.ones((1, 2, 3, 4)) for n in ("query", "key", "value")}
    with pytest.raises(Unsupported, match=reason):
        KerasOnTorch().subjects(Request("scaled_dot_product_attention", "", SDPA | options, inputs, {}))


@pytest.mark.parametrize("dtype", [*PRECISE, "bfloat16"])
def test_multi_head_attention_step_by_step(process, dtype):
    inputs, weights = {"query_input": plain.values(dtype, 20, 2, 5, 13)}, attention_weights(dtype)
    trace = process.run("multi_head_attention", inputs, weights, dtype, **MHA)
    same(trace.weights, weights, dtype)
    steps = plain.multi_head(inputs, weights, 2)
    process.close("multi_head_attention", trace.output, steps["output"], dtype)
    process.close("multi_head_attention", trace.observed_output, steps["output"], dtype)
    if dtype != "bfloat16":
        hidden = {"scores", "scaled"} if process.backend == "torch" else set()
        for name, values in steps.items():
            assert name in hidden or found(trace.tape, values), name


@pytest.mark.parametrize("causal", [None, "top-left", "bottom-right"])
@pytest.mark.parametrize("shape", [None, (2, 7), (5, 7), (2, 5, 7), (2, 2, 5, 7)])
def test_cross_attention_with_a_mask(process, causal, shape):
    inputs = {n: plain.values("float32", 30 + i, 2, t, c) for i, (n, t, c) in enumerate(
        (("query_input", 5, 13), ("key_input", 7, 11), ("value_input", 7, 3))
    )}  # fmt: skip
    weights = attention_weights(key=11, value=3)
    allowed = {
        None: np.ones((5, 7), bool),
        "top-left": np.tri(5, 7, dtype=bool),
        "bottom-right": np.tri(5, 7, 2, dtype=bool),
    }
    allowed = allowed[causal]
    if shape:
        mask = inputs["mask"] = np.random.default_rng(5).random(shape) > 0.3
        mask[..., 0] = True
        allowed = allowed & (mask[:, None, None] if shape == (2, 7) else mask[:, None] if len(shape) == 3 else mask)
    trace = process.run("multi_head_attention", inputs, weights, "float32", **MHA | {"causal": causal})
    steps = plain.multi_head(inputs, weights, 2, allowed=allowed)
    plain.close(trace.output, steps["output"], "float32")
    assert found(trace.tape, steps["weights"])


@pytest.mark.parametrize("missing", ["output_kernel", "key_bias", "biases"])
def test_weights_that_the_request_lacks_are_not_reported(process, missing):
    weights = attention_weights()
    for name in list(weights):
        if (
            name == missing
            or (missing == "biases" and "bias" in name)
            or (missing == "output_kernel" and "output" in name)
        ):
            del weights[name]
    inputs = {"query_input": plain.values("float32", 20, 2, 5, 13)}
    trace = process.run("multi_head_attention", inputs, weights, "float32", **MHA)
    same(trace.weights, weights, "float32")
    plain.close(trace.output, plain.multi_head(inputs, weights, 2)["output"], "float32")


@pytest.mark.parametrize("causal", [None, "top-left"])
def test_a_window_counts_from_the_query_on(process, causal):
    inputs, weights = {"query_input": plain.values("float32", 20, 2, 7, 13)}, attention_weights()
    distance = np.arange(7)[None] - np.arange(7)[:, None]
    allowed = (np.abs(distance) <= 2) & (distance <= (0 if causal else 7))
    trace = process.run("multi_head_attention", inputs, weights, "float32", **MHA | {"window": 2, "causal": causal})
    plain.close(trace.output, plain.multi_head(inputs, weights, 2, allowed=allowed)["output"], "float32")


@pytest.mark.parametrize(("kv_heads", "out", "subject"), [
    (2, 13, "keras.layers.GroupQueryAttention"),
    (1, 13, "keras.layers.GroupQueryAttention"),
    (2, 17, "keras.ops.dot_product_attention"),
])  # fmt: skip
def test_grouped_queries(process, kv_heads, out, subject):
    width = 6 * kv_heads
    weights = attention_weights(hdim=24, kdim=width, hvdim=width, merged=24, out=out)
    inputs = {"query_input": plain.values("float32", 20, 2, 5, 13)}
    config = MHA | {"heads": 4, "kv_heads": kv_heads}
    assert KerasOnTorch().subjects(Request("multi_head_attention", "", config, inputs, weights)) == [subject]
    trace = process.run("multi_head_attention", inputs, weights, "float32", subject=subject, **config)
    same(trace.weights, weights, "float32")
    plain.close(trace.output, plain.multi_head(inputs, weights, 4, kv_heads)["output"], "float32")


@pytest.mark.parametrize("options", [{"scale": 1.0}, {}])
def test_what_the_layer_cannot_express_is_composed(process, options):
    """Another scale, or a float mask."""
    inputs, weights = {"query_input": plain.values("float32", 20, 2, 5, 13)}, attention_weights()
    added = None if options else plain.values("float32", 21, 5, 5)
    if added is not None:
        inputs["mask"] = added
    subject = "keras.ops.dot_product_attention"
    assert KerasOnJax().subjects(Request("multi_head_attention", "", MHA | options, inputs, weights)) == [subject]
    trace = process.run("multi_head_attention", inputs, weights, "float32", **MHA | options)
    same(trace.weights, weights, "float32")
    plain.close(trace.output, plain.multi_head(inputs, weights, 2, added=added, **options)["output"], "float32")


def test_values_wider_than_keys(process):
    weights = attention_weights(hvdim=10, merged=10)
    inputs = {"query_input": plain.values("float32", 20, 2, 5, 13)}
    if process.backend == "jax":
        with pytest.raises(Unsupported, match="values only as wide as keys"):
            process.run("multi_head_attention", inputs, weights, "float32", **MHA)
    else:
        trace = process.run("multi_head_attention", inputs, weights, "float32", **MHA)
        plain.close(trace.output, plain.multi_head(inputs, weights, 2)["output"], "float32")


def test_what_is_refused_is_what_keras_cannot_do(process):
    """If one of these stops raising, `backend_reason` has a line too many."""
    wider, single = value_width_in_process, single_key_head_in_process
    if process.backend == "jax":
        with pytest.raises(Exception, match="cannot reshape"):
            process.call(wider)
    else:
        assert process.call(wider) == (1, 4, 7)
    if process.backend == "tensorflow":
        with pytest.raises(Exception, match="dimension"):
            process.call(single)
    else:
        assert process.call(single) == (1, 4, 2, 3)


# ------------------------------------------------------------------------------ float64 that is not
def test_float64_that_is_computed_in_float32(process):
    """Each entry of IN_FLOAT32 is off by far more than float64 explains; once Keras is fixed, it goes."""
    x = plain.values("float64", 0, 2, 5, 13)
    kernels = {"kernel": plain.values("float64", 1, 13, 28), "recurrent_kernel": plain.values("float64", 2, 7, 28)}
    weights = attention_weights("float64")
    query, key, value = (plain.values("float64", i, 2, 3, n, 7) for i, n in enumerate((5, 11, 11)))
    cases = {
        "linear": ({"x": x}, {"kernel": kernels["kernel"]}, {}, x @ kernels["kernel"]),
        "layer_norm": ({"x": x}, {}, {"axes": 1, "epsilon": 1e-3}, plain.layer_norm(x, 1, 1e-3)),
        "softmax": ({"x": x}, {}, {"axis": -1}, plain.softmax(x)),
        "gelu": ({"x": x}, {}, {"approximation": "none"}, plain.gelu(x, "none")),
        "lstm": ({"x": x}, kernels, LSTM, plain.lstm(x, **kernels)),
        "scaled_dot_product_attention": (
            {"query": query, "key": key, "value": value}, {}, SDPA, plain.attention(query, key, value)[-1]
        ),
        "multi_head_attention": (
            {"query_input": x}, weights, MHA, plain.multi_head({"query_input": x}, weights, 2)["output"]
        ),
    }  # fmt: skip
    fallen = set()
    for layer, (inputs, given, config, expected) in cases.items():
        output = process.run(layer, inputs, given, "float64", **config).output
        if np.abs(output - expected).max() > 1024 * plain.UNIT_ROUNDOFF["float64"] * max(1, np.abs(expected).max()):
            fallen.add(layer)
    assert fallen == IN_FLOAT32[process.backend]


def test_on_tensorflow_it_is_the_scale_that_passes_through_float32():
    process = Process("tensorflow")
    query, key, value = (plain.values("float64", i, 2, 3, n, 7) for i, n in enumerate((5, 11, 11)))
    inputs, layer = {"query": query, "key": key, "value": value}, "scaled_dot_product_attention"
    rounded = float(np.float32(1) / np.sqrt(np.float32(7)))
    default = process.run(layer, inputs, {}, "float64", **SDPA).output
    half = process.run(layer, inputs, {}, "float64", **SDPA | {"scale": 0.5}).output
    process.pool.shutdown()
    plain.close(default, plain.attention(query, key, value, scale=rounded)[-1], "float64")
    plain.close(half, plain.attention(query, key, value, scale=0.5)[-1], "float64")
