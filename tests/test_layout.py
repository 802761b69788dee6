import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.layout import Parameter, read, write

SIZE = st.integers(1, 5)
RANDOM = st.integers(0, 2**32 - 1)


def drawn(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


# -- by hand ------------------------------------------------------------------------------------------------


def test_a_transposition():
    parameter = Parameter("weight", "kernel", "i o -> o i")
    kernel = np.array([[1.0, 2, 3], [4, 5, 6]])
    assert parameter.write({"kernel": kernel}).tolist() == [[1, 4], [2, 5], [3, 6]]
    assert parameter.read(np.array([[1.0, 4], [2, 5], [3, 6]]))["kernel"].tolist() == kernel.tolist()


def test_packing():
    packed = Parameter("in_proj", "query key value", "part channel hdim -> (part hdim) channel")
    weights = {"query": np.array([[1.0, 2]]), "key": np.array([[3.0, 4]]), "value": np.array([[5.0, 6]])}
    assert packed.names == ["query", "key", "value"]
    assert packed.write(weights).tolist() == [[1], [2], [3], [4], [5], [6]]
    assert packed.read(packed.write(weights))["key"].tolist() == [[3, 4]]


def test_the_order_of_gates():
    """ONNX has i, o, f, g: its second gate is the canonical fourth."""
    parameter = Parameter("W", "kernel", "i (gate unit) -> 1 (gate unit) i", order={"gate": (0, 3, 1, 2)})
    kernel = np.array([[10.0, 11, 20, 21, 30, 31, 40, 41]])  # i, f, g, o with two units
    written = parameter.write({"kernel": kernel})
    assert written.shape == (1, 8, 1)
    assert written.ravel().tolist() == [10, 11, 40, 41, 20, 21, 30, 31]
    assert parameter.read(written)["kernel"].tolist() == kernel.tolist()


def test_a_bias_of_two_parts():
    """torch adds bias_ih and bias_hh: one holds the bias, the other is written as zeros, both are read."""
    parts = [Parameter("ih", "bias", "unit -> unit"), Parameter("hh", "bias", "unit -> unit", addend=True)]
    assert {n: a.tolist() for n, a in write(parts, {"bias": np.array([1.0, 2])}).items()} == {
        "ih": [1, 2],
        "hh": [0, 0],
    }
    found = read(parts, {"ih": np.array([1.0, 2]), "hh": np.array([0.5, -2])})
    assert found["bias"].tolist() == [1.5, 0]


def test_sizes_that_shapes_do_not_tell():
    parameter = Parameter("kernel", "query_kernel", "channel (head dim) -> channel head dim")
    written = parameter.write({"query_kernel": np.arange(12.0).reshape(2, 6)}, head=3)
    assert written.shape == (2, 3, 2)
    assert parameter.read(written).get("query_kernel").shape == (2, 6)


def test_only_what_is_there_is_written_and_read():
    parameters = [Parameter("weight", "kernel", "i o -> o i"), Parameter("bias", "bias", "o -> o")]
    assert list(write(parameters, {"kernel": np.ones((2, 3))})) == ["weight"]
    assert list(read(parameters, {"bias": np.ones(3), "other": np.ones(1)})) == ["bias"]
    packed = [Parameter("qkv", "query key value", "part c h -> c (part h)")]
    assert write(packed, {"query": np.ones((2, 2)), "key": np.ones((2, 2))}) == {}


# -- round trips --------------------------------------------------------------------------------------------


@given(i=SIZE, o=SIZE, height=SIZE, width=SIZE, seed=RANDOM)
@settings(max_examples=40, deadline=None)
def test_a_convolutions_kernel(i, o, height, width, seed):
    parameter = Parameter("weight", "kernel", "height width i o -> o i height width")
    kernel = drawn(seed, height, width, i, o)
    written = parameter.write({"kernel": kernel})
    assert written.shape == (o, i, height, width)
    assert all(written[b, a, y, x] == kernel[y, x, a, b] for y, x, a, b in np.ndindex(kernel.shape))
    assert np.array_equal(parameter.read(written)["kernel"], kernel)


@given(units=SIZE, i=SIZE, order=st.permutations(range(4)), seed=RANDOM)
@settings(max_examples=60, deadline=None)
def test_any_order_of_gates(units, i, order, seed):
    parameter = Parameter("W", "kernel", "i (gate unit) -> (gate unit) i", order={"gate": tuple(order)})
    kernel = drawn(seed, i, 4 * units)
    written = parameter.write({"kernel": kernel})
    for position, gate in enumerate(order):
        block = written[position * units : (position + 1) * units]
        assert np.array_equal(block, kernel[:, gate * units : (gate + 1) * units].T)
    assert np.array_equal(parameter.read(written)["kernel"], kernel)


@given(channel=SIZE, head=SIZE, dim=SIZE, order=st.permutations(range(3)), seed=RANDOM)
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize(
    "pattern",
    [
        "part channel (head dim) -> (part head dim) channel",
        "part channel (head dim) -> (head part dim) channel",
        "part channel (head dim) -> channel (head dim part)",
        "part channel (head dim) -> part 1 channel head dim",
    ],
)
def test_any_packing(pattern, channel, head, dim, order, seed):
    parameter = Parameter("qkv", "query key value", pattern, order={"part": tuple(order)})
    weights = {n: drawn(seed + k, channel, head * dim) for k, n in enumerate(parameter.names)}
    back = parameter.read(parameter.write(weights, head=head), head=head, channel=channel, dim=dim)
    assert {n: a.tolist() for n, a in back.items()} == {n: a.tolist() for n, a in weights.items()}


@given(units=SIZE, seed=RANDOM)
@settings(max_examples=20, deadline=None)
def test_addends(units, seed):
    parts = [Parameter("a", "bias", "(gate unit) -> gate unit", {"gate": (1, 0)}),
             Parameter("b", "bias", "u -> u", addend=True)]  # fmt: skip
    bias = drawn(seed, 2 * units)
    written = write(parts, {"bias": bias})
    assert not written["b"].any()
    assert np.array_equal(read(parts, written)["bias"], bias)


@given(shape=st.tuples(SIZE, SIZE), seed=RANDOM)
@settings(max_examples=20, deadline=None)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes_and_memory(dtype, shape, seed):
    parameter = Parameter("weight", "kernel", "i o -> o i")
    kernel = drawn(seed, *shape).astype(dtype)
    written = parameter.write({"kernel": kernel})
    assert written.dtype == dtype
    assert written.flags.c_contiguous
    written[...] = 0  # a copy of its own: the canonical weights stay
    assert np.array_equal(kernel, drawn(seed, *shape).astype(dtype))
    held = np.ones(shape, dtype)
    parameter.read(held)["kernel"][...] = 0
    assert held.all()
