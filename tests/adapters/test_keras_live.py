"""Live Keras objects on its three back ends: what they say of themselves, what they compute, and that they stay as
they are.

One process has one Keras back end, so each has a process of its own, in which the functions called `*_there` run; they
give back plain data.
"""

import inspect
import multiprocessing
import os
import subprocess
import sys
import zipfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import plain_formulas as plain
import pytest

from conformance.adapter import load
from conformance.checking import check, check_model
from conformance.errors import ConformanceError, Unsupported
from conformance.subject import Call

BACKENDS = ("tensorflow", "jax", "torch")
X = plain.values("float32", 0, 2, 5, 7)


@pytest.fixture(scope="module", params=BACKENDS)
def there(request):
    os.environ["KERAS_BACKEND"] = request.param  # what the process inherits
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:

        def call(function, *arguments):
            return pool.submit(function, request.param, *arguments).result()

        call(str)  # the process is there
        del os.environ["KERAS_BACKEND"]
        call.backend = request.param
        yield call


def live(backend, subject):
    return load(f"keras-{backend}").open(subject)


def filled(layer, *shapes):
    """The layer, built, with values of which each is different."""
    if shapes:
        layer.build(*shapes)
    for seed, variable in enumerate(layer.weights):
        if "float" in str(variable.dtype):
            variable.assign(plain.values("float32", 50 + seed, *variable.shape) / 3)
    return layer


def arrays(layer):
    return {v.path: np.array(plainly(v.value)) for v in layer.weights}


def plainly(tensor):
    import keras

    return keras.ops.convert_to_numpy(tensor)


def tensor(array):
    import keras

    return keras.ops.convert_to_tensor(array, dtype="float32" if array.dtype.kind == "f" else None)


def by_name(layer, end):
    return next(np.array(plainly(v.value)) for v in layer.weights if v.path.endswith(end))


# ------------------------------------------------------------------------------ the framework's own layers
def own_layers():
    from keras import layers

    image, sequence = (2, 8, 6, 4), (2, 5, 7)
    return {
        "dense": (filled(layers.Dense(3), (None, 7)), "linear", {}),
        "norm": (
            filled(layers.LayerNormalization(axis=[1, 2], epsilon=0.01), sequence),
            "layer_norm",
            {"axes": 2, "epsilon": 0.01},
        ),
        "softmax": (layers.Softmax(axis=1), "softmax", {"axis": 1}),
        "gelu": (layers.Activation("gelu"), "gelu", {"approximation": "none"}),
        "activation": (layers.Activation("softmax"), "softmax", {"axis": -1}),
        "conv2d": (
            filled(layers.Conv2D(6, (3, 2), strides=2, padding="same", groups=2), image),
            "conv2d",
            {"strides": [2, 2], "padding": "same-upper", "dilation": [1, 1], "groups": 2},
        ),
        "lstm": (
            filled(layers.LSTM(4, go_backwards=True, return_state=True), sequence),
            "lstm",
            {"direction": "reverse", "activation": "tanh", "recurrent_activation": "sigmoid"},
        ),
        "attention": (
            filled(layers.MultiHeadAttention(2, 3, value_dim=3, sliding_window=3, dropout=0.5), sequence, sequence),
            "multi_head_attention",
            {"heads": 2, "window": 2},
        ),
        "grouped": (
            filled(layers.GroupQueryAttention(3, 4, 2), sequence, sequence),
            "multi_head_attention",
            {"heads": 4, "kv_heads": 2},
        ),
        "dot": (layers.Attention(), "scaled_dot_product_attention", {"scale": 1.0}),
    }


NAMES = ("dense", "norm", "softmax", "gelu", "activation", "conv2d", "lstm", "attention", "grouped", "dot")


