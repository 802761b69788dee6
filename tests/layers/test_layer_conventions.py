"""Every convention keyword of every layer is in the vocabulary, and every replay of the vocabulary is in a layer."""

import warnings

import numpy as np
import pytest
from exact import drawn, steps

from conformance.conventions import CONFIG, by_keyword, of_layer
from conformance.layers import get_layer, layer_names

COMPOSITES = ("sequential", "transformer_encoder_layer", "transformer_decoder_layer")  # of other layers' steps
LAYERS = [name for name in layer_names() if name not in COMPOSITES]

# Replays that the vocabulary has for a layer, and the oracle's layer not (yet), with the reason.
NOT_REPLAYED = {
    (layer, "rnn.bidirectional-merge"): "in one direction there is nothing to merge; both have a test of their own"
    for layer in ("lstm", "gru", "simple_rnn")
}

HEADS = {"query_kernel": drawn(1, 4, 8), "key_kernel": drawn(2, 4, 4), "value_kernel": drawn(3, 4, 6)}
ROTATED = {"query_kernel": drawn(1, 4, 8), "key_kernel": drawn(2, 4, 8), "value_kernel": drawn(3, 4, 6)}  # two pairs
SHORT = {"query_input": drawn(0, 2, 3, 4), "key_input": drawn(1, 2, 5, 4)}
PADDED = {"query_input": drawn(0, 2, 5, 4), "mask": np.array([[1, 1, 1, 1, 0], [0, 0, 0, 0, 0]], bool)}
POOLS = ({"size": 3, "strides": 2, "padding": "same-upper"}, {"size": 3, "strides": 2})
MOVING = {"moving_mean": drawn(1, 4), "moving_variance": 1 + np.square(drawn(2, 4))}
# Each layer's cases: inputs, weights, config. A convention must show in one of them.
CASES = {
    "scaled_dot_product_attention": [
        (
            {"query": drawn(0, 2, 4, 5, 3), "key": drawn(1, 2, 2, 5, 3), "value": drawn(2, 2, 2, 5, 7),
             "mask": np.tri(5, 5, 1, dtype=bool) & (np.arange(5) != 0)[:, None]},
            {}, {"causal": "top-left", "softcap": 1.5},
        ),
        (
            {"query": drawn(0, 2, 1, 3, 2), "key": drawn(1, 2, 1, 5, 2), "value": drawn(2, 2, 1, 5, 2)},
            {}, {"causal": "top-left"},
        ),
    ],
    "multi_head_attention": [
        (PADDED, HEADS, {"heads": 4, "kv_heads": 2, "softcap": 1.5}),
        (SHORT, HEADS, {"heads": 4, "kv_heads": 2, "causal": "top-left"}),
        (SHORT, ROTATED, {"heads": 2, "rotary": {"base": 10000.0, "pairing": "half-split"}}),
    ],
    "additive_attention": [(
        {"query": drawn(0, 2, 5, 4), "value": drawn(1, 2, 5, 4), "mask": np.array([[1, 1, 1, 1, 0], [0] * 5], bool)},
        {"query_kernel": drawn(2, 4, 3), "key_kernel": drawn(3, 4, 3)}, {},
    )],
    "rotary_embedding": [({"x": drawn(0, 2, 5, 2, 6)}, {}, {"dim": 4})],
    "sinusoidal_position": [({"positions": np.arange(5)}, {}, {"dim": 8})],
    "alibi": [({}, {}, {"heads": 3, "query": 2, "key": 4})],
    "linear": [({"x": drawn(0, 2, 3)}, {"kernel": drawn(1, 3, 4)}, {})],
    "bilinear": [({"first": drawn(0, 2, 3), "second": drawn(1, 2, 3)}, {"kernel": drawn(2, 3, 3, 5)}, {})],
    "embedding": [({"indices": np.array([[0, 2], [1, 1]])}, {"table": drawn(1, 4, 3)}, {})],
    "flatten": [({"x": drawn(0, 2, 3, 4, 5)}, {}, {})],
    "pad": [
        ({"x": drawn(0, 2, 5, 7, 3)}, {}, {"padding": [[2, 1], [1, 2]], "mode": m}) for m in ("constant", "reflect")
    ],
    "pixel_shuffle": [({"x": drawn(0, 2, 3, 5, 8)}, {}, {})],
    "resize": [
        ({"x": drawn(0, 2, 4, 7, 3)}, {}, config)
        for config in (
            {"size": [2, 3]}, {"size": [9, 5], "mode": "bicubic"}, {"scale": 0.6, "mode": "bilinear"},
        )
    ],
    "dropout": [({"x": drawn(0, 2, 3)}, {}, {})],
    "softmax": [({"x": drawn(0, 2, 3)}, {}, {})],
    "layer_norm": [({"x": drawn(0, 2, 3, 4)}, {}, {})],
    "rms_norm": [({"x": drawn(0, 2, 3, 4)}, {"scale": drawn(1, 4)}, {})],
    "batch_norm": [
        ({"x": drawn(0, 2, 3, 4)}, MOVING, {}), ({"x": drawn(0, 2, 3, 4)}, MOVING, {"training": True, "momentum": 0.9}),
    ],
    "group_norm": [({"x": drawn(0, 2, 3, 6)}, {}, {"groups": 3})],
    "instance_norm": [({"x": drawn(0, 2, 3, 4)}, {}, {})],
    "relu": [({"x": drawn(0, 2, 3)}, {}, {})],
    "leaky_relu": [({"x": drawn(0, 2, 3)}, {}, {})],
    "prelu": [({"x": drawn(0, 2, 3)}, {"slope": drawn(1, 3)}, {})],
    "elu": [({"x": drawn(0, 2, 3)}, {}, {})],
    "selu": [({"x": drawn(0, 2, 3)}, {}, {})],
    "celu": [({"x": drawn(0, 2, 3)}, {}, {})],
    "gelu": [({"x": drawn(0, 2, 3)}, {}, {})],
    "silu": [({"x": drawn(0, 2, 3)}, {}, {})],
    "mish": [({"x": drawn(0, 2, 3)}, {}, {})],
    "sigmoid": [({"x": drawn(0, 2, 3)}, {}, {})],
    "log_sigmoid": [({"x": drawn(0, 2, 3)}, {}, {})],
    "hard_sigmoid": [({"x": drawn(0, 2, 3)}, {}, {})],
    "hard_silu": [({"x": drawn(0, 2, 3)}, {}, {})],
    "tanh": [({"x": drawn(0, 2, 3)}, {}, {})],
    "softplus": [({"x": np.linspace(-30, 30, 7)}, {}, {})],
    "softsign": [({"x": drawn(0, 2, 3)}, {}, {})],
    "relu6": [({"x": drawn(0, 2, 3)}, {}, {})],
    "glu": [({"x": drawn(0, 2, 6)}, {}, {})],
    "swiglu": [({"x": drawn(0, 2, 6)}, {}, {})],
    "log_softmax": [({"x": drawn(0, 2, 3)}, {}, {})],
    "feed_forward": [({"x": drawn(0, 2, 3)}, {"expand_kernel": drawn(1, 3, 3), "output_kernel": drawn(2, 3, 3)},
                      {"activation": "gelu"})],
    "lstm": [(
        {"x": drawn(0, 2, 3, 4)},
        {"kernel": drawn(1, 4, 8), "recurrent_kernel": drawn(2, 2, 8), "bias": drawn(3, 8)}, {},
    )],
    "gru": [
        ({"x": drawn(0, 2, 3, 4), "initial_hidden": drawn(5, 2, 2)}, {"kernel": drawn(1, 4, 6),
         "recurrent_kernel": drawn(2, 2, 6), "bias": drawn(3, 6), "recurrent_bias": drawn(4, 6)}, {}),
    ],
    "simple_rnn": [(
        {"x": drawn(0, 2, 3, 4)}, {"kernel": drawn(1, 4, 2), "recurrent_kernel": drawn(2, 2, 2), "bias": drawn(3, 2)},
        {},
    )],
    **{
        f"conv{axes}d": [
            ({"x": drawn(0, 2, *(6, 6, 6)[:axes], 4)}, {"kernel": drawn(1, *(3, 3, 3)[:axes], 2, 6)},
             {"padding": padding, "strides": 2, "groups": 2})
            for padding in ("same-upper", [[2, 0]] * axes)
        ]
        for axes in (1, 2, 3)
    },
    "depthwise_conv2d": [
        ({"x": drawn(0, 2, 6, 6, 3)}, {"kernel": drawn(1, 3, 3, 3, 2)}, {"padding": padding, "strides": 2})
        for padding in ("same-upper", [[2, 0], [2, 0]])
    ],
    "separable_conv2d": [
        ({"x": drawn(0, 2, 6, 6, 3)}, {"depthwise_kernel": drawn(1, 3, 3, 3, 2), "pointwise_kernel": drawn(2, 6, 6)},
         {"padding": padding, "strides": 2})
        for padding in ("same-upper", [[2, 0], [2, 0]])
    ],
    **{
        f"conv_transpose{axes}d": [
            ({"x": drawn(0, 2, *(4, 3, 5)[:axes], 2)}, {"kernel": drawn(1, *(3, 3, 3)[:axes], 4, 2)},
             {"padding": "same-upper", "strides": 2})
        ]
        for axes in (1, 2, 3)
    },
    **{
        f"{kind}_pool{axes}d": [({"x": drawn(0, 2, *(6, 6, 4)[:axes], 3) - 2}, {}, config) for config in POOLS]
        for kind in ("max", "average") for axes in (1, 2, 3)
    },
    "global_average_pool": [({"x": drawn(0, 2, 3, 4)}, {}, {})],
    "global_max_pool": [({"x": drawn(0, 2, 3, 4)}, {}, {})],
    "adaptive_average_pool2d": [({"x": drawn(0, 2, 5, 8, 2)}, {}, {"size": 3})],
}  # fmt: skip

