"""Execution modes: each runs what it says, and a fault that one of them alone has is told as that mode's."""

import os
import subprocess
import sys
from concurrent.futures import Executor, Future
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from safetensors.numpy import save_file

from conformance import worker
from conformance.adapter import load, modes_of
from conformance.divergences import Divergence, resolved
from conformance.errors import ConformanceError, Unsupported
from conformance.fixture import read_folder, select
from conformance.flow import Flow
from conformance.judge import judge
from conformance.layers import get_layer
from conformance.precision import precision
from conformance.result import Case
from conformance.run import chosen_modes, run
from conformance.trace import Entry, Request, Trace
from third_party_adapter import frame  # noqa: F401  # a fixture

MODES = {
    "torch": ("eager", "compile", "onnx"),
    "jax": ("eager", "jit"),
    "tensorflow": ("eager", "graph", "xla"),
    "keras-tensorflow": ("eager", "graph", "xla"),
    "keras-jax": ("eager", "jit"),
    "keras-torch": ("eager", "compile"),
    "onnxruntime": ("eager", "ort-off", "ort-all"),
    "matlab": ("eager",),
}


class Here(Executor):
    """Does the work at once, in this process."""

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture(autouse=True)
def _fresh_adapters(monkeypatch):
    monkeypatch.setattr(worker, "_started", {})


def request(layer="linear", mode="eager", subject="", **config):
    rng = np.random.default_rng(5)
    inputs = {"x": rng.normal(size=(2, 3)).astype(np.float32).astype(np.float64)}
    weights = {"kernel": rng.normal(size=(3, 5)).astype(np.float32).astype(np.float64)} if layer == "linear" else {}
    return Request(layer, subject, config, inputs, weights, "float32", mode)


def small(tmp_path, source=None):
    """A linear layer; with `source`, the code of a module for PyTorch, that module."""
    folder = tmp_path / "small"
    folder.mkdir()
    asked = request()
    save_file({"inputs.x": asked.inputs["x"], "weights.kernel": asked.weights["kernel"]}, folder / "arrays.safetensors")
    toml = "layer = 'linear'\nsummary = 'A small one.'\nsource = 'by hand'\n[[form]]\narrays = 'arrays.safetensors'\n"
    if source is not None:
        (folder / "module.py").write_text(source)
        toml += "[[form.subject]]\nadapter = 'torch'\nsubject = 'module.py:build'\ndtypes = ['float32']\n"
    (folder / "fixture.toml").write_text(toml)
    return read_folder(folder)


def cases(given, adapter, *modes):
    """The cases in this process, by mode and subject."""
    found = run(given, [adapter], ["float32"], modes=modes, executor=Here()).cases
    return {(c.mode, c.subject): c for c in found}


def python(code, *arguments, **environment):
    """Run `code` in a process of its own, which finds this file."""
    path = os.pathsep.join([os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment, "PYTHONPATH": path},
    )


# -- what is planned -----------------------------------------------------------------------------------------
def test_the_modes_of_each_adapter():
    assert {name: modes_of(load(name)) for name in MODES} == MODES


def test_an_adapter_runs_in_those_of_the_named_modes_that_it_has():
    adapters = {name: load(name) for name in ("torch", "jax", "keras-torch")}
    assert chosen_modes(["eager"], adapters) == {"torch": ("eager",), "jax": ("eager",), "keras-torch": ("eager",)}
    assert chosen_modes(["compile", "jit"], adapters) == {
        "torch": ("compile",), "jax": ("jit",), "keras-torch": ("compile",)
    }  # fmt: skip
    assert chosen_modes(["compile"], adapters)["jax"] == ()
    assert chosen_modes(["all"], adapters) == {n: MODES[n] for n in adapters}


@pytest.mark.parametrize(
    ("modes", "named", "message"),
    [
        (["compiled"], [], r"unknown mode 'compiled' \(did you mean 'compile'\?\); .* have eager, compile, jit, onnx"),
        (["graph"], [], r"unknown mode 'graph'"),
        (["compile"], ["torch", "jax"], r"^jax has no mode 'compile'; it has eager, jit$"),
    ],
)
def test_a_mode_that_is_not_there_is_refused(modes, named, message):
    with pytest.raises(ConformanceError, match=message):
        chosen_modes(modes, {name: load(name) for name in ("torch", "jax")}, named)