def own_there(backend, name):
    layer, canonical, config = own_layers()[name]
    if name == "dot":
        layer.build([(2, 5, 7), (2, 6, 7)])
    own = live(backend, layer).own()
    assert own.layer == canonical
    assert dict(own.config) == config
    inputs = {
        "dot": {n: plain.values("float32", i, 2, 1, 5 + (i > 0), 7) for i, n in enumerate(("query", "key", "value"))},
        "conv2d": {"x": plain.values("float32", 0, 2, 8, 6, 4)},
        "attention": {"query_input": X},
        "grouped": {"query_input": X},
    }.get(name, {"x": X})
    case = check(layer, canonical, inputs=inputs, decomposed=True)
    return case.status, case.message, case.adapter, case.subject


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_of_keras_says_its_config_and_conforms(there, name):
    status, message, adapter, subject = there(own_there, name)
    assert (status, message) == ("conforms", None)
    assert adapter == f"keras-{there.backend}"
    assert subject.startswith("keras.layers.")


def weights_there(backend):
    from keras import layers

    attention = filled(layers.GroupQueryAttention(3, 4, 2), (2, 5, 7), (2, 5, 7))
    read = live(backend, attention).own().weights
    kernel, bias = by_name(attention, "key/kernel"), by_name(attention, "key/bias")
    assert kernel.shape == (7, 2, 3)
    assert read["key_kernel"].tolist() == kernel.reshape(7, 6).tolist()  # a head owns a contiguous block
    assert read["key_bias"].tolist() == bias.reshape(6).tolist()
    assert read["output_kernel"].tolist() == by_name(attention, "attention_output/kernel").reshape(12, 7).tolist()
    lstm = filled(layers.LSTM(4, use_bias=False), (2, 5, 7))
    read = live(backend, lstm).own().weights
    assert sorted(read) == ["kernel", "recurrent_kernel"]
    assert read["kernel"].tolist() == by_name(lstm, "lstm_cell/kernel").tolist()
    scaled = filled(layers.Attention(use_scale=True), [(2, 5, 7), (2, 5, 7)])
    assert live(backend, scaled).own().config == {"scale": float(arrays(scaled)[scaled.weights[0].path])}


def test_weights_are_read_in_the_canonical_layout(there):
    there(weights_there)


def faults_there(backend):
    """A layer against a config that is not its own: what is wrong must be named, at its step."""
    from keras import layers

    attention = filled(layers.MultiHeadAttention(2, 3), (2, 5, 7), (2, 5, 7))
    norm = filled(layers.LayerNormalization(epsilon=0.1, scale=False, center=False), (2, 5, 7))
    cases = [
        check(attention, "multi_head_attention", config={"causal": "top-left"}, decomposed=True),
        check(norm, "layer_norm", config={"epsilon": 0.01}),
        check(filled(layers.LSTM(4), (2, 5, 7)), "lstm", config={"direction": "reverse"}),
    ]
    return [(c.status, c.culprit, [d.convention for d in c.diagnosis]) for c in cases]


def test_what_a_layer_was_not_made_with_is_found(there):
    (attention, norm, lstm) = there(faults_there)
    assert attention[:2] == ("diverges", "masked")
    assert norm[0] == "diverges"
    assert norm[2] == ["norm.epsilon"]
    assert lstm[0] == "diverges"


def unsupported_there(backend):
    from keras import layers

    cases = {
        "activation": filled(layers.Dense(3, activation="relu"), (None, 7)),
        "first": filled(layers.Conv2D(3, 2, data_format="channels_first"), (2, 4, 8, 6)),
        "silu": filled(layers.LSTM(3, activation="silu"), (2, 5, 7)),
        "keeps": filled(layers.LSTM(3, stateful=True), (2, 5, 7)),
        "axes": filled(layers.LayerNormalization(axis=1), (2, 5, 7)),
        "gate": filled(layers.MultiHeadAttention(2, 3, use_gate=True), (2, 5, 7), (2, 5, 7)),
        "score_mode": filled(layers.Attention(score_mode="concat"), [(2, 5, 7), (2, 5, 7)]),
        "together": layers.Softmax(axis=(1, 2)),
    }
    cases["lora"] = filled(layers.Dense(3), (None, 7))
    cases["lora"].enable_lora(2)
    said = {}
    for word, layer in cases.items():
        with pytest.raises(Unsupported) as caught:
            live(backend, layer).own()
        said[word] = str(caught.value)
    return said


