import json
import math
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from conformance.errors import ConformanceError
from conformance.trace import Entry, Request, Trace
from conformance.wire import load, load_request, load_trace, save, save_request, save_trace

DTYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("wire")


def round_trip(folder, array):
    path = folder / "array.request"
    save(path, {"a": array}, {"said": "ü"})
    tensors, meta = load(path)
    assert meta == {"said": "ü"}
    return tensors["a"]


def same(found, array):
    assert found.shape == array.shape
    assert found.dtype == array.dtype.newbyteorder("=")
    assert found.astype(array.dtype).tobytes() == array.tobytes()  # bit by bit: NaN and -0.0 too


@given(data=st.data())
@settings(max_examples=120, deadline=None)
def test_every_dtype_and_shape(folder, data):
    dtype = np.dtype(data.draw(st.sampled_from(DTYPES)))
    array = data.draw(hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)))
    same(round_trip(folder, array), array)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d not in ("?", "i1", "u1")])
def test_big_endian(folder, dtype):
    array = np.arange(6).reshape(2, 3).astype(f">{dtype}")
    found = round_trip(folder, array)
    assert found.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found.dtype == np.dtype(dtype)


MEMORY = {
    "column-major": np.asfortranarray,
    "transposed": lambda a: a.T,
    "every second": lambda a: a[::2, 1::2],
    "backward": lambda a: a[::-1, ::-1],
    "broadcast": lambda a: np.broadcast_to(a[0], (3, 5)),
    "a single number of many": lambda a: a[1, 2],
    "read-only": lambda a: (a.setflags(write=False), a)[1],
    "unaligned": lambda a: np.frombuffer(b"\0" + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
}


@pytest.mark.parametrize("name", MEMORY)
def test_memory(folder, name):
    array = np.asarray(MEMORY[name](np.arange(20.0).reshape(4, 5)))
    found = round_trip(folder, array)
    assert found.tolist() == array.tolist()


def test_a_narrow_float_that_numpy_lacks(folder):
    array = np.array([1.0, -0.0, 3.140625, np.inf], ml_dtypes.bfloat16)
    found = round_trip(folder, array)
    assert found.dtype == np.float32
    assert found.tolist() == [1.0, -0.0, 3.140625, math.inf]


def test_nothing_at_all(folder):
    save(folder / "empty", {}, {"a": 1})
    assert load(folder / "empty") == ({}, {"a": 1})


def test_tensors_are_mapped_not_read(folder):
    path = folder / "large"
    large = np.ones(4_000_000)
    save(path, {"large": large, "small": np.arange(3.0)}, {})
    tracemalloc.start()
    tensors, _ = load(path)
    assert tensors["small"].tolist() == [0, 1, 2]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < large.nbytes / 10
    assert not tensors["large"].flags.writeable


def test_a_request(folder):
    request = Request(
        layer="conv2d", subject="frame.Conv2d",
        config={"padding": [[1, 2], [0, 0]], "scale": None, "epsilon": 1e-5, "rotary": {"base": 1.5}},
        inputs={"x": np.arange(4.0).reshape(2, 2), "mask": np.array([True, False]), "with.dot": np.array(3)},
        weights={"kernel": np.zeros((0, 2))},
        dtype="bfloat16", mode="compiled", device="cuda", decomposed=False, source="somewhere/ü",
        left=("strides", "groups"),
    )  # fmt: skip
    path = folder / "a.request"
    save_request(path, request)
    found = load_request(path)
    for name in ("layer", "subject", "config", "dtype", "mode", "device", "decomposed", "source", "left"):
        assert getattr(found, name) == getattr(request, name)
    for name in ("inputs", "weights"):
        ours, theirs = getattr(request, name), getattr(found, name)
        assert sorted(theirs) == sorted(ours)
        for key in ours:
            same(theirs[key], ours[key])


def test_a_request_without_arrays(folder):
    save_request(folder / "b.request", Request("alibi", "s", {}, {}, {}))
    found = load_request(folder / "b.request")
    assert (found.inputs, found.weights, found.config, found.source) == ({}, {}, {}, None)


def test_a_trace(folder):
    trace = Trace(
        output=np.arange(3, dtype=np.float32),
        tape=[Entry("aten.bmm.default", np.ones((2, 2), np.float16)), Entry("recorded", np.array(2.5), "scores"),
              *(Entry(f"op{i}", np.full(i, i, np.float32), None, (0, i), i == 3, f"layers.{i}") for i in range(12))],
        observed_output=np.array([[np.nan, -np.inf]]),
        weights={"attention.query_kernel": np.eye(2)},
        environment={"torch": "2.0"}, recorded=True, seconds=1.25,
    )  # fmt: skip
    save_trace(folder / "a.trace", trace)
    found = load_trace(folder / "a.trace")
    same(found.output, trace.output)
    same(found.observed_output, trace.observed_output)
    for field in ("operation", "hint", "reads", "fixed", "scope"):
        assert [getattr(e, field) for e in found.tape] == [getattr(e, field) for e in trace.tape]
    for ours, theirs in zip(trace.tape, found.tape, strict=True):
        same(theirs.array, ours.array)
    assert list(found.weights) == ["attention.query_kernel"]
    assert (found.environment, found.recorded, found.seconds) == ({"torch": "2.0"}, True, 1.25)


def test_a_trace_with_an_output_alone(folder):
    save_trace(folder / "b.trace", Trace(output=np.array(1.0)))
    found = load_trace(folder / "b.trace")
    assert found.observed_output is None
    assert list(found.tape) == []
    assert found.weights == {}
    assert not found.recorded


def test_a_file_is_safetensors(folder):
    """Anything else can read it too."""
    from safetensors.numpy import load_file

    save(folder / "plain.safetensors", {"a": np.arange(6.0).reshape(2, 3).T}, {"k": [1]})
    assert load_file(folder / "plain.safetensors")["a"].tolist() == [[0, 3], [1, 4], [2, 5]]
    raw = (folder / "plain.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert json.loads(header["__metadata__"]["conformance"]) == {"k": [1]}


def test_wider_elements_come_first_so_that_all_are_aligned(folder):
    """And another program sees the same: the format's own reader checks that there are no holes."""
    from safetensors.numpy import load_file

    path = folder / "mixed"
    tensors = {
        "flag": np.ones(3, bool),
        "half": np.ones(3, np.float16),
        "none": np.zeros((0, 2)),
        "wide": np.arange(2.0),
    }
    save(path, tensors, {})
    for name, array in load(path)[0].items():
        same(array, tensors[name])
        assert array.flags.aligned
    for name, array in load_file(path).items():
        same(array, tensors[name])


def test_writing_a_tape_takes_no_second_copy_of_it(folder):
    tape = [Entry("op", np.full(1_000_000, i, np.float32)) for i in range(10)]
    tape.append(Entry("op", np.zeros((1000, 1000), np.float32).T))
    trace = Trace(np.zeros(1), tape)
    tracemalloc.start()
    save_trace(folder / "large.trace", trace)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * tape[-1].array.nbytes  # one tensor at a time, where its order must be changed
    for ours, theirs in zip(tape, load_trace(folder / "large.trace").tape, strict=True):
        same(theirs.array, ours.array)


@pytest.mark.parametrize("dtype", ["c16", "U3", "O", "M8[s]"])
def test_a_dtype_that_the_format_does_not_have(folder, dtype):
    with pytest.raises(ConformanceError, match=r"'inputs.x' has the dtype .* cannot be sent; give it one of"):
        save(folder / "no", {"inputs.x": np.zeros(2, dtype)}, {})