@pytest.mark.usefixtures("frame")
def test_a_third_partys_adapter_has_eager_and_what_it_names(tmp_path, monkeypatch):
    import frame_adapter

    given = small(tmp_path)
    assert set(cases(given, "frame", "all")) == {("eager", "fine")}
    monkeypatch.setattr(frame_adapter.Frame, "modes", ("fast",), raising=False)
    fine = frame_adapter.Frame.do_fine

    def off_when_fast(self, asked):
        trace = fine(self, asked)
        return replace(trace, output=trace.output * (1.5 if asked.mode == "fast" else 1))

    monkeypatch.setattr(frame_adapter.Frame, "do_fine", off_when_fast)
    found = cases(given, "frame", "all")
    assert {mode: c.status for (mode, _), c in found.items()} == {"eager": "conforms", "fast": "diverges"}
    assert list(found) == [("eager", "fine"), ("fast", "fine")]
    assert "the mode 'fast' is at fault" in found["fast", "fine"].message


def test_an_adapter_that_is_asked_for_a_mode_that_it_has_not_says_so():
    with pytest.raises(Unsupported, match="tensorflow has no mode 'jit'; it has eager, graph, xla"):
        load("tensorflow").run(request(mode="jit"))


# -- what is said --------------------------------------------------------------------------------------------
ASKED = request()
FLOW = Flow.bind(get_layer("linear"), {}, ASKED.inputs, ASKED.weights)
RIGHT = (ASKED.inputs["x"].astype(np.float32) @ ASKED.weights["kernel"].astype(np.float32)).astype(np.float32)


def told(plain, watched, mode):
    trace = Trace(plain, [Entry("dot", watched)], watched)
    return judge(FLOW, trace, precision("float32"), mode=mode)


def test_the_mode_whose_output_is_off_is_named():
    verdict = told(RIGHT * np.float32(1.25), RIGHT, "compile")
    assert (verdict.status, verdict.culprit) == ("diverges", "output")
    assert verdict.message.startswith("the 'compile' run's output is off by ")
    assert " tolerances, while the watched eager run conforms (" in verdict.message
    assert verdict.message.endswith("the mode 'compile' is at fault")


def test_eager_execution_that_is_off_alone_is_named():
    verdict = told(RIGHT, RIGHT * np.float32(1.25), "compile")
    assert verdict.status == "diverges"
    assert "while the 'compile' run, which is what a user gets, conforms" in verdict.message
    assert verdict.message.endswith("the framework's eager path is at fault")


def test_two_runs_that_are_off_in_different_ways_are_told_apart():
    twice, thrice = RIGHT * np.float32(2), RIGHT * np.float32(3)
    assert "the mode 'jit' does not compute what eager does" in told(thrice, twice, "jit").message
    almost = np.nextafter(twice, np.float32(np.inf))
    assert told(almost, twice, "jit").message is None


def test_what_is_right_in_both_conforms():
    assert told(RIGHT, np.nextafter(RIGHT, np.float32(np.inf)), "compile").status == "conforms"


@pytest.mark.parametrize(
    ("modes", "status"), [((), "known-divergence"), (("jit",), "known-divergence"), (("xla",), "diverges")]
)
def test_a_known_divergence_is_of_the_modes_that_it_names(modes, status):
    entry = Divergence(fixtures=("a/b",), step="output", reason="It is so.", link="", modes=modes)
    seen = {"layer": "linear", "fixture": "a/b", "adapter": "f", "subject": "s", "dtype": "float32", "mode": "jit"}
    assert resolved(Case(**seen, status="diverges", culprit="output"), [entry], {}).status == status


# -- PyTorch -------------------------------------------------------------------------------------------------
MODULE = """
import torch


class Module(torch.nn.Module):
    def __init__(self, kernel):
        super().__init__()
        self.kernel = torch.nn.Parameter(kernel)

    def forward(self, x):
        y = x @ self.kernel
        return y * 1.5 if {where} else y


def build(config, weights):
    return Module(weights["kernel"])
"""


@pytest.mark.parametrize(
    ("where", "mode"), [("torch.compiler.is_compiling()", "compile"), ("torch.onnx.is_in_onnx_export()", "onnx")]
)
def test_a_module_that_computes_otherwise_in_one_mode(tmp_path, where, mode):
    found = cases(small(tmp_path, MODULE.format(where=where)), "torch", "all")
    subject = "module.py:build"
    assert {m: c.status for (m, s), c in found.items() if s == subject} == {
        m: "diverges" if m == mode else "conforms" for m in MODES["torch"]
    }
    assert f"the mode {mode!r} is at fault" in found[mode, subject].message
    assert {c.status for (_, s), c in found.items() if s == "torch.nn.Linear"} == {"conforms"}