def test_an_option_that_the_canonical_layer_lacks_is_said(there):
    for word, sentence in there(unsupported_there).items():
        assert word in sentence


def conversion_there(backend):
    """A float32 layer run in bfloat16, and in float64 where the back end computes in it."""
    from keras import layers

    dense = filled(layers.Conv2D(3, 2), (2, 8, 6, 4))
    before, x = arrays(dense), plain.values("bfloat16", 0, 2, 8, 6, 4)
    of = live(backend, dense)
    runs = {d: of.run(Call({"x": x}, d, "conv2d")).output for d in ("float32", "float64")}
    expected = plain.conv2d(x, *(a.astype(np.float64) for a in before.values()), (1, 1), ((0, 0), (0, 0)), (1, 1), 1)
    after = arrays(dense)
    assert all(after[n].tobytes() == a.tobytes() for n, a in before.items())
    assert dense.compute_dtype == dense.weights[0].dtype == "float32"
    assert check(dense, "conv2d", inputs={"x": x}, dtype="bfloat16").status == "conforms"
    return of.dtype, {d: (str(o.dtype), float(np.abs(o - expected).max())) for d, o in runs.items()}


def test_a_layer_is_run_in_another_dtype_without_being_changed(there):
    dtype, runs = there(conversion_there)
    assert dtype == "float32"
    assert runs["float32"][0] == "float32"
    assert 1e-9 < runs["float32"][1] < 1e-4
    assert runs["float64"][0] == "float64"
    assert runs["float64"][1] < 1e-12


# ------------------------------------------------------------------------------ layers of a user's own
def own_class():
    import keras
    from keras import layers, ops

    class Attention(keras.Layer):
        """Attention in two heads by a user, who may have forgotten the scale."""

        def __init__(self, scale):
            super().__init__()
            self.scale = scale
            self.query, self.key, self.value = layers.Dense(6), layers.Dense(6), layers.Dense(6)
            self.output_projection = layers.Dense(7)

        def call(self, x, training=True):
            assert not training, "a run for inference is asked for"

            def heads(t):
                return ops.transpose(ops.reshape(t, (t.shape[0], t.shape[1], 2, 3)), (0, 2, 1, 3))

            query, key, value = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
            scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) * self.scale
            context = ops.transpose(ops.matmul(ops.softmax(scores), value), (0, 2, 1, 3))
            return self.output_projection(ops.reshape(context, (*x.shape[:2], 6)))

    return Attention


def user_there(backend, scale):
    made = own_class()(scale)
    made(tensor(X), training=False)
    filled(made)
    case = check(made, "multi_head_attention", config={"heads": 2})
    of = live(backend, made)
    return (
        (case.status, case.culprit, [(d.convention, d.value) for d in case.diagnosis], case.subject),
        sorted(of.parameters()),
        [(a.name, a.shape, a.dtype) for a in of.arguments()],
    )


def test_a_users_layer_is_judged_step_by_step(there):
    good, names, asked = there(user_there, 1 / np.sqrt(3))
    assert good == ("conforms", None, [], "Attention")
    layers = ("key", "output_projection", "query", "value")
    assert names == [f"{layer}.{kind}" for layer in layers for kind in ("bias", "kernel")]
    assert asked == [("x", (None, 5, 7), "float32")]
    bad, _, _ = there(user_there, 1.0)
    assert bad[:2] == ("diverges", "scaled")
    assert ("attention.scale", "1") in bad[2]


