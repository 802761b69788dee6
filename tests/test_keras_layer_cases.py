"""Keras's own layer tests as configurations and expected values: some of them on each back end; the whole is `--check`
without `--tests`."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("keras")
ROOT = Path(__file__).parent.parent
CHOSEN = {
    "tensorflow": ("core/dense_test", "activations/softmax_test", "reshaping/up_sampling"),
    "jax": ("activations/leaky_relu_test", "normalization/rms_normalization_test"),
    "torch": ("rnn/simple_rnn_test", "attention/attention_test", "normalization/layer_normalization", "pooling/global"),
}
EXPECTED = {"tensorflow": 7, "jax": 2, "torch": 13}


def counted(backend, tests):
    pytest.importorskip(backend)
    command = [sys.executable, str(ROOT / "benchmarks" / "keras_layer_cases.py"), "--check", "--backend", backend]
    chosen = [argument for test in tests for argument in ("--tests", test)]
    done = subprocess.run(command + chosen, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.rsplit(maxsplit=3) for line in done.stdout.splitlines()]
    return {r[0].strip(): [int(n) for n in r[1:]] for r in rows if len(r) == 4 and r[3].isdigit()}


@pytest.mark.parametrize("backend", CHOSEN)
def test_every_call_conforms_or_has_its_reason(backend):
    found = counted(backend, CHOSEN[backend])
    cases, conform, other = found["all"]
    assert cases == conform + other
    assert found["of them expected values"] == [EXPECTED[backend], EXPECTED[backend], 0]
