"""`conformance.check` on what users have: modules, functions and files of PyTorch."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import conformance
from conformance.errors import ConformanceError
from conformance.result import Case
from torch_modules import Cell, Cross, Fused, Listed, Matrices, Named, Norm, PaddedMultiHead, PerHead, SingleHead

ATTENTION = "multi_head_attention"
QKVO = ("q_proj", "k_proj", "v_proj", "out_proj")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def named(case: Case) -> list[tuple[str, str, str]]:
    return [(f.step, f.convention, f.value) for f in case.diagnosis if f.explains]


# -- the published walk-throughs, each with one line ------------------------------------------------------


def test_the_single_head_that_does_not_scale():
    case = conformance.check(SingleHead(), ATTENTION)
    assert (case.status, case.culprit) == ("diverges", "scaled")
    assert named(case) == [("scaled", "attention.scale", "1")]


def test_the_padded_layer_with_three_faults():
    inputs = {"query_input": np.random.default_rng(1).normal(size=(2, 9, 768)), "mask": np.arange(9) < [[3], [4]]}
    case = conformance.check(PaddedMultiHead(), ATTENTION, config={"heads": 12}, inputs=inputs)
    assert case.culprit == "scaled"
    assert {f"{c} = {v}" for _, c, v in named(case)} == {
        "attention.scale = 1",
        "attention.mask-fill = -1e-25",
        "attention.mask-axis = query",
    }


def test_a_finding_has_both_formulas_with_the_numbers_in_them():
    case = conformance.check(nn.LayerNorm(7, eps=1e-3), "layer_norm", config={"epsilon": 1e-5})
    (finding,) = case.diagnosis
    assert (finding.convention, finding.value, finding.canonical) == ("norm.epsilon", "0.001", "1e-05")
    assert finding.formula == "normalized = (x - mean) / sqrt(variance + 0.001)"
    assert finding.canonical_formula == "normalized = (x - mean) / sqrt(variance + 1e-05)"
    assert finding.formula in finding.sentence
    assert finding.canonical_formula in finding.sentence


def test_the_canonical_formula_is_that_of_what_was_asked_for():
    case = conformance.check(nn.GELU(), "gelu", config={"approximation": "tanh"})
    (finding,) = case.diagnosis
    assert (finding.value, finding.canonical) == ("none", "tanh")
    assert finding.formula == "output = x / 2 * (1 + erf(x / sqrt(2)))"
    assert finding.canonical_formula == "output = x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))"


def test_a_number_that_was_asked_for_stands_in_the_canonical_formula():
    half = {"x": np.random.default_rng(0).normal(size=(1, 5, 2, 6)).astype(np.float32)}

    def tenfold(x: torch.Tensor) -> torch.Tensor:
        turn = torch.outer(torch.arange(5.0), 1e5 ** (-torch.arange(0, 6, 2) / 6))[:, None]
        a, b = x.chunk(2, dim=-1)
        return torch.cat([a * turn.cos() - b * turn.sin(), b * turn.cos() + a * turn.sin()], -1)

    case = conformance.check(tenfold, "rotary_embedding", inputs=half, config={"base": 5e5}, adapter="torch")
    (finding,) = case.diagnosis
    assert (finding.convention, finding.value, finding.canonical) == ("rope.base", "100000.0", "500000.0")
    assert finding.formula == "angles = position * 100000.0^(-2 * i / dim)"
    assert finding.canonical_formula == "angles = position * 500000.0^(-2 * i / dim)"


# -- weights, found by name and by use --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "config"),
    [
        (Named(QKVO), {"heads": 3}),
        (Named(("wq", "wk", "wv", "wo")), {"heads": 3}),
        (Named(("to_q", "to_k", "to_v", "to_out")), {"heads": 3}),
        (Named(("query", "key", "value", "dense"), bias=False), {"heads": 3}),
        (Named(("W_q", "W_k", "W_v", "W_o")), {"heads": 3}),
        (Named(("queries", "keys", "values", "unify_heads")), {"heads": 3}),
        (Fused(), {"heads": 3}),
        (Fused("qkv", "proj"), {"heads": 3}),
        (Fused("in_proj", "out_proj"), {"heads": 3}),
        (PerHead(), {"heads": 3}),
        (Matrices(transposed=False), {}),
        (Matrices(transposed=True), {}),
        (Listed(), {"heads": 3}),
        (Cross(), {"heads": 3}),
    ],
    ids=lambda value: (
        type(value).__name__ + "-".join(getattr(value, "names", ())) if isinstance(value, nn.Module) else ""
    ),
)
def test_a_right_layer_conforms_whatever_its_parameters_are_called(module: nn.Module, config: dict[str, int]):
    case = conformance.check(module, ATTENTION, config=config)
    assert (case.status, case.culprit, case.layouts) == ("conforms", None, [])
    seen = {s.name for s in case.steps if s.status == "conforms"}
    assert {"query", "key", "value", "weights"} <= seen or isinstance(module, PerHead)


def test_names_win_over_use_so_that_exchanged_projections_are_a_fault():
    class Exchanged(Named):
        def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            self.names = ("k_proj", "q_proj", "v_proj", "out_proj")
            return super().forward(x)

    assert conformance.check(Exchanged(QKVO), ATTENTION, config={"heads": 3}).status == "diverges"


def test_a_recurrent_cell_and_a_norm_of_ones_own():
    assert conformance.check(Cell(), "lstm").status == "conforms"
    assert conformance.check(Norm(), "layer_norm").status == "conforms"


def test_where_weights_cannot_be_told_the_candidates_are_listed():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(12, 12), nn.Linear(12, 12)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.first(x) + self.second(x)

    with pytest.raises(ConformanceError, match=r"first.weight or second.weight.*--weights FILE"):
        conformance.check(Two(), "linear")


def test_a_subject_without_such_weights_says_what_it_has():
    with pytest.raises(ConformanceError, match=r"no parameter .* query_kernel .*it has weight 7x5, bias 7"):
        conformance.check(nn.Linear(5, 7), ATTENTION, inputs={"query_input": np.ones((2, 3, 5))})


def test_given_weights_feed_the_oracle_only():
    module = nn.Linear(5, 7)
    kernel, bias = module.weight.detach().numpy().T, module.bias.detach().numpy()
    assert conformance.check(module, "linear", weights={"kernel": kernel, "bias": bias}).status == "conforms"
    case = conformance.check(module, "linear", weights={"kernel": kernel, "bias": bias + 1})
    assert (case.status, case.culprit) == ("diverges", "output")
    assert np.array_equal(module.bias.detach().numpy(), bias)


# -- a framework's own layers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "layer"),
    [
        (nn.Linear(5, 7), "linear"),
        (nn.Linear(5, 7, bias=False), "linear"),
        (nn.LayerNorm((5, 7)), "layer_norm"),
        (nn.LayerNorm(7, elementwise_affine=False), "layer_norm"),
        (nn.Softmax(dim=1), "softmax"),
        (nn.GELU(approximate="tanh"), "gelu"),
        (nn.LSTM(5, 4), "lstm"),
        (nn.LSTM(5, 4, batch_first=True, bias=False), "lstm"),
        (nn.Conv2d(4, 6, (3, 5), stride=2, padding=1, groups=2), "conv2d"),
        (nn.Conv2d(4, 6, 4, padding="same", dilation=2), "conv2d"),
        (nn.MultiheadAttention(12, 3), ATTENTION),
        (nn.MultiheadAttention(12, 3, batch_first=True, kdim=10, vdim=11), ATTENTION),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_own_layers_are_read_with_their_config(module: nn.Module, layer: str, dtype: str):
    before = copy.deepcopy(module.state_dict())
    case = conformance.check(module, layer, dtype=dtype)
    assert (case.status, case.dtype, case.subject) == ("conforms", dtype, f"torch.nn.{type(module).__name__}")
    assert all(torch.equal(before[n], p) for n, p in module.state_dict().items())
    assert module.training


def test_an_explicit_config_wins_over_what_was_read():
    case = conformance.check(nn.GELU(approximate="tanh"), "gelu", config={"approximation": "none"})
    assert named(case) == [("output", "gelu.approximation", "tanh")]


def test_an_option_that_the_canonical_layer_lacks_is_unsupported():
    case = conformance.check(nn.MultiheadAttention(6, 2, add_zero_attn=True), "multi_head_attention")
    assert case.status == "unsupported"
    assert "add_zero_attn" in (case.message or "")


# -- functions, dtypes, ways to call ----------------------------------------------------------------------


def test_a_plain_function_needs_its_adapter_and_gets_inputs_by_name_or_order():
    function = nn.functional.scaled_dot_product_attention
    with pytest.raises(ConformanceError, match="plain function: say whose tensors"):
        conformance.check(function, "scaled_dot_product_attention")
    assert conformance.check(function, "scaled_dot_product_attention", adapter="torch").status == "conforms"
    by_name = lambda value, key, query: function(query, key, value)  # noqa: E731
    assert conformance.check(by_name, "scaled_dot_product_attention", adapter="torch").status == "conforms"


def test_a_subject_is_called_as_the_user_says():
    def call(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return module(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    module = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1))  # no layer of PyTorch's own by its type
    case = conformance.check(
        module,
        "conv2d",
        config={"padding": [[1, 1], [1, 1]]},
        call=call,
        inputs={"x": np.random.default_rng(0).normal(size=(2, 5, 7, 4))},
    )
    assert case.status == "conforms"


def test_the_dtype_is_the_subjects_own():
    assert conformance.check(Norm().double(), "layer_norm").dtype == "float64"
    assert conformance.check(Norm(), "layer_norm").dtype == "float32"


def test_what_the_subject_raises_is_the_cases_error():
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("out of luck")

    case = conformance.check(Broken(), "gelu", inputs={"x": np.ones((2, 3))})
    assert (case.status, case.message) == ("error", "RuntimeError: out of luck")


@pytest.mark.parametrize(
    ("subject", "options", "said"),
    [
        (nn.Linear(5, 7), {"layer": "linaer"}, "did you mean 'linear'"),
        (nn.Linear(5, 7), {"layer": "linear", "inputs": {"y": np.ones((2, 5))}}, "no input 'y'; it has x"),
        (nn.Linear(5, 7), {"layer": "linear", "config": {"bias": 1}}, "linear has no config 'bias'"),
        (nn.Linear(5, 7), {"layer": "linear", "dtype": "float23"}, "unknown dtype"),
        (3, {"layer": "linear"}, "nothing that an installed adapter takes"),
        ("missing.py:Name", {"layer": "linear"}, "there is no such file"),
    ],
)
def test_bad_input_is_one_sentence(subject: object, options: dict[str, object], said: str):
    with pytest.raises(ConformanceError, match=said) as caught:
        conformance.check(subject, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


# -- assert_conforms, and a whole model -------------------------------------------------------------------


def test_assert_conforms_reads_as_the_report():
    conformance.assert_conforms(nn.Linear(5, 7), "linear")
    with pytest.raises(AssertionError) as caught:
        conformance.assert_conforms(SingleHead(), ATTENTION)
    said = str(caught.value)
    assert said.startswith("SingleHead is not the canonical multi_head_attention")
    assert "step `scaled` is off by" in said
    assert "attention.scale = 1" in said


def test_one_bias_is_not_that_of_the_input_and_of_the_state_too():
    """A GRU written by hand with one bias, and the reset before the product: it is named with the weights found."""

    class Gru(nn.Module):
        def __init__(self):
            super().__init__()
            self.kernel, self.recurrent_kernel = nn.Parameter(torch.randn(6, 15)), nn.Parameter(torch.randn(5, 15))
            self.bias = nn.Parameter(torch.randn(15))

        def forward(self, x):
            h, out = x.new_zeros(len(x), 5), []
            for t in range(x.shape[1]):
                wr, wz, wn = (x[:, t] @ self.kernel + self.bias).split(5, 1)
                ur, uz, un = self.recurrent_kernel.split(5, 1)
                r, z = torch.sigmoid(wr + h @ ur), torch.sigmoid(wz + h @ uz)
                h = (1 - z) * torch.tanh(wn + (r * h) @ un) + z * h
                out.append(h)
            return torch.stack(out, 1)

    torch.manual_seed(1)
    gru = Gru()
    assert conformance.check(gru, "gru", config={"reset": "before"}).status == "conforms"
    case = conformance.check(gru, "gru")
    assert [(f.convention, f.value) for f in case.diagnosis] == [("gru.reset", "before")]
    assert "recurrent_bias" not in case.shapes


def test_every_known_layer_of_a_model_is_judged_the_worst_first():
    class Rounded(nn.GELU):
        pass  # a subclass may compute anything: it is not taken for PyTorch's own

    own = nn.GELU("tanh")  # no activation of the canonical transformer's layer: that one's parts are judged
    encoders = [nn.TransformerEncoderLayer(12, 2, 20, batch_first=True, activation=a) for a in (nn.GELU(), own)]
    model = nn.Sequential(nn.Embedding(11, 12), *encoders, Rounded(), nn.Linear(12, 3))
    run = conformance.check_model(model)
    assert run.summary == {"conforms": 12}
    assert {c.subject for c in run.cases} >= {"0", "1", "2.self_attn", "2.activation", "2.norm2", "4"}
    worst = [c.ratio or 0 for c in run.cases]
    assert worst == sorted(worst, reverse=True)


def test_a_model_without_known_layers_says_so():
    with pytest.raises(ConformanceError, match="holds no layer of a known kind"):
        conformance.check_model(nn.Sequential(nn.Hardshrink()), inputs={"input": np.ones((2, 3))})


# -- the command ------------------------------------------------------------------------------------------

FILE = """
import math, torch
from torch import nn