def unbuilt_there(backend):
    import keras

    kind = own_class()
    made = kind(1.0)
    case = check(made, "multi_head_attention", config={"heads": 2}, inputs={"query_input": X})
    assert not made.weights
    assert not made.query.built
    with pytest.raises(ConformanceError, match="does not tell the shapes of its inputs"):
        check(made, "multi_head_attention", config={"heads": 2})

    class Mute(kind):
        def get_config(self):
            raise NotImplementedError

    with pytest.raises(ConformanceError, match="is not built, so it has no weights yet"):
        check(Mute(1.0), "multi_head_attention", config={"heads": 2}, inputs={"query_input": X})
    with pytest.raises(ConformanceError, match="is not built, so it has no weights: call it once"):
        check(keras.layers.Dense(3), "linear", inputs={"x": X})
    return case.status, case.culprit


def test_a_layer_without_weights_is_not_given_any(there):
    assert there(unbuilt_there) == ("diverges", "scaled")


def unchanged_there(backend):
    """Everything that the layers of a model hold, before and after."""
    import keras
    from keras import layers, ops

    class Counting(keras.Layer):
        def __init__(self):
            super().__init__()
            self.kernel = self.add_weight(shape=(7, 3))
            self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)
            self.drop = layers.Dropout(0.5)
            self.last = None

        def call(self, x):
            self.last = x
            self.calls.assign(self.calls + 1)
            self.add_loss(ops.sum(x))
            return self.drop(ops.matmul(x, self.kernel))

    made = Counting()
    filled(made)
    model = keras.Sequential([keras.Input((5, 7)), layers.LSTM(3, stateful=False), layers.Dense(2, activation="relu")])

    def held():
        layers_of = [layer for top in (made, model) for layer in top._flatten_layers()]
        plain_kinds = (int, float, str, bool, type(None), tuple)
        state = [{n: v for n, v in vars(layer).items() if isinstance(v, plain_kinds)} for layer in layers_of]
        return state, [a.tobytes() for top in (made, model) for a in arrays(top).values()], list(made.losses)

    classes = [layers.Dense, layers.LSTM, layers.RNN, keras.Layer, keras.Variable, keras.KerasTensor]
    before, names = held(), [set(vars(c)) for c in classes]
    case = check(made, "linear", inputs={"x": X})
    for dtype in ("float32", "float64"):
        live(backend, made).run(Call({"x": X}, dtype, "linear"))
        for part in live(backend, model).parts(Call({model.inputs[0].name: X}, dtype)):
            part.subject.run(Call(part.inputs, dtype, part.layer))
    for was, now in zip(before, held(), strict=True):
        assert was == now, (was, now)
    assert [set(vars(c)) for c in classes] == names
    return case.status


def test_nothing_is_changed_by_a_run(there):
    assert there(unchanged_there) == "conforms"


def function_there(backend):
    from keras import activations, ops

    def wrong(x):
        shifted = ops.exp(x)
        return shifted / ops.sum(shifted, axis=1, keepdims=True)

    kernel = tensor(plain.values("float32", 5, 7, 3))

    def product(x):
        return ops.matmul(x, kernel)

    named = f"keras-{backend}"
    inputs = {"x": plain.values("float32", 0, 6, 7)}
    assert list(live(backend, product).parameters()) == ["kernel"]
    return [
        check(wrong, "softmax", adapter=named, inputs=inputs).status,
        check(wrong, "softmax", adapter=named, inputs=inputs, config={"axis": 1}).status,
        check(activations.gelu, "gelu", inputs=inputs).status,
        check(product, "linear", adapter=named, inputs=inputs).status,
        check(product, "linear", adapter=named, inputs=inputs, weights={"kernel": np.eye(7)[:, :3]}).status,
        check(ops.softmax, "softmax", inputs=inputs, call=lambda f, x: f(x, axis=0)).status,
    ]


def test_a_plain_function(there):
    assert there(function_there) == ["conforms", "conforms", "conforms", "conforms", "diverges", "diverges"]


