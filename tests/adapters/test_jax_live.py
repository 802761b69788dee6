"""Live subjects of JAX and Flax: what they are, what they hold, where they go wrong, and what is inside of them."""

import subprocess
import sys
from dataclasses import dataclass
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from conformance.checking import check, check_model
from conformance.errors import ConformanceError, Unsupported
from conformance.subject import Call
from conformance_adapters.jax_cache import keep_compiled
from conformance_adapters.jax_flax import JaxAdapter
from conformance_adapters.jax_live import opened

ADAPTER = JaxAdapter()
keep_compiled()
KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(2, 5, 6))


@pytest.fixture(autouse=True, scope="module")
def without_float64():
    """As in a user's process; other tests of this process may have switched it on."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", False)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture(autouse=True)
def left_as_it_was(without_float64):
    """What a check does to JAX's configuration, it undoes."""
    yield
    assert not jax.config.jax_enable_x64


def rngs():
    return nnx.Rngs(0)


def with_variables(module, *shape):
    """The module, and variables of which none is zero or one."""
    variables = module.init(KEY, jnp.ones(shape))
    leaves, tree = jax.tree.flatten(variables)
    drawn = [jax.random.normal(jax.random.fold_in(KEY, i), v.shape, v.dtype) for i, v in enumerate(leaves)]
    return module, jax.tree.unflatten(tree, drawn)


def drawn(module):
    """A module of nnx of whose parameters none is zero or one."""
    for i, (_, variable) in enumerate(nnx.to_flat_state(nnx.state(module, nnx.Param))):
        variable.set_value(jax.random.normal(jax.random.fold_in(KEY, i), variable.shape, variable.dtype))
    return module


def seen(case):
    return {s.name for s in case.steps if s.status != "not-observed"}


# -------------------------------------------------------------------------------- whose it is ----
def test_ownership_is_told_by_type():
    dense = nn.Dense(3)
    variables = dense.init(KEY, jnp.ones((2, 4)))
    for subject in (
        nnx.Linear(2, 3, rngs=rngs()), dense, (dense, variables), dense.bind(variables), jax.jit(lambda x: x),
        jax.nn.softmax, jax.nn.relu, jax.nn.gelu, nn.dot_product_attention, partial(jax.nn.softmax, axis=0),
        partial(lambda w, x: x @ w["kernel"], {"kernel": jnp.ones((2, 3))}), nnx.jit(lambda m, x: m(x)), Affine(),
    ):  # fmt: skip
        assert ADAPTER.owns(subject), subject
    for subject in (lambda x: x, np.tanh, 3, "model.onnx", (1, 2), jnp.ones(3), {"w": jnp.ones(3)}, partial(max, 3)):
        assert not ADAPTER.owns(subject), subject


