"""The formulas of the vocabulary are true: what each comes to with NumPy alone is what the oracle computes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
import pytest

from conformance.conventions import Convention, conventions
from conformance.flow import Flow
from conformance.layers import get_layer, layer_names
from formula_additive_attention import CHECKS as ADDITIVE
from formula_additive_attention import MASKS
from formula_normalization import CHECKS as NORMALIZATION
from formula_notation import FUNCTIONS, evaluated, same, sides, sigmoid
from formula_position import CHECKS as POSITION
from formula_resize import CHECKS as RESIZE
from formula_shape import CHECKS as SHAPE

ALL = conventions()
NUMBERS = {"attention.scale": "0.05", "rope.base": "500000.0", "lstm.forget-bias": "0.5", "norm.epsilon": "0.001"}
NUMBERS |= {"leaky_relu.slope": "0.3", "elu.alpha": "0.5", "sinusoidal.base": "100.0"}
NUMBERS |= {"additive.sharpness": "0.5"}
ASKED = {"norm.epsilon": "0.02", "norm.axes": "1"}  # what the flows below ask for, where the canonical is `<config>`
ASKED |= {"leaky_relu.slope": "0.01", "elu.alpha": "1.0", "pad.mode": "constant"}
ASKED |= {"conv.padding": "valid", "transformer.norm-position": "post"}
WORDS = {
    "attention.scores-layout", "attention.weights-averaging", "attention.key-dim",  # axes, and sizes
    "lstm.peephole", "rnn.direction", "rnn.bidirectional-merge", "rnn.layout",  # not in the oracle
    ("attention.mask-fill", "finfo.min"), ("lstm.bias", "input-only"),  # advisory
    ("norm.variance", "fast"),  # equal in exact arithmetic
    ("embedding.padding-index", "zero-row"),  # advisory
    ("arithmetic.precision", "float32"), ("arithmetic.precision", "float16-accumulate"),  # not emulated
    ("softplus.threshold", "linear-above-20"),  # advisory: less than a billionth
    "weights.mismatch",  # no formula
}  # fmt: skip
"""The conventions of layers that there are, and variants of them, whose formula is not evaluated here."""


# -- layers on small random arrays ---------------------------------------------------------------------------


def normal(*shape: int, seed: int = 1) -> Any:
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def ran(
    layer: str,
    conventions: Mapping[str, Any],
    config: Mapping[str, Any],
    inputs: Any,
    weights: Any = {},  # noqa: B006
) -> dict[str, Any]:
    """Everything by name: config, inputs, weights, and the steps under `conventions`."""
    flow = Flow.bind(get_layer(layer, config), config, inputs, weights)
    with np.errstate(all="ignore"):
        return {**flow.values, **{step.name: np.asarray(v) for step, v in flow.run(None, conventions)}}


def under(convention: Convention, value: str) -> dict[str, Any]:
    return {} if value in (convention.canonical, ASKED.get(convention.id)) else {convention.keyword: value}


def attention(choice: Mapping[str, Any], config: Mapping[str, Any] | None = None, **inputs: Any) -> dict[str, Any]:
    given = {"query": normal(2, 4, 5, 6), "key": normal(2, 4, 5, 6, seed=2), "value": normal(2, 4, 5, 3), **inputs}
    v = ran("scaled_dot_product_attention", choice, config or {}, given)
    v |= {"heads": 4, "head_dim": 6, "value_dim": 3, "queries": given["query"].shape[2], "keys": given["key"].shape[2]}
    if inputs.get("mask") is not None:
        v["mask"] = inputs["mask"][:, None, None, :]
    return v


def multi_head(choice: Mapping[str, Any], channels: int = 12, **more: Any) -> dict[str, Any]:
    """Self-attention in three heads of four."""
    weights = {f"{n}_kernel": normal(channels, 12, seed=s) for s, n in enumerate(("query", "key", "value"))}
    weights["output_kernel"] = normal(12, 12, seed=7)
    weights |= {f"{n}_bias": normal(12, seed=s) for s, n in enumerate(("query", "key", "value", "output"))}
    v = ran("multi_head_attention", choice, {"heads": 3}, {"query_input": normal(2, 5, channels)}, weights)
    return v | {"batch": 2, "time": 5, "head_dim": 4, "value_dim": 4, **more}


def lstm(choice: Mapping[str, Any], **config: Any) -> dict[str, Any]:
    """Every time step side by side, with what the time step before it left."""
    weights = {"kernel": normal(3, 20), "recurrent_kernel": normal(5, 20), "bias": normal(20)}
    v = ran("lstm", choice, config, {"x": 2 * normal(2, 4, 3), "initial_hidden": normal(2, 5)}, weights)
    v["hidden_before"] = np.concatenate([v["initial_hidden"][:, None], v["hidden"][:, :-1]], axis=1)
    v["pre_activation"] = v["x"] @ weights["kernel"] + v["hidden_before"] @ weights["recurrent_kernel"] + v["bias"]
    return v


def gru(choice: Mapping[str, Any], **weights: Any) -> dict[str, Any]:
    """Every time step side by side; W and U are the candidate's kernels, `bias` and `recurrent_bias` its biases."""
    given = {"kernel": normal(3, 15), "recurrent_kernel": normal(5, 15), "bias": normal(15)}
    given = {**given, "recurrent_bias": normal(15, seed=2), **weights}
    v = ran("gru", choice, {}, {"x": 2 * normal(2, 4, 3), "initial_hidden": normal(2, 5)}, given)
    v["hidden_before"] = np.concatenate([v["initial_hidden"][:, None], v["hidden"][:, :-1]], axis=1)
    parts = {n: given[n][..., 10:] for n in ("bias", "recurrent_bias")}
    return {**v, **parts, "whole": given, "W": given["kernel"][:, 10:], "U": given["recurrent_kernel"][:, 10:]}