def eager_there(backend):
    """A function that turns a tensor that it computed into a NumPy array cannot be traced."""
    from keras import ops

    def softmax(x):
        exponentials = ops.exp(x - ops.max(x, axis=-1, keepdims=True))
        total = ops.sum(exponentials, axis=-1, keepdims=True)
        return exponentials / float(ops.convert_to_numpy(total)[0, 0])

    case = check(softmax, "softmax", adapter=f"keras-{backend}", inputs={"x": plain.values("float32", 0, 1, 7)})
    return case.status, {s.name: s.status for s in case.steps}


def test_a_function_that_runs_eagerly_only(there):
    """JAX has no tape of what it cannot trace: there the output alone is judged."""
    status, steps = there(eager_there)
    assert status == "conforms"
    hidden = {"not-observed"} if there.backend == "jax" else {"conforms"}
    assert {s for n, s in steps.items() if n != "output"} == hidden
    assert steps["output"] == "conforms"


# ------------------------------------------------------------------------------ models
def model_there(backend):
    """A model of both kinds, nested; the values that reach each layer are computed here by calling the layers."""
    import keras
    from keras import layers

    class Block(keras.Model):
        def __init__(self):
            super().__init__()
            self.attention = layers.MultiHeadAttention(2, 3)
            self.hidden = [layers.Dense(9, activation="relu"), layers.Dense(7)]
            self.norm = layers.LayerNormalization()

        def call(self, x, training=False):
            x = x + self.attention(x, x, use_causal_mask=True)
            for dense in self.hidden:
                x = dense(x)
            return self.norm(self.norm(x))

    tokens, context = keras.Input((5,), dtype="int32", name="tokens"), keras.Input((5, 7), name="context")
    embedded = layers.Embedding(11, 7, mask_zero=True, name="table")(tokens)
    block, crossed = Block(), layers.MultiHeadAttention(2, 3, name="crossed")
    y = block(crossed(context, embedded))
    y = layers.Dense(2, activation="softmax", name="head")(layers.LSTM(3, name="memory")(y))
    model = keras.Model([tokens, context], y, name="reader")
    filled(model)
    given = {"tokens": np.array([[3, 1, 4, 0, 0], [9, 2, 6, 5, 0]]), "context": X}
    of = live(backend, model)
    parts = list(of.parts(Call(given, "float32")))
    asked = [(a.name, a.shape, a.dtype, a.below) for a in of.arguments()]
    run = check_model(model, inputs=given, decomposed=True)
    table = model.get_layer("table")(tensor(given["tokens"]))
    crossing = plainly(crossed(tensor(X), table))
    trace = of.run(Call(given, "float32"))
    expected = plainly(model([tensor(given["tokens"]), tensor(X)]))
    assert np.abs(trace.output - expected).max() < 1e-6
    assert np.abs(trace.observed_output - expected).max() < 1e-6
    return {
        "asked": asked,
        "parts": [(p.path, p.layer, p.unsupported, sorted(p.inputs)) for p in parts],
        "mask": parts[1].inputs["mask"],
        "causal": parts[2].subject.own().config,
        "crossing": (parts[2].inputs["query_input"], crossing),
        "cases": {c.subject: (c.status, c.message) for c in run.cases},
    }


def test_every_known_layer_of_a_model_is_judged_on_what_reaches_it(there):
    found = there(model_there)
    block = next(path.partition(".")[0] for path, *_ in found["parts"] if path.endswith(".attention"))
    x = ["x"]
    assert found["parts"] == [
        ("table", "embedding", None, ["indices"]),
        ("crossed", "multi_head_attention", None, ["key_input", "mask", "query_input"]),
        (f"{block}.attention", "multi_head_attention", None, ["query_input"]),
        (f"{block}.hidden.0 (before relu)", "linear", None, x),
        (f"{block}.hidden.1", "linear", None, x),
        (f"{block}.norm", "layer_norm", None, x),
        (f"{block}.norm#2", "layer_norm", None, x),
        ("memory", "lstm", None, x),
        ("head (before softmax)", "linear", None, x),
    ]
    assert found["asked"] == [("tokens", (None, 5), "int64", 11), ("context", (None, 5, 7), "float32", 2)]
    assert found["causal"] == {"heads": 2, "causal": "top-left"}
    given = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]], bool)  # tokens that are not 0
    assert np.broadcast_to(found["mask"], (2, 5, 5)).tolist() == np.repeat(given[:, None], 5, axis=1).tolist()
    reached, computed = found["crossing"]
    assert np.abs(reached - computed).max() < 1e-5
    assert set(found["cases"].values()) == {("conforms", None)}
    assert len(found["cases"]) == 9