def test_nothing_is_imported_to_tell():
    code = (
        "import sys\nfrom conformance_adapters.jax_flax import JaxAdapter\n"
        "assert not JaxAdapter().owns(lambda x: x) and not JaxAdapter().owns(object())\n"
        "assert not {'jax', 'flax', 'torch', 'tensorflow'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_only_its_own_framework_is_imported():
    code = (
        "import sys, jax\nfrom conformance import check\n"
        "assert check(jax.nn.softmax, 'softmax').status == 'conforms'\n"
        "from flax import nnx\n"
        "assert check(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), 'linear').status == 'conforms'\n"
        "assert not {'torch', 'tensorflow', 'keras', 'onnxruntime'} & set(sys.modules)\n"
        "assert not jax.config.jax_enable_x64 and jax.config.jax_compilation_cache_dir is None\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_linen_module_without_variables_says_what_to_give():
    with pytest.raises(ConformanceError, match=r"give \(module, variables\)"):
        opened(nn.Dense(3))
    with pytest.raises(ConformanceError, match="what init gave"):
        opened((nn.Dense(3), {"kernel": jnp.ones((2, 3))}))
    with pytest.raises(ConformanceError, match="is a class"):
        opened(nnx.Linear)


# ------------------------------------------------------------------------------ own modules ----
RNNS = [nnx.LSTMCell, nnx.OptimizedLSTMCell]
OWN = [
    ("linear", lambda: nnx.Linear(3, 5, rngs=rngs()), {}),
    ("linear", lambda: nnx.Linear(3, 5, use_bias=False, rngs=rngs()), {}),
    ("linear", lambda: with_variables(nn.Dense(5), 2, 3), {}),
    ("layer_norm", lambda: nnx.LayerNorm(7, epsilon=1e-3, rngs=rngs()), {"axes": 1, "epsilon": 1e-3}),
    ("layer_norm", lambda: nnx.LayerNorm(7, use_fast_variance=False, rngs=rngs()), {"axes": 1, "epsilon": 1e-6}),
    ("layer_norm", lambda: with_variables(nn.LayerNorm(use_bias=False), 2, 7), {"axes": 1, "epsilon": 1e-6}),
    (
        "layer_norm",
        lambda: with_variables(nn.LayerNorm(reduction_axes=(-2, -1), feature_axes=(-2, -1)), 2, 5, 7),
        {"axes": 2, "epsilon": 1e-6},
    ),
    (
        "conv2d",
        lambda: nnx.Conv(4, 6, (3, 5), strides=2, kernel_dilation=(1, 2), feature_group_count=2, rngs=rngs()),
        {"strides": (2, 2), "padding": "same-upper", "dilation": (1, 2), "groups": 2},
    ),
    (
        "conv2d",
        lambda: with_variables(nn.Conv(6, (3, 5), strides=None, padding=[1, (2, 0)]), 2, 11, 13, 4),
        {"strides": (1, 1), "padding": ((1, 1), (2, 0)), "dilation": (1, 1), "groups": 1},
    ),
    ("multi_head_attention", lambda: nnx.MultiHeadAttention(2, 6, dropout_rate=0.3, rngs=rngs()), {"heads": 2}),
    (
        "multi_head_attention",
        lambda: nnx.MultiHeadAttention(4, 6, 12, num_kv_heads=2, in_kv_features=7, use_bias=False, rngs=rngs()),
        {"heads": 4, "kv_heads": 2},
    ),
    (
        "multi_head_attention",
        lambda: with_variables(nn.MultiHeadDotProductAttention(2, dropout_rate=0.3, deterministic=True), 2, 5, 6),
        {"heads": 2},
    ),
    ("multi_head_attention", lambda: with_variables(nn.SelfAttention(3), 2, 5, 6), {"heads": 3}),
    *[
        ("lstm", lambda cell=cell, named=named: nnx.RNN(cell(3, 5, rngs=rngs()), **named), {"direction": direction})
        for cell in RNNS
        for named, direction in (
            ({"rngs": False}, "forward"),
            ({"reverse": True, "time_major": True, "return_carry": True}, "reverse"),
        )
    ],
    (
        "lstm",
        lambda: with_variables(nn.RNN(nn.LSTMCell(5, gate_fn=jax.nn.hard_sigmoid), reverse=True), 2, 4, 3),
        {"direction": "reverse", "recurrent_activation": "hard_sigmoid"},
    ),
    ("lstm", lambda: with_variables(nn.RNN(nn.OptimizedLSTMCell(5)), 2, 4, 3), {"direction": "forward"}),
]


@pytest.mark.parametrize(("layer", "make", "config"), OWN)
def test_an_own_module_conforms_by_its_own_config_and_weights(layer, make, config):
    subject = drawn(make()) if isinstance(subject := make(), nnx.Module) else subject
    live = opened(subject)
    own = live.own()
    assert own.layer == layer
    assert config.items() <= own.config.items()
    held = sum(np.abs(a).sum() for a in live.parameters().values())
    assert sum(np.abs(w).sum() for w in own.weights.values()) == pytest.approx(held, rel=1e-5)
    case = check(subject, layer)
    assert (case.status, case.culprit) == ("conforms", None)
    assert case.subject.startswith("flax.")
    assert case.dtype == "float32"
    assert seen(case) >= {case.steps[-1].name}


def test_a_config_that_is_not_its_own_is_found_at_its_step():
    case = check(nnx.LayerNorm(7, epsilon=1e-3, rngs=rngs()), "layer_norm", config={"epsilon": 0.1})
    assert (case.status, case.culprit) == ("diverges", "normalized")
    case = check(nnx.RNN(nnx.LSTMCell(3, 5, rngs=rngs()), reverse=True), "lstm", config={"direction": "forward"})
    assert case.status == "diverges"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: nnx.MultiHeadAttention(2, 6, normalize_qk=True, rngs=rngs()), "normalises queries"),
        (lambda: nnx.MultiHeadAttention(2, 6, decode=True, rngs=rngs()), "cache"),
        (lambda: nnx.Conv(3, 4, (3, 3, 3, 3), rngs=rngs()), "4 axes"),
        (lambda: nnx.Conv(3, 4, (3, 3), padding="CIRCULAR", rngs=rngs()), "CIRCULAR"),
        (lambda: nnx.Conv(3, 4, (3, 3), input_dilation=2, rngs=rngs()), "input_dilation"),
        (lambda: nnx.LayerNorm(3, reduction_axes=0, rngs=rngs()), "counted from the end"),
        (lambda: nnx.RNN(nnx.OptimizedLSTMCell(3, 5, activation_fn=jnp.sin, rngs=rngs())), "activation_fn is sin"),
        (lambda: nnx.RNN(nnx.LSTMCell(3, 5, activation_fn=jnp.sin, rngs=rngs())), "activation_fn is sin"),
        (lambda: with_variables(nn.RNN(nn.LSTMCell(5, carry_init=nn.initializers.ones)), 2, 4, 3), "carry_init"),
    ],
)
def test_options_that_the_canonical_layer_lacks_are_unsupported(make, said):
    with pytest.raises(Unsupported, match=said):
        opened(make()).own()


