"""Live TensorFlow: modules and functions are judged step by step, and stay as they are."""

import subprocess
import sys

import numpy as np
import plain_formulas as plain
import pytest
import tensorflow as tf

from conformance.adapter import load
from conformance.checking import check
from conformance.errors import ConformanceError, Unsupported
from conformance.subject import Call

X = plain.values("float32", 0, 5, 3)


class Affine(tf.Module):
    """Two variables, one of them in a list; and one that counts the calls."""

    def __init__(self, place=list):
        super().__init__()
        self.kernel = tf.Variable(plain.values("float32", 1, 3, 2), dtype=tf.float32)
        self.rest = place([tf.Variable(plain.values("float32", 2, 2), dtype=tf.float32)])
        self.calls = tf.Variable(0)

    def __call__(self, x):
        self.calls.assign_add(1)
        return x @ self.kernel + self.rest[0]


class Compiled(Affine):
    """The same as a tf.function, which says what it takes."""

    @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32)])
    def __call__(self, x):
        return super().__call__(x)


def softmax(x, axis=-1):
    exponentials = tf.exp(x - tf.reduce_max(x, axis, keepdims=True))
    return exponentials / tf.reduce_sum(exponentials, axis, keepdims=True)


def without_a_graph(x):
    """It takes a number out of a tensor, which a tensor of a graph does not have."""
    exponentials = tf.exp(x - tf.reduce_max(x, -1, keepdims=True))
    return exponentials / tf.constant(exponentials.numpy().sum(-1, keepdims=True))


def live(subject):
    return load("tensorflow").open(subject)


def weights(module):
    return {"kernel": module.kernel.numpy(), "bias": module.rest[0].numpy()}


def steps(case):
    return {s.name: s.status for s in case.steps}


# ------------------------------------------------------------------------------ modules
@pytest.mark.parametrize(("kind", "dtype"), [(Affine, "float32"), (Affine, "float64"), (Compiled, "float32")])
def test_a_module(kind, dtype):
    module = kind()
    before = [v.numpy().tobytes() for v in module.variables]
    case = check(module, "linear", inputs={"x": X}, weights=weights(module), dtype=dtype)
    assert (case.status, case.adapter, case.subject) == ("conforms", "tensorflow", kind.__name__)
    assert steps(case) == {"product": "conforms", "output": "conforms"}
    assert [v.numpy().tobytes() for v in module.variables] == before
    assert int(module.calls.numpy()) == 0
    trace = live(module).run(Call({"x": X}, dtype))
    assert trace.output.dtype == dtype
    plain.close(trace.output, X @ module.kernel.numpy().astype(np.float64) + module.rest[0].numpy(), dtype)


def test_a_fault_in_a_module_is_found_at_its_step():
    module = Affine()
    wrong = weights(module) | {"bias": -module.rest[0].numpy()}
    case = check(module, "linear", inputs={"x": X}, weights=wrong)
    assert (case.status, case.culprit) == ("diverges", "output")


def test_variables_are_named_by_their_path():
    module = Affine()
    module.inner = Affine(place=tuple)
    module.itself = module  # a circle
    module.again = module.kernel
    of = live(module)
    names = {"kernel", "rest.0", "inner.kernel", "inner.rest.0"}
    assert set(of.parameters()) == names
    assert of.parameters()["inner.rest.0"].tolist() == module.inner.rest[0].numpy().tolist()
    assert of.dtype == "float32"
    assert of.own() is None
    assert list(of.parts(Call({"x": X}, "float32"))) == []


def test_a_variable_that_cannot_be_converted_is_said():
    with pytest.raises(Unsupported, match=r"its variable 'rest\.0' cannot be converted to float64"):
        live(Affine(place=tuple)).run(Call({"x": X}, "float64"))


def test_a_module_that_is_not_called_itself():
    class Uncalled(tf.Module):
        def forward(self, x):
            return softmax(x)

    with pytest.raises(ConformanceError, match="cannot be called: say how with `call`"):
        check(Uncalled(), "softmax", inputs={"x": X})
    assert check(Uncalled(), "softmax", inputs={"x": X}, call=lambda m, x: m.forward(x)).status == "conforms"