def gates(v: Mapping[str, Any], i: Any, f: Any, g: Any, o: Any) -> bool:
    made = {
        "input_gate": sigmoid(i),
        "forget_gate": sigmoid(f),
        "cell_candidate": np.tanh(g),
        "output_gate": sigmoid(o),
    }
    return all(same(value, v[name]) for name, value in made.items())


def convolution(choice: Mapping[str, Any], kernel: Any, **config: Any) -> dict[str, Any]:
    x = normal(2, 7, 7, kernel.shape[2] * config.get("groups", 1))
    return ran("conv2d", choice, config, {"x": x}, {"kernel": kernel})


# -- is a formula true? --------------------------------------------------------------------------------------
# Each takes the convention, the value that the oracle is run with, and a formula.

Check = Callable[[Convention, str, str], bool]


def step_of(run: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Check:
    """For `step = expression`, over the steps and whatever else the run has."""

    def check(convention: Convention, value: str, text: str) -> bool:
        v = run(under(convention, value))
        step, expression = sides(text)
        return same(evaluated(expression, **v), v[step])

    return check


PADDING = np.array([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1]], dtype=bool)


def masked(choice: Mapping[str, Any]) -> dict[str, Any]:
    return attention(choice, mask=PADDING)


def softmax_axis(convention: Convention, value: str, text: str) -> bool:
    v = attention(under(convention, value), {"causal": "top-left"})
    axes = ["batch", "head", "query", "key"]
    text = re.sub(r"axis=(\w+)", lambda m: f"axis={axes.index(m[1])}", text)
    return same(evaluated(sides(text)[1], **v), v["weights"])


def fully_masked(convention: Convention, value: str, text: str) -> bool:
    expression = re.fullmatch(r"weights = (.*) where every key is masked", text)
    v = attention(under(convention, value), mask=np.array([[0] * 5, [1, 0, 1, 1, 1]], dtype=bool))
    assert expression is not None
    return same(np.full((4, 5, 5), evaluated(expression[1], keys=5)), v["weights"][0])