def mixed_there(backend):
    """Layers in a wrapper, and layers that compute in different formats."""
    import keras
    from keras import layers

    policy = keras.DTypePolicy("mixed_bfloat16")
    model = keras.Sequential(
        [
            keras.Input((5, 7)),
            layers.Bidirectional(layers.LSTM(3, return_sequences=True), name="both"),
            layers.Dense(4, dtype=policy, name="narrow"),
            layers.Activation("softmax", dtype="float32", name="last"),
        ]
    )
    filled(model)
    parts = list(live(backend, model).parts(Call({model.inputs[0].name: X}, "float32")))
    whole = plainly(model(tensor(X)))
    last = parts[-1]
    output = last.subject.run(Call(last.inputs, "float32", "softmax")).output
    return [(p.path, p.subject.dtype, p.unsupported) for p in parts], float(np.abs(output - whole).max())


def test_layers_in_a_wrapper_and_of_different_formats(there):
    parts, off = there(mixed_there)
    assert parts == [
        ("both.forward_layer", "float32", None),
        ("both.backward_layer", "float32", None),
        ("narrow", "bfloat16", None),
        ("last", "float32", None),
    ]
    assert off < 0.01  # the model was asked for in float32: its narrow layer was converted


def masked_lstm_there(backend):
    import keras
    from keras import layers

    model = keras.Sequential([keras.Input((5, 7)), layers.Masking(), layers.LSTM(3, name="memory")])
    (part,) = live(backend, model).parts(Call({model.inputs[0].name: X}, "float32"))
    return part.path, part.unsupported, part.subject is None


def test_what_is_known_but_cannot_be_judged_says_why(there):
    path, reason, nothing = there(masked_lstm_there)
    assert path == "memory"
    assert "mask" in reason
    assert nothing


def recurrent_model_there(backend):
    """Inside a user's model, too, each time step of a recurrent layer is seen."""
    import keras
    from keras import layers

    model = keras.Sequential([keras.Input((5, 7)), layers.LSTM(3, return_sequences=True)])
    filled(model)
    trace = live(backend, model).run(Call({model.inputs[0].name: X}, "float32"))
    weights = [a.astype(np.float64) for a in arrays(model).values()]
    hidden = plain.lstm(X, *weights)
    seen = [np.sort(e.array.reshape(-1)) for e in trace.tape if e.array.size == 2 * 3]
    for t in range(5):
        wanted = np.sort(hidden[:, t].reshape(-1))
        assert any(np.abs(s - wanted).max() < 1e-6 for s in seen), t
    return trace.output.tobytes() == trace.observed_output.tobytes() or backend == "jax"


def test_recurrent_layers_inside_a_model_are_seen_step_by_step(there):
    assert there(recurrent_model_there)


def inputs_there(backend):
    """Models that take their inputs as a dict, a list, in another order, or too few of them."""
    import keras
    from keras import layers, ops

    a, b = keras.Input((7,), name="a"), keras.Input((7,), name="b")
    y = layers.Subtract()([a, b])
    given = {"b": np.ones((2, 7)), "a": np.full((2, 7), 3.0)}
    outputs = [
        live(backend, keras.Model(structure, y)).run(Call(given, "float32")).output.tolist()
        for structure in ([a, b], {"a": a, "b": b}, [b, a])
    ]
    assert all(o == np.full((2, 7), 2.0).tolist() for o in outputs)
    with pytest.raises(ConformanceError, match=r"has 2 inputs \(a, b\), and was given 1"):
        live(backend, keras.Model([a, b], y)).run(Call({"a": given["a"]}, "float32"))

    class Several(keras.Layer):
        def call(self, x):
            return {"first": ops.multiply(x, 2.0), "second": x}

    return live(backend, Several()).run(Call({"x": X}, "float32")).output.tolist()