def test_a_subclass_may_compute_anything_and_is_nobodys():
    class Doubled(nnx.Linear):
        def __call__(self, inputs):
            return 2 * super().__call__(inputs)

    live = opened(Doubled(3, 5, rngs=rngs()))
    assert live.own() is None
    assert live.name == "Doubled"
    trace = live.run(Call({"x": X[..., :3]}, "float32", "linear"))
    kernel = live.parameters()["kernel"]
    assert np.allclose(trace.output, 2 * X[..., :3] @ kernel, atol=1e-5)


def test_a_module_that_computes_in_another_dtype_is_of_that_dtype():
    subject = drawn(nnx.Linear(3, 5, dtype=jnp.bfloat16, rngs=rngs()))
    live = opened(subject)
    assert live.dtype == "bfloat16"
    rounded = np.asarray(subject.kernel[...].astype(jnp.bfloat16).astype(jnp.float32))
    assert np.array_equal(live.own().weights["kernel"], rounded)
    assert check(subject, "linear").dtype == "bfloat16"
    assert check(subject, "linear").status == "conforms"
    assert check(subject, "linear", dtype="float64").status == "conforms"
    assert subject.dtype == jnp.bfloat16


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
@pytest.mark.parametrize(
    "make", [lambda: nnx.Linear(3, 5, rngs=rngs()), lambda: with_variables(nn.Dense(5, dtype=jnp.float32), 2, 3)]
)
def test_a_converted_copy_runs_in_another_dtype(make, dtype):
    subject = make()
    trace = opened(subject).run(Call({"x": X[..., :3]}, dtype, "linear"))
    assert {e.array.dtype for e in trace.tape} == {trace.output.dtype}
    assert trace.output.dtype == {"bfloat16": "float32"}.get(dtype, dtype)
    assert {a.dtype for a in jax.tree.leaves(subject[1] if isinstance(subject, tuple) else nnx.state(subject))} == {
        jnp.dtype("float32")
    }
    assert check(subject, "linear", dtype=dtype).status == "conforms"


# ------------------------------------------------------------------------------ own functions ----
@pytest.mark.parametrize(
    ("function", "layer", "config"),
    [
        (jax.nn.softmax, "softmax", {"axis": -1}),
        (partial(jax.nn.softmax, axis=0), "softmax", {"axis": 0}),
        (nnx.softmax, "softmax", {"axis": -1}),
        (jax.nn.gelu, "gelu", {"approximation": "tanh"}),
        (partial(jax.nn.gelu, approximate=False), "gelu", {"approximation": "none"}),
        (nn.dot_product_attention, "scaled_dot_product_attention", {}),
    ],
)
def test_an_own_function_conforms_by_its_own_options(function, layer, config):
    own = opened(function).own()
    assert (own.layer, own.config, own.weights) == (layer, config, {})
    assert check(function, layer).status == "conforms"


def test_jax_attention_takes_canonical_inputs_in_its_own_axes():
    draw = np.random.default_rng(1).normal
    inputs = {"query": draw(size=(2, 3, 5, 4)), "key": draw(size=(2, 3, 7, 4)), "value": draw(size=(2, 3, 7, 4))}
    function = partial(jax.nn.dot_product_attention, is_causal=True, scale=0.3, local_window_size=2)
    assert opened(function).own().config == {"causal": "top-left", "scale": 0.3, "window": 2}
    case = check(function, "scaled_dot_product_attention", inputs=inputs)
    assert (case.status, case.subject) == ("conforms", "jax.nn.dot_product_attention")
    case = check(function, "scaled_dot_product_attention", inputs=inputs, config={"scale": None})
    assert (case.status, case.culprit) == ("diverges", "scaled")
    with pytest.raises(Unsupported, match="as wide as its keys"):
        opened(function).run(Call(inputs | {"value": X[:, :3, :, None]}, "float32", "scaled_dot_product_attention"))


def test_options_of_functions_that_the_layer_lacks_are_unsupported():
    with pytest.raises(Unsupported, match="query_seq_lengths"):
        opened(partial(jax.nn.dot_product_attention, query_seq_lengths=jnp.ones(2, int))).own()
    with pytest.raises(Unsupported, match="sums over one"):
        opened(partial(jax.nn.softmax, axis=(0, 1))).own()


# ----------------------------------------------------------------------------- users' functions ----
PARAMS = {n: jax.random.normal(jax.random.fold_in(KEY, i), (6, 6), jnp.float32) for i, n in enumerate("qkvo")}


def attention(x, params, scale=True, axis=-1):
    q, k, v = (jnp.reshape(x @ params[n], (*x.shape[:2], 2, 3)).transpose(0, 2, 1, 3) for n in "qkv")
    scores = q @ k.swapaxes(-1, -2)
    weights = jax.nn.softmax(scores / 3**0.5 if scale else scores, axis=axis)
    return (weights @ v).transpose(0, 2, 1, 3).reshape(x.shape) @ params["o"]