def causal(convention: Convention, value: str, text: str) -> bool:
    v = attention({convention.keyword: value}, {"causal": "top-left"}, key=normal(2, 4, 7, 6), value=normal(2, 4, 7, 3))
    v |= {"i": np.arange(5)[:, None], "j": np.arange(7)}
    left, right = sides(text.replace("[i, j]", ""))
    return same(evaluated(right, **v), v[left])


def head_split(convention: Convention, value: str, text: str) -> bool:
    v = multi_head(under(convention, value))
    left, right = sides(text)
    assert left == "query_h"
    query, key = ([evaluated(re.sub(r"\bquery\b", of, right), **v, h=h) for h in range(3)] for of in ("query", "key"))
    return all(same(q @ FUNCTIONS["T"](k), v["scores"][:, h]) for h, (q, k) in enumerate(zip(query, key, strict=True)))


def head_merge(convention: Convention, value: str, text: str) -> bool:
    v = multi_head(under(convention, value))
    target, right = sides(text)
    chosen = target.replace("merged", "columns").replace("..., ", "")
    made = np.zeros((2, 5, 12))
    for h in range(3):
        here = {**v, "h": h, "context_h": v["context"][:, h], "columns": np.arange(12)}
        made[..., evaluated(chosen, **here)] = evaluated(right, **here)
    return same(made, v["merged"])


def packed(convention: Convention, value: str, text: str) -> bool:
    """Three kernels side by side, read as if they were packed as the formula says."""
    v = multi_head(under(convention, value))
    first = text.removeprefix("packed = [").partition("|")[0].split()
    if "_1" not in first[0]:
        order = [(letter, f) for f in range(12) for letter in first]
    elif ".." in first:
        order = [(letter, f) for letter in re.findall(r"(\w)_1 \.\.", text) for f in range(12)]
    else:
        order = [(word[0], 4 * h + f) for h in range(3) for word in first for f in range(4)]
    kernel = np.concatenate([v[f"{n}_kernel"] for n in ("query", "key", "value")], axis=1)
    bias = np.concatenate([v[f"{n}_bias"] for n in ("query", "key", "value")])
    columns = {name: [order.index((name[0], f)) for f in range(12)] for name in ("query", "key", "value")}
    return all(same(v["query_input"] @ kernel[:, c] + bias[c], v[name]) for name, c in columns.items())


def biases(convention: Convention, value: str, text: str) -> bool:
    v = multi_head(under(convention, value))
    told = {}
    for part in text.split("; "):
        expression, _, names = part.partition(" in ")
        told |= dict.fromkeys(re.split(r", | and ", names), expression)
    read = {"query": "query_input", "key": "query_input", "value": "query_input", "output": "merged"}
    assert set(told) == set(read)
    return all(same(evaluated(told[n], x=v[read[n]], kernel=v[f"{n}_kernel"], bias=v[f"{n}_bias"]), v[n]) for n in read)


def head_repeat(convention: Convention, value: str, text: str) -> bool:
    key = {"key": normal(2, 2, 5, 6), "value": normal(2, 2, 5, 3)}
    v = attention(under(convention, value), **key) | {"kv_heads": 2}
    v |= {name: np.moveaxis(v[name], 1, 0) for name in ("query", "key", "scores")}
    left, right = sides(text)
    return all(same(evaluated(right, **{**v, "h": h}), evaluated(left, **{**v, "h": h})) for h in range(4))


def softcapped(choice: Mapping[str, Any]) -> dict[str, Any]:
    return attention(choice, {"softcap": 1.5}, mask=PADDING)


def rotary(choice: Mapping[str, Any], **config: Any) -> dict[str, Any]:
    v = ran("rotary_embedding", choice, config, {"x": normal(1, 5, 2, 6)})
    return v | {"position": np.arange(5)[:, None], "i": np.arange(3), "dim": 6}


def pairing(convention: Convention, value: str, text: str) -> bool:
    v = rotary({convention.keyword: value})
    turn = v["angles"].T[:, None, :, None]  # pair, batch, time, head
    right = sides(text)[1]
    before, after = (evaluated(right, x=np.moveaxis(v[n], -1, 0), i=v["i"], dim=6) for n in ("x", "rotated"))
    a, b = before
    turned = a * np.cos(turn) - b * np.sin(turn), b * np.cos(turn) + a * np.sin(turn)
    return all(same(mine, its) for mine, its in zip(turned, after, strict=True))