def test_inputs_go_where_their_names_say_and_the_first_tensor_is_the_output(there):
    assert there(inputs_there) == (2 * X).tolist()


# ------------------------------------------------------------------------------ files
def file_there(backend, folder):
    import keras
    from keras import layers

    folder = Path(folder)
    model = keras.Sequential([keras.Input((5, 7)), layers.Dense(3, name="only")])
    filled(model)
    path = folder / f"{backend}.keras"
    model.save(path)
    run = check_model(path)
    assert [(c.subject, c.status, c.adapter) for c in run.cases] == [("only", "conforms", f"keras-{backend}")]
    assert check(path, "linear", inputs={"x": X}).subject == path.name

    class Unknown(keras.Layer):
        def call(self, x):
            return x

    @keras.saving.register_keras_serializable("tests")
    class Registered(keras.Layer):
        def call(self, x):
            return x

    keras.Sequential([keras.Input((5, 7)), Registered(), layers.Dense(3)]).save(folder / "registered.keras")
    assert [c.status for c in check_model(folder / "registered.keras").cases] == ["conforms"]
    keras.Sequential([keras.Input((7,)), Unknown()]).save(folder / "unknown.keras")
    ran = str(folder / "ran")
    code = keras.Sequential([keras.Input((7,)), layers.Lambda(lambda x: (open(ran, "w").close(), x)[1], name="mine")])
    Path(ran).unlink()  # to build the model is to call it
    code.save(folder / "code.keras")
    keras.Sequential([keras.Input((7,)), layers.Dense(3, activation=lambda x: x)]).save(folder / "activation.keras")
    (folder / "broken.keras").write_bytes(path.read_bytes()[:400])
    (folder / "text.keras").write_text("model")
    with zipfile.ZipFile(folder / "empty.keras", "w") as archive:
        archive.writestr("other.json", "{}")
    with zipfile.ZipFile(folder / "list.keras", "w") as archive:
        archive.writestr("config.json", "[1, 2]")
    said = {}
    for name in ("unknown", "code", "activation", "broken", "text", "empty", "list"):
        with pytest.raises(ConformanceError) as caught:
            check_model(folder / f"{name}.keras")
        said[name] = str(caught.value)
    assert not Path(ran).exists()
    return said


def test_a_model_in_a_file(there, tmp_path):
    said = there(file_there, str(tmp_path))
    assert "its Lambda 'mine' is code or leads to it, which is not run" in said["code"]
    assert "its function without a name is code or leads to it, which is not run" in said["activation"]
    assert "it has a 'Unknown' of" in said["unknown"]
    for name in ("broken", "text", "empty"):
        assert "not a .keras file that can be read" in said[name]
    assert "cannot load it" in said["list"]
    for name, sentence in said.items():
        assert sentence.startswith(f"{tmp_path / name}.keras: ")
        assert "\n" not in sentence


OWNERS = """
import sys
from pathlib import Path
from conformance.adapter import load
adapters = [load(f"keras-{b}") for b in ("tensorflow", "jax", "torch")]
print([a.name for a in adapters if a.owns(Path("model.keras"))])
assert not any(a.owns(s) for a in adapters for s in (Path("model.onnx"), print, 3, object()))
assert not {"keras", "jax", "torch", "tensorflow"} & set(sys.modules)
"""