class Attention(nn.Module):
    def __init__(self, width=12, heads=3):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        print("noise on standard output")
        q, k, v = (p.unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in self.qkv(x).chunk(3, -1))
        weights = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1], -1)
        return self.proj((weights @ v).transpose(1, 2).flatten(2))

def stack():
    return nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.GELU())

def gone():
    import os
    os.abort()
"""


def conformance_check(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "mine.py").write_text(FILE)
    command = [sys.executable, "-m", "conformance", "check", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_names_the_fault_of_a_class_in_a_file(tmp_path: Path):
    done = conformance_check(
        tmp_path, "mine.py:Attention", "--layer", ATTENTION, "--config", "heads=3", "--json", "run.json"
    )
    assert done.returncode == 1, done.stderr
    assert "attention.scale = 1/head_dim" in done.stdout
    assert "noise" not in done.stdout
    assert all(len(line.rstrip()) <= 80 for line in done.stdout.splitlines())
    import json

    (case,) = json.loads((tmp_path / "run.json").read_text())["cases"]
    assert (case["subject"], case["culprit"], case["layer"]) == ("Attention", "scaled", ATTENTION)


def test_the_command_judges_every_layer_of_a_model(tmp_path: Path):
    done = conformance_check(tmp_path, "mine.py:stack")
    assert done.returncode == 0, done.stderr
    assert "3 conform" in done.stdout


def test_a_dying_subject_is_a_crashed_case(tmp_path: Path):
    done = conformance_check(tmp_path, "mine.py:gone")
    assert done.returncode == 3
    assert "1 crashed" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mine.py"], "say which object in it"),
        (["mine.py:Atention"], "did you mean 'Attention'"),
        (["mine.py:Attention", "--layer", "attention"], "unknown layer 'attention'"),
        (["mine.py:Attention", "--config", "heads=3"], "name it with --layer"),
        (["mine.py:Attention", "--layer", ATTENTION, "--config", "heads"], "give it as name=value"),
        (["model.onnx", "--layer", ATTENTION], "there is no such file"),
    ],
)
def test_bad_input_to_the_command_is_one_sentence_and_exit_code_2(tmp_path: Path, words: list[str], said: str):
    done = conformance_check(tmp_path, *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