def rotation(convention: Convention, value: str, text: str) -> bool:
    v = rotary(under(convention, value))
    right = re.sub(r"\b([ab]) (cos|sin) t\b", r"\1 * \2(t)", text.partition(" -> ")[2])
    turned = evaluated(right, a=v["x"][..., :3], b=v["x"][..., 3:], t=v["angles"][:, None, :])
    return same(np.concatenate(turned, axis=-1), v["rotated"])


def base(convention: Convention, value: str, text: str) -> bool:
    v = rotary({convention.keyword: value})
    return same(evaluated(sides(text)[1], **v), v["angles"])


def gate_order(convention: Convention, value: str, text: str) -> bool:
    v = lstm(under(convention, value))
    left, right = sides(text)
    parts = dict(zip(left.split(", "), evaluated(right, **v), strict=True))
    return gates(v, **parts)


def recurrent_bias(convention: Convention, value: str, text: str) -> bool:
    v = lstm(under(convention, value))
    return gates(v, *np.split(evaluated(sides(text)[1], **v), 4, axis=-1))


def gru_gate_order(convention: Convention, value: str, text: str) -> bool:
    """From the input alone: what comes from the state has its gates in the same order."""
    v = gru(under(convention, value), recurrent_kernel=np.zeros((5, 15)), recurrent_bias=np.zeros(15))
    left, right = sides(text)
    split = {"split": lambda x: np.split(x, 3, axis=-1), "x": v["x"], **v["whole"]}
    parts = dict(zip(left.split(", "), evaluated(right, **split), strict=True))
    made = {"reset_gate": sigmoid(parts["r"]), "update_gate": sigmoid(parts["z"]), "candidate": np.tanh(parts["n"])}
    return all(same(value, v[name]) for name, value in made.items())


@pytest.mark.parametrize("value", ["sum", "doubled"])
def test_two_biases_of_a_gru_are_added_in_its_gates(value: str) -> None:
    convention = ALL["lstm.bias"]
    here, there = convention.compared("gru", value, "sum")
    v = gru(under(convention, value))
    made = evaluated(sides(there if value == "sum" else here)[1], **{**v, **v["whole"]})
    assert same(sigmoid(made[..., :5]), v["reset_gate"])
    assert same(sigmoid(made[..., 5:10]), v["update_gate"])


def forget_bias(convention: Convention, value: str, text: str) -> bool:
    v = lstm(under(convention, value))
    forget = {"pre_activation": v["pre_activation"][..., 5:10], "recurrent_activation": sigmoid}
    return same(evaluated(sides(text)[1], **forget), v["forget_gate"])


def recurrent_activation(convention: Convention, value: str, text: str) -> bool:
    v = lstm(under(convention, value))
    columns = {"input_gate": slice(0, 5), "forget_gate": slice(5, 10), "output_gate": slice(15, 20)}
    right = sides(text)[1]
    return all(same(evaluated(right, pre_activation=v["pre_activation"][..., c]), v[n]) for n, c in columns.items())


def layer_norm(choice: Mapping[str, Any]) -> dict[str, Any]:
    return ran("layer_norm", choice, {"epsilon": 0.02}, {"x": 0.1 * normal(2, 3, 5)}) | {"n": 5}


def norm_axes(convention: Convention, value: str, text: str) -> bool:
    v = layer_norm(under(convention, value))
    many = re.fullmatch(r"mean = mean of x over its (?:axes from (-?\d) on|axis (\d))", text)
    assert many is not None
    axes = (int(many[2]),) if many[2] else tuple(range(3))[int(many[1]) :]
    return same(v["x"].mean(axes, keepdims=True), v["mean"])


def gelu(convention: Convention, value: str, text: str) -> bool:
    v = ran("gelu", {convention.keyword: value}, {}, {"x": 2 * normal(50)})
    return same(evaluated(sides(text)[1], **v), v["output"])