@pytest.mark.parametrize(("variable", "owner"), [(None, "keras-tensorflow"), ("jax", "keras-jax")])
def test_a_file_belongs_to_one_back_end_and_nothing_is_imported_to_tell(variable, owner):
    environment = {n: v for n, v in os.environ.items() if n != "KERAS_BACKEND"}
    environment |= {"KERAS_BACKEND": variable} if variable else {}
    done = subprocess.run([sys.executable, "-c", OWNERS], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == str([owner])


def owners_there(backend):
    import keras

    def function(x):
        return x

    adapters = {n: load(n) for n in ("tensorflow", "keras-tensorflow", "keras-jax", "keras-torch")}
    subjects = [keras.layers.Dense(3), own_class()(1.0), keras.Sequential([]), keras.ops.softmax, Path("a.keras")]
    for subject in subjects:
        assert [n for n, a in adapters.items() if a.owns(subject)] == [f"keras-{backend}"], subject
    for subject in (function, keras.layers.Dense, 3, "a.keras"):
        assert not any(a.owns(subject) for a in adapters.values())
    assert inspect.isfunction(function)
    said = []
    for subject in (3, keras.layers.Dense):
        with pytest.raises(ConformanceError) as caught:
            live(backend, subject)
        said.append(str(caught.value))
    other = "jax" if backend == "torch" else "torch"
    with pytest.raises(ConformanceError, match="one process has one Keras back end"):
        live(other, subjects[0])
    return said


def test_an_object_of_keras_belongs_to_its_back_end(there):
    number, kind = there(owners_there)
    assert "int is neither a Keras layer" in number
    assert kind.startswith("Dense is a class: give an instance")


def positions_there(backend):
    """Functions of layers that Keras has not: one has no inputs, and the other's are whole numbers."""
    from keras import ops

    def bias():
        distance = ops.abs(ops.expand_dims(ops.arange(5), 1) - ops.arange(7))
        return ops.reshape(2.0 ** -ops.arange(1, 9, dtype="float32"), (8, 1, 1)) * -ops.cast(distance, "float32")

    def encoded(positions):
        pairs = 2 * (np.arange(6) // 2)
        angles = ops.expand_dims(ops.cast(positions, "float32"), -1) * np.float32(10000.0 ** (-pairs / 6))
        return ops.where(np.arange(6) % 2 == 0, ops.sin(angles), ops.cos(angles))

    lengths = {"heads": 8, "query": 5, "key": 7}
    return [
        check(bias, "alibi", config=lengths, adapter=f"keras-{backend}").status,
        check(encoded, "sinusoidal_position", config={"dim": 6}, adapter=f"keras-{backend}").status,
    ]


def test_functions_of_layers_that_keras_has_not_are_judged(there):
    assert there(positions_there) == ["conforms", "conforms"]


def additive_attention_there(backend):
    """A user's own layer, called with masks of queries and of values, and causally: what these forbid is one mask."""
    import keras
    from keras import layers

    queries, values = keras.Input((5, 7)), keras.Input((6, 7))
    real = [keras.Input((5,), dtype="bool"), keras.Input((6,), dtype="bool")]
    attended = filled(layers.AdditiveAttention(name="attention"), [(None, 5, 7), (None, 6, 7)])
    masked = attended([queries, values], mask=real)
    causal = filled(layers.AdditiveAttention(use_scale=False, name="causal"))([masked, values], use_causal_mask=True)
    model = keras.Model([queries, values, *real], causal)
    given = dict(
        zip(
            (t.name for t in model.inputs),
            (plain.values("float32", 0, 2, 5, 7), plain.values("float32", 1, 2, 6, 7)),
            strict=False,
        )
    )
    given |= {
        model.inputs[2].name: np.arange(5) < np.array([[5], [3]]),
        model.inputs[3].name: np.arange(6) < np.array([[4], [6]]),
    }
    one = check(attended, "additive_attention")
    every = check_model(model, inputs=given)
    return one.status, sorted(
        (c.subject.rpartition(".")[2], c.layer, c.status, c.shapes.get("mask")) for c in every.cases
    )


def test_additive_attention_is_read_off_an_instance_and_its_masks_off_a_call(there):
    one, every = there(additive_attention_there)
    assert one == "conforms"
    assert [(layer, status, mask) for _, layer, status, mask in every] == [
        ("additive_attention", "conforms", [2, 5, 6])
    ] * 2