def of_globals(x):
    return attention(x, PARAMS)


def ways(**options):
    """The same function, handed over in different ways."""
    params = PARAMS
    return {
        "partial": partial(attention, params=params, **options),
        "closure": lambda x: attention(x, params, **options),
        "jitted": jax.jit(lambda x: attention(x, params, **options)),
    }


def checked(function, **options):
    return check(
        function, "multi_head_attention", inputs={"query_input": X}, config={"heads": 2}, adapter="jax", **options
    )


@pytest.mark.parametrize("way", ["partial", "closure", "jitted"])
@pytest.mark.parametrize("dtype", [None, "float64"])
def test_a_function_is_judged_by_the_arrays_that_it_holds(way, dtype):
    function = ways()[way]
    held = opened(function).parameters()
    assert sorted(held) == [f"params.{n}" for n in "koqv"]
    assert all(np.array_equal(held[f"params.{n}"], PARAMS[n]) for n in PARAMS)
    case = checked(function, dtype=dtype)
    assert (case.status, case.dtype) == ("conforms", dtype or "float32")
    assert {"scores", "weights", "context"} <= seen(case)
    assert case.steps[-1].accumulated.ratio > 0


@pytest.mark.parametrize("way", ["partial", "closure", "jitted"])
def test_its_faults_are_found_at_their_step(way):
    case = checked(ways(scale=False)[way])
    assert (case.status, case.culprit) == ("diverges", "scaled")
    assert ("attention.scale", "1") in {(d.convention, d.value) for d in case.diagnosis}
    case = checked(ways(axis=-2)[way])
    assert (case.status, case.culprit) == ("diverges", "weights")


def test_globals_are_parameters_too():
    assert sorted(opened(of_globals).parameters()) == [f"PARAMS.{n}" for n in "koqv"]
    assert checked(of_globals).status == "conforms"


def test_narrow_copies_of_functions():
    x = X[..., None, :]
    for way in ("partial", "closure"):
        trace = opened(ways()[way]).run(Call({"x": X}, "float16"))
        products = {e.array.dtype for e in trace.tape if e.operation.endswith("dot_general")}
        assert products | {trace.output.dtype} == {np.dtype(np.float16)}, way
    assert PARAMS["q"].dtype == jnp.float32
    assert checked(ways()["jitted"], dtype="float16").status == "unsupported"
    assert opened(lambda x: x * 2).run(Call({"x": x}, "bfloat16")).output.dtype == np.float32


def test_inputs_are_given_by_name_or_in_their_order():
    def scaled(value, factor, *, shift=0.0, deterministic, train=True):
        assert deterministic
        assert not train
        return value * factor + shift

    live = opened(scaled)
    by_name = live.run(Call({"factor": X + 1, "value": X}, "float32")).output
    in_order = live.run(Call({"a": X, "b": X + 1}, "float32")).output
    shifted = live.run(Call({"a": X, "b": X + 1, "shift": X}, "float32")).output
    assert np.allclose(by_name, X * (X + 1), atol=1e-5)
    assert np.array_equal(by_name, in_order)
    assert np.allclose(shifted, X * (X + 2), atol=1e-5)
    assert opened(jnp.tanh).run(Call({"x": X}, "float32")).output == pytest.approx(np.tanh(X), abs=1e-6)
    through = live.run(Call({"x": X}, "float32", through=lambda f, x: {"y": f(x, x, deterministic=True, train=False)}))
    assert np.allclose(through.output, X * X, atol=1e-5)


def test_what_jax_cannot_trace_is_judged_by_its_output():
    def softmax(x):
        if float(x.max()) > 1e9:
            return x
        return jnp.exp(x) / jnp.exp(x).sum(-1, keepdims=True)

    with pytest.warns(UserWarning, match="only the output of softmax"):
        case = check(softmax, "softmax", adapter="jax")
    assert (case.status, seen(case)) == ("conforms", {"output"})


def test_a_function_that_calls_itself_is_copied():
    weight = jnp.full((6,), 2.0, jnp.float32)

    def repeated(x, times=2):
        return x if times == 0 else repeated(x * weight, times - 1)

    trace = opened(repeated).run(Call({"x": X}, "float16"))
    assert trace.output.dtype == np.float16
    assert np.allclose(trace.output, 4 * X, rtol=1e-2)


@jax.tree_util.register_dataclass
@dataclass
class Affine:
    """A callable pytree, as libraries of modules on JAX make them."""

    kernel: jax.Array = None
    bias: jax.Array = None

    def __post_init__(self):
        self.kernel = jnp.arange(6.0).reshape(2, 3) if self.kernel is None else self.kernel
        self.bias = jnp.ones(3) if self.bias is None else self.bias

    def __call__(self, x):
        return x @ self.kernel + self.bias

    def twice(self, x):
        return self(x) * 2