KEYWORDS = [
    (name, step.name, keyword, default)
    for name in LAYERS
    for step in get_layer(name).steps.values()
    for keyword, default in step.conventions.items()
]
VARIANTS = [
    (name, convention.id, variant.value)
    for name in LAYERS
    for convention in of_layer(name)
    for variant in convention.variants
    if variant.kind in ("replay", "precision") and convention.step(name) != "*"
    if not (name.startswith("max_pool") and variant.value == "ceil-divisor")  # a maximum is divided by nothing
    if (name, variant.value) != ("conv1d", "transposed-spatial")  # one axis has none to be exchanged with
]


def test_every_layer_at_hand_has_a_case():
    assert sorted(CASES) == sorted(LAYERS)


@pytest.mark.parametrize(("layer", "step", "keyword", "default"), KEYWORDS)
def test_a_keyword_is_a_convention_that_names_the_layer(layer, step, keyword, default):
    convention = by_keyword(keyword)
    assert convention is not None
    assert layer in convention.layers or "*" in convention.layers
    assert default in (CONFIG, convention.canonical)


@pytest.mark.parametrize(("layer", "step", "keyword", "default"), KEYWORDS)
def test_a_convention_acts_at_the_step_that_it_names_or_after_it(layer, step, keyword, default):
    convention = by_keyword(keyword)
    assert convention is not None
    order = ["*", *get_layer(layer).steps]
    assert order.index(convention.step(layer)) <= order.index(step) or keyword == "attention_softcap"