def test_torch_compile_compiles_each_case():
    """More cases of one class than dynamo compiles for one piece of code before it gives up, in silence."""
    from torch._dynamo.utils import counters

    from conformance_adapters.torch_modes import run_compiled
    from conformance_adapters.torch_nn import Softmax

    for width in range(2, 13):
        asked = replace(request("softmax", axis=-1), inputs={"x": np.ones((width, width + 1))})
        counters.clear()
        output = run_compiled(Softmax(asked), "softmax")
        assert counters["stats"]["unique_graphs"] == 1
        np.testing.assert_allclose(output.numpy(), 1 / (width + 1), rtol=1e-6)


def test_what_torch_does_not_compile_is_unsupported():
    (case,) = cases(select(["lstm/plain"]), "torch", "compile").values()
    assert (case.status, case.mode) == ("unsupported", "compile")
    assert case.message == "torch.nn.LSTM: torch.compile compiles nothing of it, and runs it eagerly"


def test_without_a_compiler_torch_compile_is_unsupported(tmp_path):
    code = (
        "from conformance.fixture import select; from conformance.run import run; from test_modes import Here\n"
        "(case,) = run(select(['gelu/none']), ['torch'], ['float32'], modes=['compile'], executor=Here()).cases\n"
        "print(case.status, case.message)"
    )
    own = {"PATH": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = python(code, **own)
    assert done.stdout.startswith("unsupported torch.nn.GELU: torch.compile needs a C++ compiler"), done.stderr


def test_the_exported_model_is_run_by_onnx_runtime(monkeypatch):
    import onnx
    import onnxruntime

    models, made = [], onnxruntime.InferenceSession

    def session(model, *options, **named):
        models.append(onnx.load_from_string(model))
        return made(model, *options, **named)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    (case,) = cases(select(["linear/plain"]), "torch", "onnx").values()
    assert case.status == "conforms"
    (model,) = models
    assert model.producer_name == "pytorch"
    assert [i.name for i in model.graph.input] == ["x"]
    assert {n.op_type for n in model.graph.node} & {"Gemm", "MatMul"}


def test_what_has_no_onnx_is_unsupported():
    (case,) = cases(select(["dot-product-attention/grouped-query"]), "torch", "onnx").values()
    assert case.status == "unsupported"
    assert "not implemented if enable_gqa is True" in case.message


# -- JAX and TensorFlow --------------------------------------------------------------------------------------
class Called:
    """A subject that notes what it is called with."""

    def __init__(self, **held):
        vars(self).update(held)
        self.seen = []

    def __call__(self):
        self.seen.append(self.given["x"])
        return self.given["x"] * self.other[0]


def test_every_array_of_a_jitted_subject_is_an_argument():
    import jax
    import jax.numpy as jnp

    from conformance_adapters.jax_modes import run_jitted

    subject = Called(given={"x": jnp.arange(3.0), "none": None}, other=(jnp.full(3, 2.0), "a word", 7))
    assert run_jitted(subject).tolist() == [0, 2, 4]
    assert all(isinstance(x, jax.core.Tracer) for x in subject.seen)
    assert len(subject.seen) == 1
    assert isinstance(subject.given["x"], jax.Array)
    assert not isinstance(subject.given["x"], jax.core.Tracer)


def test_jit_that_is_wrong_is_told(monkeypatch):
    import jax

    from conformance_adapters.flax_layers import Softmax

    right, calls = Softmax.forward, []

    def wrong_when_jitted(self):
        calls.append(isinstance(self.inputs["x"], jax.core.Tracer))
        return right(self) * (1.5 if calls == [True] else 1.0)  # the first call is the plain one

    monkeypatch.setattr(Softmax, "forward", wrong_when_jitted)
    (case,) = cases(select(["softmax/last-axis"]), "jax", "eager").values()
    assert case.status == "conforms"
    assert calls[0] is False
    calls.clear()
    (case,) = cases(select(["softmax/last-axis"]), "jax", "jit").values()
    assert (case.status, case.culprit) == ("diverges", "output")
    assert "the mode 'jit' is at fault" in case.message


@pytest.mark.parametrize(("mode", "compiled"), [("graph", False), ("xla", True)])
def test_tensorflow_traces_once(monkeypatch, mode, compiled):
    import tensorflow as tf

    from conformance_adapters.tensorflow_modes import run_traced

    made, original = [], tf.function

    def function(**options):
        def wrapped(python):
            made.append((options, original(**options)(python)))
            return made[-1][1]

        return wrapped

    monkeypatch.setattr(tf, "function", function)
    subject = Called(given={"x": tf.constant([1.0, 2.0]), "none": None}, other=[tf.Variable([3.0, 4.0])])
    assert run_traced(subject, mode).numpy().tolist() == [3, 8]
    ((options, traced),) = made
    assert options["jit_compile"] is compiled
    assert traced.experimental_get_tracing_count() == 1
    assert tf.is_symbolic_tensor(subject.seen[0])


def test_what_xla_cannot_compile_is_unsupported():
    """BlockLSTMV2 has no XLA kernel: that this is noticed shows that XLA is what ran."""
    found = cases(select(["lstm/plain"]), "tensorflow", "graph", "xla")
    assert {m: c.status for (m, _), c in found.items()} == {"graph": "conforms", "xla": "unsupported"}
    assert "BlockLSTMV2" in found["xla", "tf.raw_ops.BlockLSTMV2"].message


# -- Keras: a process has one back end ------------------------------------------------------------------------
KERAS = """
import sys
from conformance.adapter import load
from conformance.fixture import select
from conformance.run import run
from test_modes import Here

adapter, mode = sys.argv[1:]
load(adapter).start()
import keras

calls, right = [], keras.layers.Dense.call


def inside(x):
    if adapter == "keras-torch":
        import torch
        return torch.compiler.is_compiling()
    if adapter == "keras-jax":
        import jax
        return isinstance(x, jax.core.Tracer)
    import tensorflow
    return tensorflow.is_symbolic_tensor(x)


def wrong(self, x, training=None):
    if adapter == "keras-torch":
        return right(self, x) * (1.5 if inside(x) else 1.0)
    calls.append(inside(x))
    return right(self, x) * (1.5 if calls == [True] else 1.0)


def statuses():
    (case,) = run(select(["linear/plain"]), [adapter], ["float32"], modes=[mode], executor=Here()).cases
    print(case.mode, case.status, case.message)


statuses()
keras.layers.Dense.call = wrong
statuses()
"""


@pytest.mark.parametrize(("adapter", "mode"), [(a, m) for a in MODES if a.startswith("keras") for m in MODES[a]])
def test_keras_in_each_mode(adapter, mode):
    done = python(KERAS, adapter, mode)
    assert done.returncode == 0, done.stderr
    clean, planted = done.stdout.splitlines()
    assert clean == f"{mode} conforms None"
    if mode == "eager":
        assert planted == clean
    else:
        assert planted.startswith(f"{mode} diverges ")
        assert planted.endswith(f"the mode {mode!r} is at fault")


# -- ONNX Runtime --------------------------------------------------------------------------------------------
def test_the_optimisation_level_is_the_modes(monkeypatch):
    import onnxruntime

    levels, made = [], onnxruntime.InferenceSession

    def session(model, options, **named):
        levels.append(options.graph_optimization_level)
        return made(model, options, **named)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    level = onnxruntime.GraphOptimizationLevel
    every = {"eager": level.ORT_ENABLE_ALL, "ort-off": level.ORT_DISABLE_ALL, "ort-all": level.ORT_ENABLE_ALL}
    for mode, wanted in every.items():
        levels.clear()
        (case,) = cases(select(["linear/plain"]), "onnxruntime", mode).values()
        assert case.status == "conforms"
        assert levels[-2:] == [wanted, level.ORT_DISABLE_ALL]  # the plain session, and the watched one


# -- what a report says ----------------------------------------------------------------------------------------
def test_a_problem_says_in_which_modes_it_shows():
    from conformance.result import Run
    from conformance_reports.problem import problems
    from conformance_reports.problem_wording import where

    def told(status, *modes):
        made = {"layer": "linear", "fixture": "a/b", "adapter": "f", "subject": "s", "dtype": "float32"}
        listed = [Case(**made, status=status, mode=m, message="So.") for m in modes]
        run = Run(environment={}, started="", seconds=0, summary={}, cases=listed)
        return [where(p) for p in problems(run, [status])]

    assert told("error", "eager") == ["on f, float32"]
    assert told("error", "jit", "eager") == ["on f, float32, mode jit", "on f, float32"]
    assert told("known-divergence", "jit", "eager") == ["on f, float32, modes eager and jit"]


def test_a_matrix_of_every_mode_is_several_tables_of_80_columns():
    from rich.console import Console

    from conformance.result import Run
    from conformance_reports.terminal import show

    def made(adapter, mode):
        case = {"layer": "linear", "fixture": "linear/plain", "subject": "s", "dtype": "float32"}
        return Case(**case, adapter=adapter, mode=mode, status="conforms")

    listed = [made(adapter, mode) for adapter, modes in MODES.items() for mode in modes]
    console = Console(width=80, record=True, file=StringIO())
    show(Run(environment={}, started="", seconds=0, summary={"conforms": len(listed)}, cases=listed), console)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    rows = [line.split() for line in lines if line.startswith("linear")]
    assert len(rows) > 1
    assert sum(row.count("ok") for row in rows) == len(listed)