def activation(layer: str) -> Check:
    return step_of(lambda choice: ran(layer, choice, {}, {"x": 3 * normal(50)}))


def halves(convention: Convention, value: str, text: str) -> bool:
    v = ran("glu", under(convention, value), {}, {"x": normal(3, 8)})
    left, right = sides(text)
    parts = dict(zip(left.split(", "), evaluated(right, x=v["x"], split=lambda x: np.split(x, 2, -1)), strict=True))
    return same(parts["value"] * sigmoid(parts["gate"]), v["output"])


@pytest.mark.parametrize("alpha", ["1.0", "0.5"])
def test_the_alpha_of_a_celu_is_told_with_a_formula_of_its_own(alpha: str) -> None:
    here, there = ALL["elu.alpha"].compared("celu", "0.5", "1.0")
    assert activation("celu")(ALL["elu.alpha"], alpha, here) == (alpha == "0.5")
    assert activation("celu")(ALL["elu.alpha"], alpha, there) == (alpha == "1.0")


def orientation(convention: Convention, value: str, text: str) -> bool:
    choice = under(convention, value)
    v = ran("linear", choice, {}, {"x": normal(2, 4)}, {"kernel": normal(4, 4)})
    w = multi_head(choice)
    query = evaluated(text, x=w["query_input"], kernel=w["query_kernel"]) + w["query_bias"]
    at_each_place = {"depthwise_kernel": normal(1, 1, 4, 1), "pointwise_kernel": normal(4, 4)}
    p = ran("separable_conv2d", choice, {}, {"x": normal(2, 3, 3, 4)}, at_each_place)
    mapped = evaluated(text, x=p["convolved"], kernel=p["pointwise_kernel"])
    return same(evaluated(text, **v), v["product"]) and same(query, w["query"]) and same(mapped, p["pointwise"])


def precision(convention: Convention, value: str, text: str) -> bool:
    choice = {convention.keyword: f"{value}:operands" if value == "bfloat16" else value} if value[0] != "<" else {}
    v = ran("linear", choice, {}, {"x": normal(2, 4)}, {"kernel": normal(4, 3)})
    return same(evaluated(text.removesuffix(" in float64"), a=v["x"], b=v["kernel"]), v["product"])


def flip(convention: Convention, value: str, text: str) -> bool:
    kernel = normal(3, 2, 4, 2)
    v = convolution(under(convention, value), kernel)
    read = re.fullmatch(r"convolved\[p\] = sum over o of padded\[stride p \+ dilation o\] \* kernel\[(.*)\]", text)
    assert read is not None
    made = np.zeros(v["convolved"].shape)
    for offset in product(range(3), range(2)):
        index = tuple(evaluated(read[1], o=o, size=size) for o, size in zip(offset, (3, 2), strict=True))
        window = v["padded"][:, offset[0] : offset[0] + 5, offset[1] : offset[1] + 6]
        made += window @ kernel[index]
    return same(made, v["convolved"])


def padding(convention: Convention, value: str, text: str) -> bool:
    v = convolution(under(convention, value), normal(6, 6, 3, 2), padding="valid")
    total = 7 - (7 - 6 + 1) if value.startswith("same") else 0
    pair = evaluated(sides(text)[1], total=total, extent=6)
    return same(np.pad(v["x"], [(0, 0), pair, pair, (0, 0)]), v["padded"])


def norm_position(convention: Convention, value: str, text: str) -> bool:
    width = 4
    kernels = {f"self_attention.{part}_kernel": normal(width, width) for part in ("query", "key", "value", "output")}
    maps = {"feed_forward.expand_kernel": normal(width, 6), "feed_forward.output_kernel": normal(6, width)}
    weights = {**kernels, **maps}
    scale, x = normal(width), normal(2, 3, width)
    weights["norm1.scale"] = scale
    v = ran("transformer_encoder_layer", under(convention, value), {}, {"x": x}, weights)

    def norm1(x: Any) -> Any:
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * scale

    return same(evaluated(sides(text)[1], x=x, norm1=norm1), v["self_attention.input"])


