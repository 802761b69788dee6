"""Rotary positions in ONNX: each operator gives what a multiplication of complex numbers gives."""

import numpy as np
import plain_formulas as plain
import pytest

from conformance.errors import Unsupported
from conformance.trace import Request
from conformance_adapters.onnx_runtime import OnnxRuntimeAdapter

ADAPTER = OnnxRuntimeAdapter()
OWN, CONTRIB, ATTENTION = (
    "onnx.RotaryEmbedding",
    "com.microsoft.RotaryEmbedding",
    "onnx.RotaryEmbedding + onnx.Attention",
)
PLAIN = {"base": 10000.0, "dim": None, "pairing": "half-split"}
HEADS = {
    "heads": 2, "kv_heads": 1, "scale": None, "causal": None, "window": None, "softcap": None, "rotary": True
}  # fmt: skip
FORMS = [
    {},
    {"pairing": "interleaved"},
    {"dim": 4},
    {"dim": 4, "pairing": "interleaved"},
    {"base": 500000.0},
]


def turned(x, base=10000.0, dim=None, pairing="half-split", positions=None):
    """`batch time head dim`: a pair (a, b) as a + ib, times exp(i t)."""
    size = dim or x.shape[-1]
    where = np.arange(x.shape[1]) if positions is None else positions
    angle = np.asarray(where)[..., None, None] * base ** (-np.arange(0, size, 2) / size)
    first, second = (
        (slice(0, size, 2), slice(1, size, 2))
        if pairing == "interleaved"
        else (slice(0, size // 2), slice(size // 2, size))
    )
    product = (x[..., first] + 1j * x[..., second]) * np.exp(1j * angle)
    out = x.copy()
    out[..., first], out[..., second] = product.real, product.imag
    return out


def run(layer, subject, inputs, weights=None, dtype="float32", **config):
    return ADAPTER.run(Request(layer, subject, config, inputs, weights or {}, dtype))


@pytest.mark.parametrize("subject", [OWN, CONTRIB])
@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_rotation_is_a_product_of_complex_numbers(subject, form, dtype):
    x = plain.values(dtype, 0, 2, 5, 3, 6)
    trace = run("rotary_embedding", subject, {"x": x}, dtype=dtype, **{**PLAIN, **form})
    plain.close(trace.output, turned(x, **form), dtype)
    assert trace.output.dtype == dtype


@pytest.mark.parametrize("subject", [OWN, CONTRIB])
@pytest.mark.parametrize("positions", [np.array([[0, 2, 7], [5, 1, 0]]), np.array([3, 0, 9])], ids=["both", "time"])
def test_positions_are_taken_as_they_are_given(subject, positions):
    x = plain.values("float32", 1, 2, 3, 4, 8)
    trace = run("rotary_embedding", subject, {"x": x, "positions": positions}, **PLAIN)
    plain.close(trace.output, turned(x, positions=positions), "float32")


def test_the_angles_are_on_the_tape():
    tape = {e.operation: e.array for e in run("rotary_embedding", OWN, {"x": np.ones((1, 3, 1, 4))}, **PLAIN).tape}
    plain.close(tape["Mul:rotary.angles"], np.array([[0, 0], [1, 0.01], [2, 0.02]]), "float32")


@pytest.mark.parametrize("rotary", [True, {"base": 100.0}, {"pairing": "interleaved"}, {"dim": 4}], ids=str)
def test_attention_turns_query_and_key_and_not_the_value(rotary):
    sizes = {"query": (7, 12), "key": (7, 6), "value": (7, 6)}
    weights = {f"{n}_kernel": plain.values("float32", i, *s) for i, (n, s) in enumerate(sizes.items())}
    inputs = {"query_input": plain.values("float32", 5, 2, 3, 7), "key_input": plain.values("float32", 6, 2, 5, 7)}
    config = {**HEADS, "rotary": rotary}
    asked = Request("multi_head_attention", "", config, inputs, weights, "float32")
    assert ADAPTER.subjects(asked) == [ATTENTION]
    trace = run("multi_head_attention", ATTENTION, inputs, weights, **config)
    given = {"query": "query_input", "key": "key_input", "value": "key_input"}
    heads = {n: (inputs[i] @ weights[f"{n}_kernel"]) for n, i in given.items()}
    heads = {n: h.reshape(*h.shape[:2], 2 if n == "query" else 1, 6) for n, h in heads.items()}
    form = rotary if isinstance(rotary, dict) else {}
    parts = [turned(heads[n], **form) if n != "value" else heads[n] for n in ("query", "key", "value")]
    *_, context = plain.attention(*(p.transpose(0, 2, 1, 3) for p in parts))
    plain.close(trace.output, context.transpose(0, 2, 1, 3).reshape(2, 3, 12), "float32", 256)
    assert sorted(trace.weights) == sorted(weights)


def test_what_there_is_no_kernel_for_is_refused():
    x = np.ones((1, 2, 1, 4))
    with pytest.raises(Unsupported, match="float64"):
        ADAPTER.subjects(Request("rotary_embedding", "", PLAIN, {"x": x}, {}, "float64"))
    weights = {f"{n}_kernel": np.ones((4, 4)) for n in ("query", "key", "value")}
    for config, dtype, said in (({}, "float64", "float64"), ({"window": 1}, "float32", "window")):
        asked = Request("multi_head_attention", "", {**HEADS, "heads": 1, **config}, {"query_input": x[:, :, 0]},
                        weights, dtype)  # fmt: skip
        with pytest.raises(Unsupported, match=said):
            ADAPTER.subjects(asked)


def test_attention_without_rotary_positions_is_another_subject():
    weights = {f"{n}_kernel": np.ones((4, 4)) for n in ("query", "key", "value")}
    config = {**HEADS, "heads": 1, "rotary": None}
    asked = Request("multi_head_attention", "", config, {"query_input": np.ones((1, 2, 4))}, weights, "float32")
    assert ATTENTION not in ADAPTER.subjects(asked)
