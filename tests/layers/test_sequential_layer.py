import mpmath
import numpy as np
import pytest
from exact import affine, check, drawn, exact, filled, softmax, steps, total
from exact_attention import multi_head

from conformance.errors import ConformanceError
from conformance.layers import get_layer

PARTS = [
    {"name": "attention", "layer": "multi_head_attention", "config": {"heads": 2}},
    {"name": "norm", "layer": "layer_norm", "config": {"epsilon": 1e-3}},
    {"name": "dense", "layer": "linear"},
    {"name": "probabilities", "layer": "softmax"},
]
X = drawn(0, 2, 3, 5)
ATTENTION = {
    "query_kernel": drawn(1, 5, 4),
    "key_kernel": drawn(2, 5, 4),
    "value_kernel": drawn(3, 5, 6),
    "output_kernel": drawn(4, 6, 5),
    "output_bias": drawn(5, 5),
}
NORM = {"scale": drawn(6, 5), "bias": drawn(7, 5)}
DENSE = {"kernel": drawn(8, 5, 4), "bias": drawn(9, 4)}
WEIGHTS = {
    f"{part}.{name}": array
    for part, weights in (("attention", ATTENTION), ("norm", NORM), ("dense", DENSE))
    for name, array in weights.items()
}


def test_a_small_network_against_50_digits():
    reference = {f"attention.{n}": v for n, v in multi_head({"query_input": X}, ATTENTION, 2).items()}
    x = reference["attention.output"]
    rows = list(np.ndindex(x.shape[:-1]))
    mean = {at: total(x[at]) / 5 for at in rows}
    variance = {at: total((v - mean[at]) ** 2 for v in x[at]) / 5 for at in rows}
    reference["norm.mean"] = filled((2, 3, 1), lambda b, t, _: mean[b, t])
    reference["norm.variance"] = filled((2, 3, 1), lambda b, t, _: variance[b, t])
    epsilon = mpmath.mpf(1e-3)
    z = reference["norm.normalized"] = filled(
        x.shape, lambda b, t, c: (x[b, t, c] - mean[b, t]) / mpmath.sqrt(variance[b, t] + epsilon)
    )
    y = reference["norm.output"] = filled(
        x.shape, lambda b, t, c: z[b, t, c] * exact(NORM["scale"])[c] + exact(NORM["bias"])[c]
    )
    reference["dense.product"] = affine(y, exact(DENSE["kernel"]), None)
    logits = reference["dense.output"] = affine(y, exact(DENSE["kernel"]), exact(DENSE["bias"]))
    reference["probabilities.shifted"] = filled((2, 3, 4), lambda b, t, c: logits[b, t, c] - max(logits[b, t]))
    powers = reference["probabilities.exponentials"] = filled(
        (2, 3, 4), lambda *at: mpmath.exp(reference["probabilities.shifted"][at])
    )
    reference["probabilities.total"] = filled((2, 3, 1), lambda b, t, _: total(powers[b, t]))
    reference["probabilities.output"] = filled((2, 3, 4), lambda b, t, c: softmax(list(logits[b, t]))[c])
    check(steps("sequential", {"x": X}, WEIGHTS, {"parts": PARTS}), reference, most=64)  # four layers deep


def test_the_parts_carry_their_names():
    layer = get_layer("sequential", {"parts": PARTS})
    assert layer.output == "probabilities.output"
    assert layer.inputs == {"x": "batch query channel"}
    assert {"attention.query_kernel", "norm.scale?", "dense.kernel"} <= set(layer.weights)
    assert layer.config["norm.epsilon"] == 1e-3
    assert layer.config["attention.kv_heads"] == 2  # falls back on heads


def test_steps_that_are_not_asked_for_are_left_out():
    found = list(steps("sequential", {"x": X}, WEIGHTS, {"parts": PARTS}))
    assert not any(name.endswith(("masked", "softcapped", "rotated_query")) for name in found)
    causal = [{**PARTS[0], "config": {"heads": 2, "causal": "top-left"}}, *PARTS[1:]]
    found = list(steps("sequential", {"x": X}, WEIGHTS, {"parts": causal}))
    assert found.index("attention.masked") == found.index("attention.weights") - 1


def test_two_parts_of_one_kind_keep_their_own_weights():
    parts = [{"name": "first", "layer": "linear"}, {"name": "second", "layer": "linear"}]
    weights = {"first.kernel": np.array([[1.0, 2.0]]), "second.kernel": np.array([[10.0], [100.0]])}
    found = steps("sequential", {"x": np.array([[3.0]])}, weights, {"parts": parts})
    assert found["first.output"].tolist() == [[3, 6]]
    assert found["second.output"].tolist() == [[630]]


def test_conventions_reach_the_parts():
    parts = [{"name": "norm", "layer": "layer_norm", "config": {"epsilon": 0.5}}]
    row = np.array([[1.0, 2.0, 3.0, 6.0]])
    found = steps("sequential", {"x": row}, {}, {"parts": parts}, norm_epsilon="12.5")
    assert found["norm.normalized"].tolist() == [[-0.5, -0.25, 0, 0.75]]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([{"name": "a"}], "part 0 needs a 'name' and a 'layer'"),
        ([{"layer": "linear"}], "part 0 needs a 'name' and a 'layer'"),
        (["linear"], "part 0 needs a 'name' and a 'layer'"),
        ([{"name": "a", "layer": "linaer"}], "did you mean 'linear'"),
        ([{"name": "a", "layer": "lstm"}], "recurrent parts cannot stand in a row yet"),
        ([{"name": "a", "layer": "linear"}] * 2, "two parts are called 'a'"),
    ],
)
def test_what_cannot_stand_in_a_row_is_refused(parts, message):
    with pytest.raises(ConformanceError, match=message):
        get_layer("sequential", {"parts": parts})


@pytest.mark.parametrize("config", [{}, {"parts": []}])
def test_a_row_of_no_parts_computes_nothing(config):
    with pytest.raises(ConformanceError, match="lists no 'parts'"):
        steps("sequential", {"x": X}, {}, config)