def same_padding(convention: Convention, value: str, text: str) -> bool:
    v = convolution({convention.keyword: value}, normal(6, 6, 3, 2), padding="same-upper")
    total = 7 - (7 - 6 + 1)  # as many outputs as inputs
    pair = evaluated(sides(text)[1], total=total, extent=6)
    return same(np.pad(v["x"], [(0, 0), pair, pair, (0, 0)]), v["padded"])


def channel_groups(convention: Convention, value: str, text: str) -> bool:
    kernel = normal(1, 1, 2, 6)
    v = convolution(under(convention, value), kernel, groups=2)
    expression = text.removeprefix("output channel c is of group ")
    made, met = [], [0, 0]
    for c in range(6):
        group = evaluated(expression, c=c, out=6, groups=2)
        made.append(v["x"][..., 2 * group : 2 * group + 2] @ kernel[0, 0, :, 3 * group + met[group]])
        met[group] += 1
    return same(np.stack(made, axis=-1), v["convolved"])


def kernel_layout(convention: Convention, value: str, text: str) -> bool:
    """The canonical buffer, read as if it had the axes that the formula names."""
    kernel = normal(3, 3, 4, 2)
    v = convolution(under(convention, value), kernel)
    said = text.removeprefix("kernel[").removesuffix("]")
    for space, axes in (("*reversed space", "width, height"), ("*space", "height, width")):
        said = said.replace(space, axes)
    axes = said.split(", ")
    read = kernel.reshape([{"height": 3, "width": 3, "in": 4, "out": 2}[a] for a in axes])
    read = read.transpose([axes.index(a) for a in ("height", "width", "in", "out")])
    made = sum(v["padded"][:, i : i + 5, j : j + 5] @ read[i, j] for i in range(3) for j in range(3))
    return same(made, v["convolved"])


def multiplier_order(convention: Convention, value: str, text: str) -> bool:
    """As `kernel_layout`, of the last two axes: each channel by itself, with kernels of its own."""
    kernel = normal(3, 3, 4, 2)
    v = ran("depthwise_conv2d", under(convention, value), {}, {"x": normal(2, 7, 7, 4)}, {"kernel": kernel})
    axes = text.removeprefix("kernel[*space, ").removesuffix("]").split(", ")
    read = kernel.reshape(3, 3, *({"in": 4, "multiplier": 2}[a] for a in axes))
    read = read if axes[0] == "in" else np.swapaxes(read, 2, 3)
    shifted = [(v["padded"][:, i : i + 5, j : j + 5], read[i, j]) for i, j in product(range(3), range(3))]
    made = sum(x[..., None] * k for x, k in shifted)
    return same(made.reshape(2, 5, 5, 8), v["convolved"])


def padded_around(layer: str) -> Check:
    def check(convention: Convention, value: str, text: str) -> bool:
        config = {"size": 3, "strides": 2, "padding": "same-upper"}
        v = ran(layer, {convention.keyword: value}, config, {"x": normal(2, 8, 6, 3)})
        around = re.fullmatch(r"padded = x, with (.*) around it", text)
        assert around is not None
        how = {"mode": "edge"} if around[1] == "its edge" else {"constant_values": evaluated(around[1])}
        return same(np.pad(v["x"], [(0, 0), (0, 1), (0, 1), (0, 0)], **how), v["padded"])

    return check


def counted(convention: Convention, value: str, text: str) -> bool:
    """Windows of 3 at a stride of 1, over 7 elements with one of padding on each side."""
    config = {"size": 3, "strides": 1, "padding": [[1, 1]]}
    v = ran("average_pool1d", under(convention, value), config, {"x": normal(2, 7, 3)})
    sums = sum(v["padded"][:, i : i + 7] for i in range(3))
    counts = {"x": np.array([2, 3, 3, 3, 3, 3, 2])[:, None], "padded": 3}
    of = re.fullmatch(r"output = sum\(window\) / \(elements of (\w+) in the window\)", text)
    assert of is not None
    return same(sums / counts[of[1]], v["output"])