def test_a_saved_model(tmp_path):
    module = Compiled()
    tf.saved_model.save(module, str(tmp_path), signatures=module.__call__.get_concrete_function())
    loaded = tf.saved_model.load(str(tmp_path))
    case = check(loaded, "linear", inputs={"x": X}, weights=weights(module))
    assert case.status == "conforms"
    assert int(loaded.calls.numpy()) == 0
    with pytest.raises(Unsupported, match="has variables of float32: it cannot be run in float64"):
        live(loaded).run(Call({"x": X}, "float64"))


# ------------------------------------------------------------------------------ functions
SEEN = {"shifted": "conforms", "exponentials": "conforms", "total": "conforms", "output": "conforms"}


@pytest.mark.parametrize("function", [softmax, tf.function(softmax), tf.function(softmax, jit_compile=True)])
def test_a_function_is_seen_inside(function):
    case = check(function, "softmax", inputs={"x": X}, adapter="tensorflow")
    assert (case.status, case.subject) == ("conforms", "softmax")
    assert steps(case) == SEEN
    wrong = check(function, "softmax", inputs={"x": X}, adapter="tensorflow", call=lambda f, x: f(x, axis=0))
    assert wrong.status == "diverges"


def test_a_function_that_runs_eagerly_only():
    case = check(without_a_graph, "softmax", inputs={"x": X}, adapter="tensorflow")
    assert case.status == "conforms"
    assert steps(case) == SEEN | {"total": "not-observed"}  # NumPy summed
    tape = live(without_a_graph).run(Call({"x": X}, "float32")).tape
    assert [e.operation for e in tape] == ["Max", "Sub", "Exp", "RealDiv"]
    assert [e.reads for e in tape] == [(), (0,), (1,), (2,)]


def test_attention_without_its_scale():
    def attention(q, k, v):
        return tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True)), v)

    inputs = {n: plain.values("float32", i, 2, 3, 5 + i, 7) for i, n in enumerate(("query", "key"))}
    inputs["value"] = plain.values("float32", 2, 2, 3, 6, 7)
    case = check(attention, "scaled_dot_product_attention", inputs=inputs, adapter="tensorflow")
    assert (case.status, case.culprit) == ("diverges", "scaled")
    assert [(d.convention, d.value) for d in case.diagnosis] == [("attention.scale", "1")]


def test_what_a_function_does_to_its_variables_is_undone():
    kernel, calls = tf.Variable(plain.values("float32", 1, 3, 2), dtype=tf.float32), tf.Variable(0.0)

    def product(x):
        calls.assign_add(1.0)
        return tf.matmul(x, kernel)

    of = live(product)
    assert sorted(of.parameters()) == ["calls", "kernel"]
    plain.close(of.run(Call({"x": X}, "float32")).output, X @ kernel.numpy(), "float32")
    assert float(calls.numpy()) == 0.0


def test_the_first_tensor_is_the_output():
    trace = live(lambda x: {"a": None, "b": (2 * x, x)}).run(Call({"x": X}, "float32"))
    assert trace.output.tolist() == (2 * X).tolist()
    with pytest.raises(ConformanceError, match="returned no tensor"):
        live(lambda x: None).run(Call({"x": X}, "float32"))


def test_the_signature_of_a_function_says_its_inputs():
    asked = [(a.name, a.shape, a.dtype) for a in live(Compiled()).arguments()]
    assert asked == [("x", (None, 3), "float32")]
    with pytest.raises(ConformanceError, match="does not tell the shapes of its inputs"):
        live(softmax).arguments()


# ------------------------------------------------------------------------------ what belongs to TensorFlow
def test_what_belongs_to_tensorflow():
    adapter = load("tensorflow")
    owned = (Affine(), tf.nn.gelu, tf.function(softmax), tf.function(softmax).get_concrete_function(tf.constant([1.0])))
    assert all(adapter.owns(s) for s in owned)
    assert not any(adapter.owns(s) for s in (softmax, Affine, 3, None, np.ones(3), "x", tf.constant(1.0)))


def test_nothing_is_imported_to_tell():
    code = (
        "import sys; from conformance.adapter import load; a = load('tensorflow');"
        "assert not any(a.owns(s) for s in (print, 3, lambda x: x, object()));"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("subject", [3, Affine, None])
def test_what_is_of_no_use_is_said(subject):
    with pytest.raises(ConformanceError, match=r"is neither a tf\.Module nor a function of tensors"):
        live(subject)
