"""TensorFlow: weights go in and come back, outputs are the formulas', and the tape shows the steps."""

import subprocess
import sys

import numpy as np
import plain_formulas as plain
import pytest
import tensorflow as tf

from conformance.errors import Unsupported
from conformance.trace import Request
from conformance_adapters.tensorflow_convolution import Conv2D
from conformance_adapters.tensorflow_ops import BlockLSTM, LayerNorm, Linear, TensorFlowAdapter
from conformance_adapters.tensorflow_tape import record

ADAPTER = TensorFlowAdapter()
PRECISE = ("float64", "float32")
LSTM = {"direction": "forward", "activation": "tanh", "recurrent_activation": "sigmoid"}
CONV = {"strides": 1, "padding": "valid", "dilation": 1, "groups": 1}


def run(layer, inputs, weights=None, dtype="float64", **config):
    asked = Request(layer, "", config, inputs, weights or {}, dtype)
    return ADAPTER.run(Request(layer, ADAPTER.subjects(asked)[0], config, inputs, weights or {}, dtype))


def same(read, given):
    assert sorted(read) == sorted(given)
    for name, array in given.items():
        assert read[name].astype(np.float64).tobytes() == array.tobytes(), name


def names(tape, expected, dtype="float64"):
    """The operations whose result is `expected`, up to merged or singleton axes."""
    bound = 64 * plain.UNIT_ROUNDOFF[dtype] * max(1.0, np.abs(expected).max())
    flat = expected.reshape(-1)
    return [
        e.operation.partition(":")[0]
        for e in tape
        if e.array.size == flat.size and np.abs(e.array.reshape(-1) - flat).max() <= bound
    ]


# ------------------------------------------------------------------------------ the tape
def test_nested_functions_are_seen_inside_and_constants_are_computed():
    @tf.function(jit_compile=True)
    def nested(x):
        return tf.nn.softmax(2 * x)

    x = tf.Variable(np.arange(6.0).reshape(2, 3))

    def function():
        constant = tf.constant([[1.0, 2.0]], tf.float64) @ tf.constant([[3.0], [4.0]], tf.float64)
        with tf.name_scope("block"):
            return nested(x + constant)

    output, tape = record(function)
    assert [e.operation for e in tape] == ["MatMul", "AddV2:block", "Mul:block", "Softmax:block"]
    assert tape[0].array.tolist() == [[11.0]]
    assert tape[1].array.tolist() == [[11.0, 12.0, 13.0], [14.0, 15.0, 16.0]]
    plain.close(output.numpy(), plain.softmax(2 * tape[1].array), "float64")


def test_nothing_is_fused():
    """The graph optimiser would make one operation of these three."""
    x, kernel, bias = (tf.Variable(plain.values("float32", i, *s)) for i, s in enumerate([(2, 3), (3, 5), (5,)]))
    _, tape = record(lambda: tf.nn.relu(tf.nn.bias_add(tf.linalg.matmul(x, kernel), bias)))
    assert [e.operation for e in tape] == ["MatMul", "BiasAdd", "Relu"]


def test_a_loop_stays_one_operation_and_is_not_lost():
    x = tf.Variable([1.0, 2.0])

    def function():
        return tf.while_loop(lambda i, y: i < tf.cast(tf.size(x), tf.int32), lambda i, y: (i + 1, 2 * y), (0, x + 1))[1]

    output, tape = record(function)
    assert output.numpy().tolist() == [8.0, 12.0]
    assert [e.operation for e in tape] == ["AddV2", "While"]


def test_only_floats_are_kept_and_bfloat16_is_float32():
    x = tf.Variable([1.0, 2.0, 3.0])

    def function():
        narrow = tf.cast(x, tf.bfloat16) / 3
        return {"narrow": narrow, "order": tf.argsort(x), "positive": x > 0}

    output, tape = record(function)
    assert {e.array.dtype.name for e in tape} == {"float32"}
    quotient = next(e.array for e in tape if e.operation == "RealDiv")
    assert quotient.tolist() == [0.333984375, 0.66796875, 1.0]  # thirds with 8 significant bits
    assert output["order"].numpy().tolist() == [0, 1, 2]


def test_the_settings_are_as_before():
    before = tf.config.functions_run_eagerly()
    record(lambda: tf.constant(1.0) + 1)
    assert tf.config.functions_run_eagerly() is before
    assert not tf.config.optimizer.get_experimental_options().get("disable_meta_optimizer")