def rounded_up(convention: Convention, value: str, text: str) -> bool:
    """Windows of 3 at a stride of 2, over 6 elements with one of padding on each side, which is counted."""
    config = {"size": 3, "strides": 2, "padding": [[1, 1]], "count_include_pad": True}
    v = ran("average_pool1d", under(convention, value), config, {"x": normal(2, 6, 3)})
    expression, _, behind = sides(text)[1].partition(", ")
    windows = evaluated(expression, padded=8, size=3, stride=2, floor=math.floor, ceil=math.ceil)
    made = [v["padded"][:, 2 * i : 2 * i + 3] for i in range(windows)]
    counts = [3 if behind == "what is behind padded counted like it" else m.shape[1] for m in made]
    return same(np.stack([m.sum(1) / n for m, n in zip(made, counts, strict=True)], 1), v["output"])


def transposed(choice: Mapping[str, Any], kernel: Any, **config: Any) -> dict[str, Any]:
    return ran("conv_transpose2d", choice, config, {"x": normal(2, 4, 5, kernel.shape[3])}, {"kernel": kernel})


def transposed_layout(convention: Convention, value: str, text: str) -> bool:
    """As `kernel_layout`; what is written at each place is the whole kernel."""
    kernel = normal(3, 3, 4, 2)
    v = transposed(under(convention, value), kernel)
    said = text.removeprefix("kernel[").removesuffix("]")
    flipped = "*flipped space" in said
    axes = said.replace("*flipped space", "height, width").replace("*space", "height, width").split(", ")
    read = kernel.reshape([{"height": 3, "width": 3, "out": 4, "in": 2}[a] for a in axes])
    read = read.transpose([axes.index(a) for a in ("height", "width", "out", "in")])
    made = np.zeros(v["convolved"].shape)
    for i, j in product(range(3), range(3)):
        at = (2 - i, 2 - j) if flipped else (i, j)
        made[:, i : i + 4, j : j + 5] += v["x"] @ read[at].T
    return same(made, v["convolved"])


def cropped(convention: Convention, value: str, text: str) -> bool:
    """A kernel of three at a stride of two, of which "same" cuts one element off along each axis."""
    v = transposed(under(convention, value), normal(3, 3, 4, 2), padding="same-upper", strides=2)
    right = sides(text)[1]
    index, zeros = right.removeprefix("full[").partition("]")[::2]
    made = np.zeros(v["output"].shape)
    height, width = v["convolved"].shape[1:3]
    if zeros:
        first, last = index.split(" : ")
        kept = [slice(evaluated(first, crop=1), evaluated(last, crop=1, size=n)) for n in (height, width)]
    else:
        first = evaluated(index, p=0, crop=1)
        kept = [slice(first, first + n) for n in (8, 10)]
    part = v["convolved"][:, kept[0], kept[1]]
    made[:, : part.shape[1], : part.shape[2]] = part
    return same(made, v["output"])


