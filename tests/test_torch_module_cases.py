"""PyTorch's own configurations of its modules, judged: a few of each kind; the whole is `--check` without a module."""

import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
ROOT = Path(__file__).parent.parent
MODULES = ("BatchNorm1d", "Conv2d", "Embedding", "GELU", "LayerNorm", "LazyConv1d", "MultiheadAttention", "PReLU")


def test_every_case_conforms_or_has_its_reason():
    command = [sys.executable, str(ROOT / "benchmarks" / "torch_module_cases.py"), "--check"]
    chosen = [argument for module in MODULES for argument in ("--module", module)]
    done = subprocess.run(command + chosen, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    counted = {r[0]: [int(n) for n in r[1:]] for r in rows if len(r) == 4 and r[3].isdigit()}
    assert counted["Conv2d"] == [8, 8, 0]
    assert counted["LayerNorm"] == [14, 14, 0]  # one of them of nothing at all
    assert counted["PReLU"] == [16, 16, 0]  # two of them of a single number
    assert counted["MultiheadAttention"] == [128, 32, 96]  # those with a learned key, or one of zeros, are left
    cases, conform, other = counted["all"]
    assert cases == conform + other