def test_an_operation_reads_what_made_its_operands_through_masks_and_shapes():
    x, weight = tf.constant(np.ones((20, 10), np.float32)), tf.Variable(np.ones((10, 10), np.float32))

    def function():
        twice = x * 2
        masked = tf.where(twice > 0, tf.exp(x), x)  # the mask is made of `twice`
        with tf.name_scope("block"):
            kernel = tf.transpose(weight)
        return tf.reshape(masked @ kernel, tf.shape(twice)) + twice

    tape = record(function)[1]
    assert [(e.operation, e.reads, e.fixed, e.scope) for e in tape] == [
        ("Mul", (), False, ""),
        ("Exp", (), False, ""),
        ("SelectV2", (0, 1), False, ""),
        ("Transpose:block", (), True, "block"),
        ("MatMul", (2, 3), False, ""),
        ("Reshape", (4,), False, ""),
        ("AddV2", (0, 5), False, ""),
    ]


def test_a_small_tensor_that_is_closed_over_is_no_weight():
    x, weight = tf.constant([[1.0, 2.0]]), tf.Variable([[3.0], [4.0]])
    assert [e.fixed for e in record(lambda: tf.nn.relu(x @ weight))[1]] == [False, False]
    tape = record(lambda: tf.random.normal([3]) + tf.exp(weight))[1]
    assert {e.operation: e.fixed for e in tape if "normal" not in e.operation} == {"Exp": True, "AddV2": False}