CHECKS: dict[str, Check] = {
    "attention.softmax-axis": softmax_axis,
    "attention.scale": step_of(attention),
    "attention.mask-polarity": step_of(masked),
    "attention.mask-fill": step_of(masked),
    "attention.mask-axis": step_of(masked),
    "attention.fully-masked-row": fully_masked,
    "attention.causal-alignment": causal,
    "attention.head-split": head_split,
    "attention.head-merge": head_merge,
    "attention.qkv-packing": packed,
    "attention.bias": biases,
    "attention.softcap": step_of(softcapped),
    "attention.kv-head-repeat": head_repeat,
    "rope.pairing": pairing,
    "rope.base": base,
    "rope.direction": rotation,
    "lstm.gate-order": gate_order,
    "lstm.bias": recurrent_bias,
    "lstm.forget-bias": forget_bias,
    "lstm.recurrent-activation": recurrent_activation,
    "gru.gate-order": gru_gate_order,
    "gru.reset": step_of(gru),
    "gru.candidate-bias": step_of(gru),
    "gru.update": step_of(gru),
    "norm.epsilon": step_of(layer_norm),
    "norm.epsilon-placement": step_of(layer_norm),
    "norm.variance": step_of(layer_norm),
    "norm.axes": norm_axes,
    **NORMALIZATION,
    **SHAPE,
    **RESIZE,
    **POSITION,
    **ADDITIVE,
    "gelu.approximation": gelu,
    "leaky_relu.slope": activation("leaky_relu"),
    "elu.alpha": activation("elu"),
    "hard_sigmoid.form": activation("hard_sigmoid"),
    "softplus.threshold": activation("softplus"),
    "glu.halves": halves,
    "linear.kernel-orientation": orientation,
    "arithmetic.precision": precision,
    "conv.flip": flip,
    "transformer.norm-position": norm_position,
    "conv.padding": padding,
    "conv.same-padding": same_padding,
    "conv.groups": channel_groups,
    "conv.kernel-layout": kernel_layout,
    "conv.multiplier-order": multiplier_order,
    "conv_transpose.kernel-layout": transposed_layout,
    "conv_transpose.padding": cropped,
    "pool.padding-value": padded_around("max_pool2d"),
    "pool.padding-mode": padded_around("average_pool2d"),
    "pool.count-include-pad": counted,
    "pool.ceil-mode": rounded_up,
}


def evaluated_here() -> Iterator[tuple[Convention, str]]:
    """Each convention that is checked, with the values under which the oracle is run."""
    for name in CHECKS:
        for value in (ASKED.get(name, ALL[name].canonical), *(v.value for v in ALL[name].variants)):
            if (name, value) not in WORDS:
                yield ALL[name], NUMBERS.get(name, value) if value == "<other>" else value


def formulas(convention: Convention, value: str) -> tuple[str, str]:
    """The formula under `value`, and the canonical one, as a diagnosis has them."""
    layer = next(name for name in layer_names() if name in convention.layers or "*" in convention.layers)
    canonical = "float64" if convention.canonical == "<dtype>" else ASKED.get(convention.id, convention.canonical)
    here, there = convention.compared(layer, value, canonical)
    return (there if value in (canonical, convention.canonical) else here), there


@pytest.mark.parametrize(("convention", "value"), list(evaluated_here()), ids=lambda x: getattr(x, "id", x))
def test_a_formula_is_what_the_oracle_computes(convention: Convention, value: str) -> None:
    here, there = formulas(convention, value)
    check = CHECKS[convention.id]
    assert check(convention, value, here), here
    if here != there:
        assert not check(convention, value, there), f"{value} is not told apart"


def test_every_formula_of_a_layer_that_there_is_is_evaluated() -> None:
    there = {c.id for c in ALL.values() if "*" in c.layers or set(c.layers) & set(layer_names())}
    assert {name for name in there if name not in CHECKS} == {name for name in WORDS if isinstance(name, str)}


def test_what_a_formula_says_of_an_asked_activation_is_its_name() -> None:
    convention = ALL["lstm.recurrent-activation"]
    here, there = convention.compared("lstm", "sigmoid", "hard_sigmoid")
    assert (here, there) == ("gate = sigmoid(pre_activation)", "gate = hard_sigmoid(pre_activation)")
    v = lstm({}, recurrent_activation="hard_sigmoid")
    assert same(evaluated(sides(there)[1], pre_activation=v["pre_activation"][..., :5]), v["input_gate"])


@pytest.mark.parametrize("convention", [ALL[name] for name in MASKS], ids=lambda c: c.id)
def test_a_formula_of_attention_is_true_of_additive_attention_in_its_own_words(convention: Convention) -> None:
    for value in (convention.canonical, *(v.value for v in convention.variants)):
        if (convention.id, value) in WORDS:
            continue
        here, there = convention.compared("additive_attention", value, convention.canonical)
        here = there if value == convention.canonical else here
        assert MASKS[convention.id](convention, value, here), here
        assert value == convention.canonical or not MASKS[convention.id](convention, value, there), value
