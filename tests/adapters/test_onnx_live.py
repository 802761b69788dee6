"""ONNX models as subjects: files, models in memory and sessions; what is broken is refused; how they are run."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx_models import exported, external, numbers, parsed

from conformance.checking import check, check_model
from conformance.errors import ConformanceError, Unsupported
from conformance.loading import opened
from conformance.subject import Argument, Call, Live, Opener
from conformance_adapters.onnx_live import OnnxLive
from conformance_adapters.onnx_runtime import OnnxRuntimeAdapter

KERNEL, BIAS = numbers(4, 3), numbers(3, seed=1)
X = numbers(5, 4, seed=2).astype(np.float32).astype(np.float64)


def affine(**options):
    body = "p = MatMul (x, kernel)\n y = Add (p, bias)"
    return parsed("float[N, 4] x) => (float[N, 3] y", body, {"kernel": KERNEL, "bias": BIAS}, **options)


def chain():
    """Relu, so that the graph is no single layer."""
    body = "p = MatMul (x, kernel)\n s = Add (p, bias)\n y = Relu (s)"
    return parsed("float[N, 4] x) => (float[N, 3] y", body, {"kernel": KERNEL, "bias": BIAS})


def saved(path, model):
    path.write_bytes(model.SerializeToString())
    return path


def call(dtype="float32", inputs=None, **options):
    return Call({"x": X} if inputs is None else inputs, dtype, **options)


def close(array, expected, dtype="float32"):
    rtol = 1e-5 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(array, expected, rtol=rtol, atol=rtol)


# -------------------------------------------------------------------------------------------- what it takes


def test_it_owns_onnx_subjects_and_imports_nothing():
    code = (
        "import sys; from pathlib import Path; from conformance_adapters.onnx_runtime import OnnxRuntimeAdapter as A;"
        "assert A().owns(Path('m.onnx')) and not A().owns(Path('m.pt2')) and not A().owns('m.onnx');"
        "assert not {'onnx', 'onnxruntime'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    adapter = OnnxRuntimeAdapter()
    assert isinstance(adapter, Opener)
    model = affine()
    assert adapter.owns(model)
    assert adapter.owns(onnxruntime.InferenceSession(model.SerializeToString()))
    assert not adapter.owns(model.graph)
    with pytest.raises(ConformanceError, match="a function is no ONNX model"):
        adapter.open(close)


@pytest.mark.parametrize("kind", ["path", "model", "session of a path", "session of bytes"])
def test_every_form_of_a_model_is_run(kind, tmp_path):
    path = saved(tmp_path / "small.onnx", chain())
    made = {
        "path": lambda: str(path),
        "model": chain,
        "session of a path": lambda: onnxruntime.InferenceSession(path),
        "session of bytes": lambda: onnxruntime.InferenceSession(path.read_bytes()),
    }[kind]()
    live = opened(made)
    assert isinstance(live, OnnxLive)
    assert (live.adapter, live.dtype) == ("onnxruntime", "float32")
    if "path" in kind:
        assert live.name == "small.onnx"
    trace = live.run(call())
    close(trace.output, np.maximum(X @ KERNEL + BIAS, 0))
    close(trace.observed_output, trace.output)
    assert trace.output.dtype == np.float32
    assert trace.environment == {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__}
    tape = {e.operation: e.array for e in trace.tape}
    assert list(tape) == ["MatMul:p", "Add:s", "Relu:y"]
    close(tape["Add:s"], X @ KERNEL + BIAS)
    assert [e.reads for e in trace.tape] == [(), (0,), (1,)]


def test_a_users_session_makes_the_plain_run(tmp_path):
    session = onnxruntime.InferenceSession(saved(tmp_path / "m.onnx", chain()))
    live = opened(session)
    assert live.plain is session
    before = session.get_outputs()
    live.run(call())
    assert [o.name for o in session.get_outputs()] == [o.name for o in before]


def test_a_session_that_does_not_say_its_file_is_refused(tmp_path):
    path = saved(tmp_path / "m.onnx", chain())
    session = onnxruntime.InferenceSession(path)
    path.unlink()
    with pytest.raises(ConformanceError, match="does not say which file it was made from"):
        opened(session)


def test_the_model_is_not_changed():
    model = chain()
    before = model.SerializeToString()
    live = opened(model)
    live.run(call(decomposed=True))
    live.run(call("float64"))
    list(live.parts(call()))
    assert model.SerializeToString() == before


def test_parameters_are_initializers_and_constants():
    body = "c = Constant <value = float[2] {1.5, 2.5}> ()\n p = Add (x, c)\n y = Mul (p, half)"
    live: Live = opened(parsed("float[N, 2] x) => (float[N, 2] y", body, {"half": [0.5], "n": np.array([3])}))
    held = live.parameters()
    assert sorted(held) == ["c", "half"]
    assert held["c"].tolist() == [1.5, 2.5]


# -------------------------------------------------------------------------------------------- what is broken


def refused(path, *words):
    with pytest.raises(ConformanceError) as caught:
        opened(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_a_file_that_is_no_model(tmp_path):
    path = saved(tmp_path / "m.onnx", chain())
    content = path.read_bytes()
    for size in (1, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        refused(path, "m.onnx")
    path.write_bytes(b"")
    refused(path, "m.onnx", "no graph")
    path.write_text("this is not a model\n")
    refused(path, "m.onnx", "export it again")
    path.unlink()
    refused(path, "m.onnx")
    path.mkdir()
    refused(path, "m.onnx", "cannot be read")


def test_truncation_anywhere_is_one_sentence_or_a_model_that_runs(tmp_path):
    content = chain().SerializeToString()
    path, ran = tmp_path / "m.onnx", []
    for size in range(len(content)):
        path.write_bytes(content[:size])
        try:
            live = opened(path)
        except ConformanceError as error:
            assert "\n" not in str(error)  # noqa: PT017 - some prefixes are whole models
        else:
            ran.append(size)
            close(live.run(call()).output, np.maximum(X @ KERNEL + BIAS, 0))
    assert len(ran) < 30  # what comes after the graph: opsets that it does not use


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("y = Nonsense (x)", "Nonsense"),
        ("y = com.nobody.Thing (x)", "Thing"),
        ("y = Relu (nothing)", "nothing"),
        ("y = Relu (x, x)", "Relu"),
        ("y = MatMul (x, x)", "MatMul"),
    ],
)
def test_a_graph_that_does_not_hold_together(body, word, tmp_path):
    model = parsed("float[5, 4] x) => (float[5, 4] y", body)
    model.opset_import.add(domain="com.nobody", version=1)
    refused(saved(tmp_path / "m.onnx", model), word)
    refused(model, word)


@pytest.mark.parametrize("where", ["../secret", "{}/secret", "inner/../../secret", "link", "."])
def test_data_outside_the_folder_is_not_opened(where, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(1000))
    folder = tmp_path / "model"
    (folder / "inner").mkdir(parents=True)
    os.symlink(tmp_path / "secret", folder / "link")
    model = chain()
    external(model, where.format(tmp_path))
    refused(saved(folder / "m.onnx", model), "not inside the model's own folder")


def test_data_outside_the_folder_is_looked_for_in_subgraphs_too(tmp_path):
    body = """y = If (c) <
        then_branch = g1 () => (float[2] a) { a = Constant <value = float[2] {1.0, 2.0}> () },
        else_branch = g2 () => (float[2] b) { b = Constant <value = float[2] {3.0, 4.0}> () }>"""
    model = parsed("bool c) => (float[2] y", body)
    tensor = model.graph.node[0].attribute[1].g.node[0].attribute[0].t
    tensor.ClearField("float_data")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    refused(saved(tmp_path / "m.onnx", model), "/etc/passwd", "not inside")


def test_data_that_is_missing_or_cut_off(tmp_path):
    model = chain()
    content = external(model, "weights.bin")
    path = saved(tmp_path / "m.onnx", model)
    refused(path, "'weights.bin'", "not there")
    (tmp_path / "weights.bin").write_bytes(content[:-1])
    refused(path, "'bias'", "up to byte 60", "has 59")
    for key, value in (("offset", "-4"), ("length", "many")):
        model = chain()
        external(model, "weights.bin")
        for entry in model.graph.initializer[0].external_data:
            if entry.key == key:
                entry.value = value
        refused(saved(path, model), "'kernel'")


def test_data_beside_the_model_are_read(tmp_path):
    model = chain()
    content = external(model, "weights.bin")
    path = saved(tmp_path / "m.onnx", model)
    (tmp_path / "weights.bin").write_bytes(content)
    live = opened(path)
    for dtype in ("float32", "float64"):
        close(live.run(call(dtype)).output, np.maximum(X @ KERNEL.astype("f4") + BIAS.astype("f4"), 0), dtype)
    assert np.array_equal(live.parameters()["kernel"], KERNEL.astype(np.float32))
    part, _ = live.parts(call())  # the other is Relu
    assert np.array_equal(part.subject.own().weights["kernel"], KERNEL.astype(np.float32))
    refused(model, "give the path of its own file")


# -------------------------------------------------------------------------------------------- how it is fed


def test_inputs_are_fed_in_the_order_of_the_graph():
    live = opened(parsed("float[N] b, float[N] a) => (float[N] y", "y = Sub (b, a)"))
    first, second = np.array([5.0, 7.0]), np.array([1.0, 2.0])
    assert live.run(call(inputs={"one": first, "two": second})).output.tolist() == [4, 5]
    assert live.run(call(inputs={"a": first, "b": second})).output.tolist() == [-4, -5]  # by name
    with pytest.raises(ConformanceError, match="asks for a, which is not given"):
        live.run(call(inputs={"b": first}))
    with pytest.raises(ConformanceError, match="takes 2 inputs"):
        live.run(call(inputs={"one": first, "two": second, "three": first}))
    stands = {"key": "query"}
    assert live.run(call(inputs={"query": first}, layer="x", stand_ins=stands)).output.tolist() == [0, 0]


def test_inputs_have_the_dtype_of_the_graph():
    body = "t = Gather (table, i)\n f = Cast <to = 1> (m)\n y = Add (t, f)"
    model = parsed("int64[N] i, bool[N] m) => (float[N] y", body, {"table": [10.0, 20.0, 30.0]})
    live = opened(model)
    given = {"i": np.array([2, 0], np.int32), "m": np.array([True, False])}
    assert live.run(call(inputs=given)).output.tolist() == [31, 10]
    with pytest.raises(ConformanceError, match="'m' is bool, where float64 is given"):
        live.run(call(inputs={**given, "m": np.array([1.0, 0.0])}))
    assert live.arguments() == [Argument("i", (None,), "int64", 3), Argument("m", (None,), "bool", 2)]
    with pytest.raises(ConformanceError, match=r"refuses it: indices element out of data bounds.*; give inputs"):
        live.run(call(inputs={**given, "i": np.array([7, 0])}))


def test_arguments_are_the_graphs_inputs():
    model = parsed("float[N, 4] x) => (float[N, 3] y", "p = MatMul (x, kernel)\n y = Add (p, bias)", ir_version=3)
    for name, array in (("kernel", KERNEL), ("bias", BIAS)):  # as old models have it: initializers are inputs too
        made = onnx.numpy_helper.from_array(array.astype(np.float32), name)
        model.graph.initializer.append(made)
        model.graph.input.append(onnx.helper.make_tensor_value_info(name, 1, array.shape))
    model.opset_import[0].version = 8
    assert opened(model).arguments() == [Argument("x", (None, 4), "float32", 2)]
    unknown = affine()
    unknown.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(ConformanceError, match="'x' does not tell its shape"):
        opened(unknown).arguments()


def test_a_users_own_call_is_watched():
    live = opened(chain())

    def through(session, x):
        (y,) = session.run(["y"], {session.get_inputs()[0].name: np.asarray(x, np.float32) * 2})
        return y + 1

    trace = live.run(call(through=through))
    close(trace.output, np.maximum(2 * X @ KERNEL + BIAS, 0) + 1)
    close(trace.observed_output, trace.output)
    assert [e.operation for e in trace.tape] == ["MatMul:p", "Add:s", "Relu:y"]
    close(trace.tape[0].array, 2 * X @ KERNEL)


# -------------------------------------------------------------------------------------------- precisions


def test_in_float64_it_computes_in_float64():
    live = opened(chain())
    trace = live.run(call("float64"))
    close(trace.output, np.maximum(X @ KERNEL.astype("f4") + BIAS.astype("f4").astype("f8"), 0), "float64")
    assert {e.array.dtype.name for e in trace.tape} == {"float64"}


def test_everything_that_makes_floats_is_converted():
    body = """c = Constant <value = float[1] {0.5}> ()
        d = Constant <value_float = 0.25> ()
        n = Cast <to = 1> (i)
        s = Shape (x)
        z = ConstantOfShape <value = float[1] {3.0}> (s)
        e = ConstantOfShape (s)
        a = Mul (x, c)
        b = Add (a, n)
        f = Add (b, z)
        g = Add (f, e)
        h = Mul (g, d)
        y = If (k) <
            then_branch = t () => (float[N] p) { one = Constant <value = float[1] {1.0}> () p = Add (h, one) },
            else_branch = l () => (float[N] q) { q = Identity (h) }>"""
    live = opened(parsed("float[N] x, int64[N] i, bool k) => (float[N] y", body))
    given = {"x": np.array([1.1, 2.2]), "i": np.array([1, 2]), "k": np.array(True)}
    expected = (given["x"] * 0.5 + given["i"] + 3) * 0.25 + 1
    assert np.max(np.abs(live.run(call("float64", given)).output - expected)) < 1e-15
    trace = live.run(call("float32", {**given, "x": given["x"].astype("f4").astype("f8")}))
    assert 1e-9 < np.max(np.abs(trace.output - expected)) < 1e-6
    assert [e.operation for e in trace.tape][-1] == "If:y"  # a node with subgraphs stays one


def test_what_must_be_float32_by_definition_stays_so():
    body = 'y = Resize <mode = "linear"> (x, , scales)'
    model = parsed("float[1, 1, N] x) => (float[1, 1, M] y", body, {"scales": np.array([1, 1, 2], np.float32)})
    with pytest.raises(Unsupported, match="Could not find an implementation for Resize"):  # and no type error
        opened(model).run(call("float64", {"x": numbers(1, 1, 3)}))


def test_a_dtype_without_a_kernel_is_unsupported():
    live = opened(parsed("float[N] x) => (float[N] y", "y = Erf (x)"))
    with pytest.raises(Unsupported, match=r"Could not find an implementation for Erf"):
        live.run(call("float64", {"x": numbers(3)}))
    with pytest.raises(Unsupported, match="no bfloat16"):
        live.run(call("bfloat16", {"x": numbers(3)}))


def test_a_half_precision_model_is_one():
    live = opened(
        parsed("float16[N, 4] x) => (float16[N, 3] y", "y = MatMul (x, kernel)", {"kernel": KERNEL}, dtype=np.float16)
    )
    assert live.dtype == "float16"
    given = X.astype(np.float16).astype(np.float64)
    assert live.run(call("float16", {"x": given})).output.dtype == np.float16
    close(live.run(call("float64", {"x": given})).output, given @ KERNEL.astype(np.float16).astype("f8"), "float64")


# -------------------------------------------------------------------------------------------- models that people have


class Attention(torch.nn.Module):
    """Self-attention written out; `scale` is the only thing that may be wrong."""

    def __init__(self, scale):
        super().__init__()
        torch.manual_seed(1)
        self.q, self.k, self.v, self.o = (torch.nn.Linear(12, 12) for _ in range(4))
        self.scale = scale

    def forward(self, x):
        q, k, v = (part(x).unflatten(-1, (3, 4)).transpose(1, 2) for part in (self.q, self.k, self.v))
        weights = torch.softmax(q @ k.transpose(-1, -2) * self.scale, -1)
        return self.o((weights @ v).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("dtype", [None, "float64"])
@pytest.mark.parametrize("decomposed", [False, True])
def test_an_exported_attention_is_checked_as_a_whole(dtype, decomposed, tmp_path):
    path = tmp_path / "a.onnx"
    exported(Attention(0.5), torch.zeros(2, 5, 12), path=path)
    case = check(path, "multi_head_attention", config={"heads": 3}, dtype=dtype, decomposed=decomposed)
    assert case.status == "conforms"
    seen = {s.name: s.status for s in case.steps}
    assert seen["query"] == seen["scaled"] == seen["weights"] == seen["context"] == "conforms"


def test_its_fault_is_found_at_its_step(tmp_path):
    path = tmp_path / "a.onnx"
    exported(Attention(0.25), torch.zeros(2, 5, 12), path=path)
    case = check(path, "multi_head_attention", config={"heads": 3})
    assert (case.status, case.culprit) == ("diverges", "scaled")
    assert any(d.convention == "attention.scale" and d.explains for d in case.diagnosis)


def test_a_model_is_judged_layer_by_layer(tmp_path):
    path = tmp_path / "a.onnx"
    exported(Attention(0.5), torch.zeros(2, 5, 12), path=path, input_names=["tokens"])
    run = check_model(path)
    assert sorted((c.subject, c.layer, c.status) for c in run.cases) == [
        ("/Softmax", "softmax", "conforms"),
        ("/k/MatMul", "linear", "conforms"),
        ("/o/MatMul", "linear", "conforms"),
        ("/q/MatMul", "linear", "conforms"),
        ("/v/MatMul", "linear", "conforms"),
    ]
    assert Path(path).is_file()
