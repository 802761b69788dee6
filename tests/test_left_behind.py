"""Steps that no other step reads, as the moving averages that training leaves behind: judged where they are seen."""

import numpy as np
import pytest

from conformance.flow import Flow
from conformance.judge import judge
from conformance.layers import get_layer
from conformance.precision import PRECISIONS
from conformance.trace import Entry, Trace

CONFIG = {"training": True, "momentum": 0.9, "epsilon": 1e-3}
RNG = np.random.default_rng(0)
X = (RNG.normal(size=(4, 5, 3)) * [0.05, 1, 3] + 0.3).astype(np.float32)
WEIGHTS = {
    "scale": RNG.normal(size=3).astype(np.float32) + 1,
    "moving_mean": RNG.normal(size=3).astype(np.float32),
    "moving_variance": np.square(RNG.normal(size=3)).astype(np.float32) + np.float32(0.5),
}


def judged(kept=0.9, unbiased=False, wrong=None, hint=None, shown=True, correction=0, dtype="float32"):
    """What is said of a batch norm that keeps `kept` of the old; `wrong` stands for its moving variance."""
    x, w = X.astype(dtype), {n: a.astype(dtype) for n, a in WEIGHTS.items()}
    mean, variance = x.mean((0, 1)), x.var((0, 1), ddof=correction)
    averaged = x.var((0, 1), ddof=1) if unbiased else variance
    keep = np.asarray(kept, dtype)
    new_mean = w["moving_mean"] * keep + mean * (1 - keep)
    new_variance = w["moving_variance"] * keep + averaged * (1 - keep) if wrong is None else np.asarray(wrong, dtype)
    normalized = (x - mean) / np.sqrt(variance + np.asarray(1e-3, dtype))
    output = normalized * w["scale"]
    tape = [Entry("mean", mean), Entry("var", variance)]
    if shown:
        tape += [Entry("average", new_mean), Entry("average", new_variance, hint)]
    tape += [Entry("divide", normalized), Entry("multiply", output)]
    values = {n: a.astype(np.float64) for n, a in WEIGHTS.items()}
    flow = Flow.bind(get_layer("batch_norm"), CONFIG, {"x": X.astype(np.float64)}, values)
    return judge(flow, Trace(output, tape), PRECISIONS[dtype])


def statuses(verdict):
    return {s.name: s.status for s in verdict.steps if s.status not in ("conforms", "propagated")}


def named(verdict):
    return [(c.step, c.convention, c.value) for c in verdict.causes]


MEAN, VARIANCE = "new_moving_mean", "new_moving_variance"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("how", "off", "causes"),
    [
        ({}, [], []),
        ({"unbiased": True}, [VARIANCE], [(VARIANCE, "batch_norm.running-variance", "bessel")]),
        (
            {"kept": 0.1},
            [MEAN, VARIANCE],
            [(MEAN, "batch_norm.momentum", "weight-of-new"), (VARIANCE, "batch_norm.momentum", "weight-of-new")],
        ),
        (
            {"kept": 0.1, "correction": 1},
            ["variance", MEAN, VARIANCE],
            [
                ("variance", "norm.variance", "bessel"),
                (MEAN, "batch_norm.momentum", "weight-of-new"),
                (VARIANCE, "batch_norm.momentum", "weight-of-new"),
            ],
        ),
    ],
)
def test_what_is_left_behind_is_judged_though_the_output_is_right(how, off, causes, dtype):
    verdict = judged(**how, dtype=dtype)
    assert statuses(verdict) == dict.fromkeys(off, "diverges")
    assert named(verdict) == causes
    assert (verdict.status, verdict.culprit) == (("diverges", off[0]) if off else ("conforms", None))


def test_what_is_not_shown_is_not_observed():
    verdict = judged(shown=False)
    assert verdict.status == "conforms"
    assert statuses(verdict) == dict.fromkeys((MEAN, VARIANCE), "not-observed")


def test_another_tensor_is_taken_for_it_only_where_it_is_said_to_be_it():
    numbers = [0.1, 0.2, 0.3]
    assert statuses(judged(wrong=numbers)) == {VARIANCE: "not-observed"}
    said = judged(wrong=numbers, hint=VARIANCE)
    assert (said.status, said.culprit, said.causes) == ("diverges", VARIANCE, ())
