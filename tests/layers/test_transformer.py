"""The transformer's layers beside plain loops of NumPy, and where their norms are said to be."""

import numpy as np
import pytest
import torch

import conformance
from conformance.flow import Flow
from conformance.layers import get_layer

WIDTH, HIDDEN, HEADS = 6, 8, 2


def drawn(number: int, *shape: int) -> np.ndarray:
    return np.random.default_rng([number, *shape]).normal(size=shape)


def weights(*attentions: str) -> dict[str, np.ndarray]:
    made = {}
    for i, part in enumerate(attentions):
        for j, name in enumerate(("query", "key", "value", "output")):
            made[f"{part}.{name}_kernel"] = drawn(10 * i + j, WIDTH, WIDTH)
            made[f"{part}.{name}_bias"] = drawn(10 * i + j, WIDTH)
    made |= {"feed_forward.expand_kernel": drawn(50, WIDTH, HIDDEN), "feed_forward.expand_bias": drawn(51, HIDDEN)}
    made |= {"feed_forward.output_kernel": drawn(52, HIDDEN, WIDTH), "feed_forward.output_bias": drawn(53, WIDTH)}
    for number in range(1, len(attentions) + 2):
        made |= {f"norm{number}.scale": drawn(60 + number, WIDTH), f"norm{number}.bias": drawn(70 + number, WIDTH)}
    return made


def normed(x, w, number, epsilon=1e-5):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * w[f"norm{number}.scale"] + w[f"norm{number}.bias"]


def attended(w, part, x, memory, seen):
    """Each head, sample and query by itself; `seen(sample, query, key)` is whether it takes part."""
    q, k, v = (
        source @ w[f"{part}.{n}_kernel"] + w[f"{part}.{n}_bias"]
        for n, source in (("query", x), ("key", memory), ("value", memory))
    )
    size, merged = WIDTH // HEADS, np.zeros_like(q)
    for b in range(len(x)):
        for h in range(HEADS):
            at = slice(h * size, (h + 1) * size)
            for i in range(x.shape[1]):
                keys = [j for j in range(memory.shape[1]) if seen(b, i, j)]
                powers = np.exp([q[b, i, at] @ k[b, j, at] / np.sqrt(size) for j in keys])
                merged[b, i, at] = sum(p * v[b, j, at] for p, j in zip(powers / powers.sum(), keys, strict=True))
    return merged @ w[f"{part}.output_kernel"] + w[f"{part}.output_bias"]


def fed_forward(w, x):
    hidden = np.maximum(x @ w["feed_forward.expand_kernel"] + w["feed_forward.expand_bias"], 0)
    return hidden @ w["feed_forward.output_kernel"] + w["feed_forward.output_bias"]


def output(layer, config, inputs, given):
    *_, (step, value) = Flow.bind(get_layer(layer, config), config, inputs, given).run(None)
    assert step.name == "output"
    return value


@pytest.mark.parametrize("norm_first", [False, True])
def test_an_encoders_layer(norm_first):
    w, x = weights("self_attention"), drawn(1, 2, 5, WIDTH)
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], bool)
    config = {"heads": HEADS, "norm_first": norm_first}
    found = output("transformer_encoder_layer", config, {"x": x, "mask": mask}, w)

    def seen(b, i, j):
        return mask[b, j]

    if norm_first:
        entered = normed(x, w, 1)
        y = x + attended(w, "self_attention", entered, entered, seen)
        wanted = y + fed_forward(w, normed(y, w, 2))
    else:
        y = normed(x + attended(w, "self_attention", x, x, seen), w, 1)
        wanted = normed(y + fed_forward(w, y), w, 2)
    assert np.abs(found - wanted).max() < 1e-12


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_decoders_layer(norm_first):
    w, x, memory = weights("self_attention", "cross_attention"), drawn(1, 2, 5, WIDTH), drawn(2, 2, 7, WIDTH)
    config = {"heads": HEADS, "norm_first": norm_first, "causal": "top-left"}
    found = output("transformer_decoder_layer", config, {"x": x, "memory": memory}, w)

    def earlier(b, i, j):
        return j <= i

    def every(b, i, j):
        return True

    if norm_first:
        entered = normed(x, w, 1)
        y = x + attended(w, "self_attention", entered, entered, earlier)
        z = y + attended(w, "cross_attention", normed(y, w, 2), memory, every)
        wanted = z + fed_forward(w, normed(z, w, 3))
    else:
        y = normed(x + attended(w, "self_attention", x, x, earlier), w, 1)
        z = normed(y + attended(w, "cross_attention", y, memory, every), w, 2)
        wanted = normed(z + fed_forward(w, z), w, 3)
    assert np.abs(found - wanted).max() < 1e-12


def test_a_gated_feed_forward_part():
    x, expand, gate, back = drawn(1, 3, 4), drawn(2, 4, 5), drawn(3, 4, 5), drawn(4, 5, 4)
    given = {"expand_kernel": expand, "gate_kernel": gate, "output_kernel": back}
    found = output("feed_forward", {"activation": "silu"}, {"x": x}, given)
    gated = x @ gate
    assert np.abs(found - (gated / (1 + np.exp(-gated)) * (x @ expand)) @ back).max() < 1e-12


@pytest.mark.parametrize(("is_first", "said"), [(False, "post"), (True, "pre")])
def test_norms_in_another_place_than_asked_for_are_named(is_first, said):
    torch.manual_seed(0)
    module = torch.nn.TransformerEncoderLayer(12, 3, 20, dropout=0, batch_first=True, norm_first=is_first).eval()
    assert conformance.check(module, "transformer_encoder_layer").status == "conforms"
    case = conformance.check(module, "transformer_encoder_layer", config={"norm_first": not is_first})
    assert case.status == "diverges"
    assert {(f.convention, f.value) for f in case.diagnosis if f.explains} == {("transformer.norm-position", said)}


def test_a_decoders_layer_of_pytorch_is_checked():
    torch.manual_seed(0)
    module = torch.nn.TransformerDecoderLayer(12, 3, 20, dropout=0, batch_first=True).eval()
    assert conformance.check(module, "transformer_decoder_layer").status == "conforms"