def test_a_callable_pytree_and_its_methods():
    model = Affine()
    assert sorted(opened(model).parameters()) == ["bias", "kernel"]
    case = check(model, "linear", inputs={"x": X[..., :2]}, dtype="float64")
    assert (case.status, case.subject, case.dtype) == ("conforms", "Affine", "float64")
    assert model.kernel.dtype == jnp.float32
    assert sorted(opened(model.twice).parameters()) == ["bias", "kernel"]
    case = check(model.twice, "linear", inputs={"x": X[..., :2]})
    assert case.status == "diverges"


# ------------------------------------------------------------------------------- users' modules ----
class Block(nnx.Module):
    def __init__(self, rngs, causal=True):
        self.norm = nnx.LayerNorm(6, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 6, decode=False, rngs=rngs)
        self.up = nnx.Linear(6, 12, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.down = nnx.Linear(12, 6, rngs=rngs)
        self.calls = nnx.Variable(jnp.zeros((), jnp.int32))
        self.causal = causal

    def __call__(self, x, mask=None):
        self.calls[...] += 1
        x = x + self.attention(self.norm(x), mask=mask, is_causal=self.causal)
        return x + self.down(self.drop(jax.nn.gelu(self.up(x))))


class Network(nnx.Module):
    """One block twice, in a transformation that makes the modules anew."""

    def __init__(self, rngs):
        self.embed = nnx.Linear(3, 6, rngs=rngs)
        self.blocks = nnx.List([Block(rngs), Block(rngs, causal=False)])
        self.recurrent = nnx.RNN(nnx.OptimizedLSTMCell(6, 5, rngs=rngs))

    @nnx.jit
    def __call__(self, x):
        x = self.embed(x)
        for block in (*self.blocks, self.blocks[0]):
            x = block(x)
        return self.recurrent(x)


IN_BLOCK = ["norm", "attention", "up", "drop", "down"]


def test_the_layers_inside_a_module_in_the_order_in_which_they_run():
    network = Network(rngs())
    parts = list(opened(network).parts(Call({"x": X[..., :3]}, "float32")))
    assert [p.path for p in parts] == [
        "embed",
        *(f"blocks.0.{n}" for n in IN_BLOCK),
        *(f"blocks.1.{n}" for n in IN_BLOCK),
        *(f"blocks.0.{n}#2" for n in IN_BLOCK),
        "recurrent",
    ]
    assert not any(p.unsupported for p in parts)
    embedded = X[..., :3].astype(np.float32) @ np.asarray(network.embed.kernel[...])
    assert np.allclose(parts[1].inputs["x"], embedded, atol=1e-6)
    assert parts[1].inputs["x"].dtype == np.float64
    centred = embedded - embedded.mean(-1, keepdims=True)
    normal = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    assert np.allclose(parts[2].inputs["query_input"], normal, atol=1e-4)
    assert parts[2].subject.own().config == {"heads": 2, "causal": "top-left"}
    assert parts[7].subject.own().config == {"heads": 2}
    assert np.array_equal(parts[1].inputs["x"], parts[1].inputs["x"].astype(np.float32))


def test_a_module_is_not_changed_and_runs_for_inference():
    network = Network(rngs())
    before, definition = jax.tree.leaves(nnx.state(network)), nnx.graphdef(network)
    call = nnx.Linear.__dict__["__call__"]
    run = check_model(network)
    assert {c.status for c in run.cases} == {"conforms"}
    live = opened(network)
    first, second = (live.run(Call({"x": X[..., :3]}, "float32")) for _ in range(2))
    assert np.array_equal(first.output, second.output)
    assert np.allclose(first.output, first.observed_output, atol=1e-5)
    assert all(a is b for a, b in zip(before, jax.tree.leaves(nnx.state(network)), strict=True))
    assert nnx.graphdef(network) == definition
    assert network.blocks[0].drop.deterministic is False
    assert nnx.Linear.__dict__["__call__"] is call


def test_the_classes_are_whole_again_after_a_failure():
    class Broken(nnx.Module):
        def __init__(self):
            self.linear = nnx.Linear(3, 6, rngs=rngs())

        def __call__(self, x):
            raise KeyError(self.linear(x).shape)

    call = nnx.Linear.__dict__["__call__"]
    with pytest.raises(KeyError):
        list(opened(Broken()).parts(Call({"x": X[..., :3]}, "float32")))
    assert nnx.Linear.__dict__["__call__"] is call
    nn.Dense(3).init(KEY, jnp.ones((2, 3)))  # and no interceptor is left


def test_masks_that_are_numbers_are_masks():
    block = Block(rngs(), causal=False)
    mask = nnx.make_causal_mask(jnp.ones((2, 5)))
    assert mask.dtype == jnp.float32
    parts = list(opened(block).parts(Call({"x": X, "mask": np.asarray(mask, np.float64)}, "float32")))
    given = parts[1].inputs["mask"]
    assert given.dtype == bool
    assert np.array_equal(given[0, 0], np.tri(5, dtype=bool))
    run = check_model(block, inputs={"x": X, "mask": mask})
    assert {c.status for c in run.cases} == {"conforms"}


def test_a_fault_in_a_module_is_found_in_its_layer():
    class Unnormalised(nnx.Module):
        def __init__(self, rngs):
            self.query, self.key, self.value = (nnx.Linear(6, 6, use_bias=False, rngs=rngs) for _ in range(3))

        def __call__(self, x):
            q, k, v = self.query(x), self.key(x), self.value(x)
            return jax.nn.softmax(q @ k.mT) @ v

    model = drawn(Unnormalised(rngs()))
    inputs = {"query_input": X / 3}
    case = check(model, "multi_head_attention", inputs=inputs)
    assert (case.subject, case.status, case.culprit) == ("Unnormalised", "diverges", "scaled")
    assert check(model, "multi_head_attention", inputs=inputs, config={"scale": 1.0}).status == "conforms"
    assert {c.status for c in check_model(model, inputs={"x": X}).cases} == {"conforms"}


def test_a_fault_in_a_layer_of_flax_is_found_in_a_model(monkeypatch):
    def wrong(query, key, value, *args, mask=None, is_causal=False, **kwargs):
        return jax.nn.dot_product_attention(query, key, value, scale=1.0, is_causal=is_causal)

    network = Network(rngs())
    network.blocks[1].attention.attention_fn = wrong
    run = check_model(network)
    assert {c.subject: c.culprit for c in run.cases if c.status != "conforms"} == {"blocks.1.attention": "scaled"}


def test_modules_that_a_function_has_hold_of():
    block = Block(rngs())

    def function(x):
        return block(x)

    assert "block.up.kernel" in opened(function).parameters()
    parts = list(opened(function).parts(Call({"x": X}, "float64")))
    assert [p.path for p in parts] == [f"block.{n}" for n in IN_BLOCK]
    assert parts[2].subject.dtype == "float64"
    assert block.calls[...] == 0
    assert opened(function).run(Call({"x": X}, "float64")).output.dtype == np.float64
    bound = partial(nnx.jit(lambda model, x: model(x)), block)
    assert np.allclose(opened(bound).run(Call({"x": X}, "float32")).output, opened(block).run(
        Call({"x": X}, "float32")).output, atol=1e-5)  # fmt: skip


def test_arguments_come_from_the_first_layer():
    asked = opened(Network(rngs())).arguments()
    assert [(a.name, a.shape[-1], a.dtype) for a in asked] == [("x", 3, "float32")]
    with pytest.raises(ConformanceError, match="give them"):
        opened(lambda x: x).arguments()


# ---------------------------------------------------------------------------------------- linen ----
class LinenBlock(nn.Module):
    causal: bool = True

    @nn.compact
    def __call__(self, x, train: bool = True):
        mask = nn.make_causal_mask(x[..., 0]) if self.causal else None
        x = x + nn.MultiHeadDotProductAttention(2, name="attention")(nn.LayerNorm()(x), mask=mask)
        return x + nn.Dropout(0.5)(nn.Dense(6)(jax.nn.gelu(nn.Dense(12)(x))), deterministic=not train)


class LinenNetwork(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Dense(6, name="embed")(x)
        x = nn.remat(LinenBlock, static_argnums=(2,))(name="first")(x, train)
        x = LinenBlock(causal=False, name="second")(x, train)
        return nn.RNN(nn.OptimizedLSTMCell(5), name="recurrent")(x)


# What is made first is not what runs first.
IN_LINEN_BLOCK = ["LayerNorm_0", "attention", "Dense_1", "Dense_0", "Dropout_0"]


@pytest.fixture(scope="module")
def linen_network():
    module = LinenNetwork()
    return module, module.init(KEY, jnp.ones((2, 5, 3)), False)


def test_the_layers_inside_a_linen_module(linen_network):
    module, variables = linen_network
    for subject in (linen_network, module.bind(variables)):
        parts = list(opened(subject).parts(Call({"x": X[..., :3]}, "float32")))
        assert not any(p.unsupported for p in parts)
        assert [p.path for p in parts] == [
            "embed",
            *(f"first.{n}" for n in IN_LINEN_BLOCK),
            *(f"second.{n}" for n in IN_LINEN_BLOCK),
            "recurrent",
        ]
    kernel = np.asarray(variables["params"]["embed"]["kernel"])
    assert np.allclose(parts[1].inputs["x"], X[..., :3] @ kernel, atol=1e-6)
    assert np.array_equal(parts[2].inputs["mask"][0, 0], np.tri(5, dtype=bool))
    assert parts[2].inputs["mask"].dtype == bool
    cases = check_model(linen_network, inputs={"x": X[..., :3]}).cases
    assert len(cases) == 12
    assert {c.status for c in cases} == {"conforms"}


def test_parameters_of_linen_by_path(linen_network):
    _, variables = linen_network
    held = opened(linen_network).parameters()
    assert np.array_equal(held["first.Dense_0.kernel"], variables["params"]["first"]["Dense_0"]["kernel"])
    assert all(a.dtype == np.float32 for a in held.values())
    assert opened(linen_network).dtype == "float32"


def test_a_users_linen_module_is_judged_and_called_as_it_was_given():
    class Softmax(nn.Module):
        temperature: float = 1.0

        def __call__(self, x):
            return jax.nn.softmax(x / self.temperature)

    assert check((Softmax(), {}), "softmax").status == "conforms"
    assert check(Softmax().bind({}), "softmax").status == "conforms"
    case = check((Softmax(2.0), {}), "softmax")
    assert (case.status, case.culprit, case.subject) == ("diverges", "shifted", "Softmax")
    pair = check((Softmax(), {}), "softmax", call=lambda pair, x: pair[0].apply(pair[1], x))
    bound = check(Softmax().bind({}), "softmax", call=lambda module, x: module(x))
    assert (pair.status, bound.status) == ("conforms", "conforms")


def test_each_layer_of_mixed_precision_is_judged_in_its_own():
    class Mixed(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(4, name="wide")(nn.Dense(6, dtype=jnp.bfloat16, name="narrow")(x))

    run = check_model(with_variables(Mixed(), 2, 6), inputs={"x": X})
    assert {c.subject: (c.status, c.dtype) for c in run.cases} == {
        "wide": ("conforms", "float32"),
        "narrow": ("conforms", "bfloat16"),
    }


def test_a_cell_that_is_made_beside_its_rnn_and_one_that_is_not():
    class Inside(nn.Module):
        def setup(self):
            self.recurrent = nn.RNN(nn.LSTMCell(5))

        def __call__(self, x):
            return self.recurrent(x)

    for subject in (with_variables(nn.RNN(nn.LSTMCell(5)), 2, 4, 3), with_variables(Inside(), 2, 4, 3)):
        (part,) = opened(subject).parts(Call({"x": X[..., :3]}, "float32"))
        assert np.array_equal(part.inputs["x"], X[..., :3].astype(np.float32))
        held = opened(subject).parameters()
        gates = [next(a for n, a in held.items() if n.endswith(f"i{g}.kernel")) for g in "ifgo"]
        assert np.array_equal(part.subject.own().weights["kernel"], np.concatenate(gates, axis=1))


def test_what_is_rematerialised_has_values_and_a_path():
    class Rematerialised(nnx.Module):
        def __init__(self):
            self.bidirectional = nnx.Bidirectional(*(nnx.RNN(nnx.LSTMCell(6, 3, rngs=rngs())) for _ in range(2)))
            self.linear = drawn(nnx.Linear(6, 4, rngs=rngs()))
            self.other = drawn(nnx.Linear(6, 4, use_bias=False, rngs=rngs()))

        @nnx.remat
        def last(self, x):
            return self.linear(x) + self.other(x)

        def __call__(self, x):
            return self.last(self.bidirectional(x))

    parts = list(opened(Rematerialised()).parts(Call({"x": X}, "float32")))
    assert [p.path for p in parts] == ["bidirectional", "linear", "other"]
    assert parts[0].subject.own().config["direction"] == "bidirectional"
    assert np.array_equal(parts[1].inputs["x"], parts[2].inputs["x"])


def both(cell, **options):
    """Two cells of nnx in both directions."""
    made = [nnx.RNN(cell(6, 3, rngs=rngs())) for _ in range(2)]
    return drawn(nnx.Bidirectional(*made, rngs=rngs(), **options))


@pytest.mark.parametrize(
    ("make", "layer"),
    [
        (lambda: both(nnx.LSTMCell), "lstm"),
        (lambda: both(nnx.OptimizedLSTMCell, time_major=True), "lstm"),
        (lambda: both(nnx.GRUCell, return_carry=True), "gru"),
        (lambda: both(nnx.SimpleCell), "simple_rnn"),
        (lambda: with_variables(nn.Bidirectional(nn.RNN(nn.LSTMCell(3)), nn.RNN(nn.LSTMCell(3))), 2, 4, 6), "lstm"),
        (lambda: with_variables(nn.Bidirectional(nn.RNN(nn.GRUCell(3)), nn.RNN(nn.GRUCell(3))), 2, 4, 6), "gru"),
    ],
)
def test_both_directions_are_known(make, layer):
    subject = make()
    own = opened(subject).own()
    assert (own.layer, own.config["direction"]) == (layer, "bidirectional")
    assert {"kernel", "reverse_kernel"} <= own.weights.keys()
    case = check(subject, layer)
    assert (case.status, case.culprit) == ("conforms", None)


def test_two_directions_that_are_merged_otherwise_are_two_layers():
    class Summed(nnx.Module):
        def __init__(self):
            self.both = both(nnx.GRUCell, merge_fn=jnp.add)

        def __call__(self, x):
            return self.both(x)

    assert opened(Summed().both).own() is None
    parts = list(opened(Summed()).parts(Call({"x": X}, "float32")))
    assert [p.subject.own().config["direction"] for p in parts] == ["forward", "reverse"]


def test_lengths_and_states_are_read_off_a_call():
    class Told(nnx.Module):
        def __init__(self):
            self.one = drawn(nnx.RNN(nnx.GRUCell(6, 6, rngs=rngs()), reverse=True, keep_order=True))
            self.both = both(nnx.LSTMCell)

        def __call__(self, x):
            lengths = jnp.array([2, 1])[: len(x)]
            states = [(jnp.ones((len(x), 3)) * i, jnp.ones((len(x), 3)) / (i + 1)) for i in range(2)]
            return self.both(self.one(x, seq_lengths=lengths), seq_lengths=lengths, initial_carry=states)

    parts = {p.path: p for p in opened(Told()).parts(Call({"x": X[:2]}, "float32"))}
    assert parts["one"].inputs["lengths"].tolist() == [2, 1]
    assert parts["both"].inputs["reverse_initial_cell"].tolist() == np.ones((2, 3)).tolist()
    cases = check_model(Told(), inputs={"x": X[:2]}).cases
    assert [c.status for c in cases] == ["conforms"] * 2


def test_functions_that_apply_a_linen_module():
    dense, variables = with_variables(nn.Dense(4), 2, 6)
    apply = partial(jax.jit(dense.apply), variables)
    assert check(apply, "linear", inputs={"x": X}).status == "conforms"
    assert (
        check(lambda x: dense.apply(variables, x) * 1.01, "linear", inputs={"x": X}, adapter="jax").status == "diverges"
    )
    (part,) = opened(apply).parts(Call({"x": X}, "float32"))
    assert (part.path, part.layer) == ("Dense", "linear")
    kernel = PARAMS["q"]
    mapped = jax.vmap(lambda row: row @ kernel)
    assert [n.rpartition(".")[2] for n in opened(mapped).parameters()] == ["kernel"]
    assert check(mapped, "linear", inputs={"x": X}, adapter="jax", dtype="float16").status == "conforms"


def test_sequential_has_no_names_for_its_inputs():
    model = nnx.Sequential(nnx.Linear(6, 4, rngs=rngs()), nnx.relu, nnx.LayerNorm(4, rngs=rngs()))
    assert [(a.name, a.shape[-1]) for a in opened(model).arguments()] == [("x", 6)]
    assert {c.subject: c.status for c in check_model(model).cases} == {"layers.0": "conforms", "layers.2": "conforms"}


def test_a_layer_under_vmap_cannot_be_judged():
    class Mapped(nnx.Module):
        def __init__(self):
            self.linear = nnx.Linear(6, 6, rngs=rngs())

        def __call__(self, x):
            return jax.vmap(self.linear)(x)

    (part,) = opened(Mapped()).parts(Call({"x": X}, "float32"))
    assert (part.path, part.layer, part.subject) == ("linear", "linear", None)
    assert "vmap" in part.unsupported


@pytest.mark.parametrize("library", ["nnx", "linen"])
def test_layers_of_a_scan_each_with_its_own_parameters(library):
    if library == "nnx":

        class Layer(nnx.Module):
            def __init__(self, rngs):
                self.linear = nnx.Linear(6, 6, rngs=rngs)

            def __call__(self, x):
                return jnp.tanh(self.linear(x))

        class Stack(nnx.Module):
            def __init__(self):
                self.layers = nnx.vmap(Layer, in_axes=0, out_axes=0)(rngs().split(3))

            def __call__(self, x):
                return nnx.scan(lambda x, layer: layer(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, self.layers)

        stack = Stack()
        kernels = np.asarray(stack.layers.linear.kernel[...])
    else:

        class Body(nn.Module):
            @nn.compact
            def __call__(self, x, _):
                return jnp.tanh(nn.Dense(6)(x)), None

        class Stack(nn.Module):
            @nn.compact
            def __call__(self, x):
                scanned = nn.scan(Body, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
                return scanned(name="layers")(x, None)[0]

        stack = with_variables(Stack(), 2, 5, 6)
        kernels = np.asarray(stack[1]["params"]["layers"]["Dense_0"]["kernel"])
    parts = list(opened(stack).parts(Call({"x": X}, "float32")))
    assert len(parts) == 3
    assert [np.array_equal(p.subject.own().weights["kernel"], k) for p, k in zip(parts, kernels, strict=True)] == [
        True
    ] * 3
    assert {c.status for c in check_model(stack, inputs={"x": X}).cases} == {"conforms"}