@pytest.mark.parametrize(("layer", "identifier", "value"), VARIANTS)
def test_a_replay_of_the_vocabulary_is_one_that_the_oracle_can_do(layer, identifier, value):
    convention = next(c for c in of_layer(layer) if c.id == identifier)
    acting = [s.name for s in get_layer(layer).steps.values() if convention.keyword in s.conventions]
    assert (acting == []) == ((layer, identifier) in NOT_REPLAYED)
    if not acting:
        return
    choice = {convention.keyword: "0.25" if value.startswith("<") else value}
    first = [changed(layer, case, choice) for case in CASES[layer] if fits(layer, case, choice)]
    assert set(first) - {None} == {convention.step(layer)}


def fits(layer, case, choice):
    """A mask's axes can be exchanged only where there are as many queries as keys; rotation splits the heads itself."""
    if "attention_head_split" in choice:
        return "rotary" not in case[2]
    return choice != {"attention_mask_axis": "query"} or "key_input" not in case[0]


def changed(layer, case, choice):
    """The first step that the choice changes."""
    canonical = steps(layer, *case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NaN and infinities are what some variants are about
        found = steps(layer, *case, **choice)
    assert list(found) == list(canonical)
    if get_layer(layer).scan is not None:  # a later time step sees what the one before left
        canonical, found = ({n: v[:, 0] for n, v in values.items()} for values in (canonical, found))
    return next((n for n in canonical if not np.array_equal(found[n], canonical[n], equal_nan=True)), None)


NAMED_IN_CONFIG = {
    "norm_epsilon": "epsilon",
    "gelu_approximation": "approximation",
    "leaky_relu_slope": "slope",
    "elu_alpha": "alpha",
    "lstm_recurrent_activation": "recurrent_activation",
    "gru_reset": "reset",
    "attention_causal_alignment": "causal",
    "rope_base": "base",
    "rope_pairing": "pairing",
    "sinusoidal_base": "base",
    "conv_padding": "padding",
    "conv_same_padding": "padding",
    "conv_transpose_padding": "padding",
    "pool_ceil_mode": "ceil_mode",
    "pad_mode": "mode",
    "resize_coordinates": "coordinates",
    "resize_nearest_rounding": "nearest_rounding",
    "resize_cubic_coefficient": "cubic_coefficient",
    "resize_outside": "outside",
    "resize_antialias": "antialias",
    "pixel_shuffle_mode": "mode",
    "pool_count_include_pad": "count_include_pad",
}
SAID = {  # what a config entry is called where the convention has another word
    ("conv_transpose_padding", "same-upper"): "crop-upper",
    ("pool_ceil_mode", False): "floor",
    ("pool_count_include_pad", False): "exclude",
    ("resize_antialias", False): "off",
}


@pytest.mark.parametrize(
    ("layer", "keyword", "canonical"),
    sorted({(layer, k, by_keyword(k).canonical) for layer, _, k, d in KEYWORDS if d != CONFIG}),
)
def test_the_canonical_value_said_aloud_changes_nothing(layer, keyword, canonical):
    assert {changed(layer, case, {keyword: canonical}) for case in CASES[layer]} == {None}


@pytest.mark.parametrize(("layer", "keyword"), sorted({(layer, k) for layer, _, k, d in KEYWORDS if d == CONFIG}))
def test_the_configs_own_value_said_aloud_changes_nothing(layer, keyword):
    for case in CASES[layer]:
        full = get_layer(layer).complete(case[2])
        full |= full.get("rotary") or {}
        own = CONFIG if keyword == "norm_axes" else full.get(NAMED_IN_CONFIG[keyword], CONFIG)
        said = SAID.get((keyword, own), own) if isinstance(own, bool | str) else own
        assert changed(layer, case, {keyword: said}) is None