# ------------------------------------------------------------------------------ the adapter
def test_nothing_imports_tensorflow_until_the_adapter_is_started():
    code = (
        "import sys; from conformance_adapters.tensorflow_ops import TensorFlowAdapter;"
        "from conformance.trace import Request; import numpy as np;"
        "print(TensorFlowAdapter().subjects("
        "Request('linear', '', {}, {'x': np.ones((2, 3))}, {'kernel': np.ones((3, 5))})));"
        "assert 'tensorflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "tf.linalg.matmul" in done.stdout


def test_the_versions_are_told():
    assert ADAPTER.start() == {"tensorflow": tf.__version__}


@pytest.mark.parametrize("subject", [Linear, LayerNorm, Conv2D, BlockLSTM])
def test_every_layout_is_undone_exactly(subject):
    sizes = {"channel": 3, "out": 5, "height": 7, "width": 11, "gate": 4, "unit": 13, "hidden": 13}
    for seed, parameter in enumerate(subject.parameters):
        left = parameter.pattern.partition(" -> ")[0].replace("(gate unit)", "gates").replace("...", "channel out")
        shape = [{**sizes, "gates": 52}[axis] for axis in left.split()]
        weights = {parameter.weights: plain.values("float64", seed, *shape)}
        same(parameter.read(parameter.write(weights)), weights)


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
    assert names(trace.tape, x @ kernel, dtype)[0] == "BatchMatMulV2"


@pytest.mark.parametrize("dtype", PRECISE)
@pytest.mark.parametrize("axis", [-1, 1])
def test_softmax(dtype, axis):
    x = plain.values(dtype, 0, 2, 3, 5)
    plain.close(run("softmax", {"x": x}, dtype=dtype, axis=axis).output, plain.softmax(x, axis), dtype)


@pytest.mark.parametrize("approximation", ["none", "tanh"])
def test_gelu(approximation):
    x = plain.values("float32", 0, 7, 11)
    trace = run("gelu", {"x": x}, dtype="float32", approximation=approximation)
    plain.close(trace.output, plain.gelu(x, approximation), "float32")


@pytest.mark.parametrize("approximation", ["none", "tanh"])
def test_gelu_of_float64_has_constants_of_float32(approximation):
    """TensorFlow's `tf.nn.gelu` casts its constants to float32 on their way to float64 (2.21.0)."""
    x = plain.values("float64", 0, 7, 11)
    trace = run("gelu", {"x": x}, dtype="float64", approximation=approximation)
    assert trace.output.dtype == np.float64
    plain.close(trace.output, plain.gelu(x, approximation), "float32")
    assert np.abs(trace.output - plain.gelu(x, approximation)).max() > 2**-40


def test_gelu_refuses_the_sigmoid_form():
    with pytest.raises(Unsupported, match="sigmoid"):
        run("gelu", {"x": np.ones(3)}, approximation="sigmoid")


@pytest.mark.parametrize("dtype", PRECISE)
@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("given", [(), ("scale",), ("bias",), ("scale", "bias")])
def test_layer_norm(dtype, axes, given):
    x = plain.values(dtype, 0, 2, 3, 5)
    weights = {n: plain.values(dtype, 1 + i, *x.shape[-axes:]) for i, n in enumerate(given)}
    trace = run("layer_norm", {"x": x}, weights, dtype, axes=axes, epsilon=1e-3)
    same(trace.weights, weights)
    plain.close(trace.output, plain.layer_norm(x, axes, 1e-3, **weights), dtype)
    over = tuple(range(-axes, 0))
    assert names(trace.tape, x.mean(over), dtype)[0] == "Mean"
    assert names(trace.tape, x.var(over), dtype)[0] == "Mean"


@pytest.mark.parametrize("dtype", PRECISE)
@pytest.mark.parametrize(
    ("options", "pads"),
    [
        ({}, ((0, 0), (0, 0))),
        ({"padding": "same-upper", "strides": 2}, ((0, 1), (0, 1))),  # 8 x 7 and a window of 3 x 2
        ({"padding": "same-upper", "dilation": (2, 1)}, ((2, 2), (0, 1))),
        ({"padding": ((1, 2), (0, 3)), "strides": (2, 1)}, ((1, 2), (0, 3))),
        ({"padding": ((3, 0), (1, 0)), "strides": 2, "dilation": 2}, ((3, 0), (1, 0))),
        ({"groups": 3}, ((0, 0), (0, 0))),
    ],
)
def test_conv2d(dtype, options, pads):
    config = {**CONV, **options}
    x, groups = plain.values(dtype, 0, 2, 8, 7, 6), config["groups"]
    weights = {"kernel": plain.values(dtype, 1, 3, 2, 6 // groups, 9), "bias": plain.values(dtype, 2, 9)}
    trace = run("conv2d", {"x": x}, weights, dtype, **config)
    same(trace.weights, weights)
    strides, dilation = ((n, n) if isinstance(n, int) else n for n in (config["strides"], config["dilation"]))
    expected = plain.conv2d(x, **weights, strides=strides, pads=pads, dilation=dilation, groups=groups)
    plain.close(trace.output, expected, dtype)
    assert names(trace.tape, expected, dtype)[-1] == "BiasAdd"


def test_conv2d_refuses_the_odd_pixel_on_the_left():
    with pytest.raises(Unsupported, match="same-lower"):
        run(
            "conv2d",
            {"x": np.ones((1, 4, 4, 1))},
            {"kernel": np.ones((2, 2, 1, 1))},
            **CONV | {"padding": "same-lower"},
        )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("initial", [(), ("initial_cell",), ("initial_hidden", "initial_cell")])
def test_block_lstm(dtype, direction, bias, initial):
    x = plain.values(dtype, 0, 2, 5, 3)
    weights = {"kernel": plain.values(dtype, 1, 3, 28), "recurrent_kernel": plain.values(dtype, 2, 7, 28)}
    if bias:
        weights["bias"] = plain.values(dtype, 3, 28)
    states = {n: plain.values(dtype, 4 + i, 2, 7) for i, n in enumerate(initial)}
    trace = run("lstm", {"x": x, **states}, weights, dtype, **LSTM | {"direction": direction})
    same(trace.weights, weights)
    short = {n.removeprefix("initial_"): s for n, s in states.items()}
    expected = plain.lstm(x, **weights, **short, reverse=direction == "reverse")
    plain.close(trace.output, expected, dtype)
    assert trace.output.tobytes() == trace.observed_output.tobytes()


def test_block_lstm_shows_its_gates():
    x = plain.values("float32", 0, 2, 1, 3)
    weights = {"kernel": plain.values("float32", 1, 3, 28), "recurrent_kernel": plain.values("float32", 2, 7, 28)}
    tape = run("lstm", {"x": x}, weights, "float32", **LSTM).tape
    i, f, g, o = np.split(x[:, 0] @ weights["kernel"], 4, axis=-1)
    for gate in (plain.sigmoid(i), plain.sigmoid(f), np.tanh(g), plain.sigmoid(o)):
        assert "BlockLSTMV2" in names(tape, gate, "float32")


def test_block_lstm_has_no_float64():
    weights = {"kernel": np.ones((3, 28)), "recurrent_kernel": np.ones((7, 28))}
    with pytest.raises(Unsupported, match="float32 and float16 only"):
        run("lstm", {"x": np.ones((1, 2, 3))}, weights, "float64", **LSTM)


def test_there_is_no_attention():
    with pytest.raises(Unsupported, match="tensorflow has no multi_head_attention of its own"):
        run("multi_head_attention", {"query_input": np.ones((1, 2, 3))})
