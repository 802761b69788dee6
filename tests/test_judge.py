"""Verdicts on traces that are made by hand, in NumPy's float32."""

from dataclasses import replace

import numpy as np
import pytest

from conformance.errors import ConformanceError
from conformance.flow import Flow
from conformance.judge import axis_names, judge
from conformance.layers import get_layer
from conformance.precision import precision
from conformance.trace import Entry, Trace

SINGLE = precision("float32")
RNG = np.random.default_rng(0)
X, SCALE, BIAS = (RNG.normal(size=s).astype(np.float32) for s in ((3, 5, 16), (16,), (16,)))


def bound(layer, inputs, weights=None, config=None):
    """The flow, from float32 values held in float64."""
    given = [
        {n: a if a.dtype == bool else a.astype(np.float64) for n, a in (g or {}).items()} for g in (inputs, weights)
    ]
    return Flow.bind(get_layer(layer), config or {}, *given)


NORM = bound("layer_norm", {"x": X}, {"scale": SCALE, "bias": BIAS})


def norm(x=X, divisor=lambda variance: np.sqrt(variance + np.float32(1e-5)), ddof=0, scale=SCALE, between=lambda z: z):
    """A layer norm, one operation after the other."""
    steps = {"mean": x.mean(-1, keepdims=True)}
    centred = x - steps["mean"]
    steps["square"] = np.square(centred)
    steps["variance"] = steps["square"].sum(-1, keepdims=True) / np.float32(x.shape[-1] - ddof)
    steps["normalized"] = between(centred / divisor(steps["variance"]))
    steps["scaled"] = steps["normalized"] * scale
    steps["output"] = steps["scaled"] + BIAS
    return steps


def trace(steps, drop=(), **fields):
    """A run whose tape holds `steps`, but for those to `drop`; the last is the output."""
    tape = [Entry(f"op.{n}", a) for n, a in steps.items() if n not in drop]
    output = list(steps.values())[-1]
    return Trace(**{"output": output, "observed_output": output, "tape": tape, **fields})


def statuses(verdict):
    return {step.name: step.status for step in verdict.steps}


def step_of(verdict, name):
    return next(s for s in verdict.steps if s.name == name)


def test_what_is_right_conforms():
    verdict = judge(NORM, trace(norm()), SINGLE)
    assert verdict.status == "conforms"
    assert statuses(verdict) == dict.fromkeys(("mean", "variance", "normalized", "output"), "conforms")
    assert (verdict.culprit, verdict.until, verdict.causes, verdict.layouts) == (None, None, (), ())
    assert verdict.message is None
    for step in verdict.steps:
        assert step.found.operation == f"op.{step.name}"
        assert 0 < step.isolated.ratio <= 1
        assert 0 < step.accumulated.ratio <= 1
        assert step.isolated.count == norm()[step.name].size
    assert step_of(verdict, "output").axes == "shape0 shape1 shape2"


def test_a_step_that_was_fused_away_is_not_observed():
    verdict = judge(NORM, trace(norm(), drop=("normalized", "variance", "scaled", "square")), SINGLE)
    assert verdict.status == "conforms"
    assert statuses(verdict) == {
        "mean": "conforms", "variance": "not-observed", "normalized": "not-observed", "output": "conforms"
    }  # fmt: skip
    hidden = step_of(verdict, "normalized")
    assert (hidden.found, hidden.isolated, hidden.accumulated) == (None, None, None)


def test_an_output_alone_can_conform():
    verdict = judge(NORM, Trace(output=norm()["output"]), SINGLE)
    assert verdict.status == "conforms"
    assert list(statuses(verdict).values()) == ["not-observed"] * 3 + ["conforms"]


def test_a_fault_is_named_and_does_not_blame_what_is_downstream():
    wrong = norm(divisor=lambda v: np.sqrt(v) + np.float32(1e-5))
    small = norm(x=X * np.float32(0.01), divisor=lambda v: np.sqrt(v) + np.float32(1e-5))
    assert judge(NORM, trace(wrong), SINGLE).culprit in (None, "normalized")  # hardly visible at unit variance
    flow = bound("layer_norm", {"x": X * np.float32(0.01)}, {"scale": SCALE, "bias": BIAS})
    verdict = judge(flow, trace(small), SINGLE)
    assert verdict.status == "diverges"
    assert statuses(verdict) == {
        "mean": "conforms", "variance": "conforms", "normalized": "diverges", "output": "propagated"
    }  # fmt: skip
    assert verdict.culprit == "normalized"
    (cause,) = verdict.causes
    assert (cause.convention, cause.value, cause.step, cause.explains) == (
        "norm.epsilon-placement", "outside-sqrt", "normalized", True
    )  # fmt: skip
    output = step_of(verdict, "output")
    assert output.isolated.ratio <= 1 < output.accumulated.ratio
    assert step_of(verdict, "normalized").isolated.ratio > 10


def test_the_first_of_two_faults_is_the_culprit():
    verdict = judge(NORM, trace(norm(ddof=1, scale=SCALE * 2)), SINGLE)
    assert verdict.culprit == "variance"
    assert statuses(verdict)["variance"] == "diverges"
    assert statuses(verdict)["normalized"] == "propagated"
    assert statuses(verdict)["output"] == "diverges"
    assert [(c.convention, c.value) for c in verdict.causes] == [
        ("norm.variance", "bessel"), ("weights.mismatch", "different weights")
    ]  # fmt: skip


def test_a_fault_that_no_convention_explains_is_said_to_be_unexplained():
    verdict = judge(NORM, trace(norm(between=lambda z: z + np.float32(0.01) * np.abs(z))), SINGLE)
    assert verdict.status == "diverges"
    assert verdict.culprit == "normalized"
    assert verdict.causes == ()
    assert statuses(verdict)["output"] == "propagated"


def test_an_unexplained_fault_that_is_not_seen_lies_before_the_next_step_that_is():
    steps = norm(between=lambda z: z + np.float32(0.01) * np.abs(z))
    verdict = judge(NORM, trace(steps, drop=("normalized", "scaled")), SINGLE)
    assert verdict.status == "diverges"
    assert verdict.causes == ()
    assert (verdict.culprit, verdict.until) in [("output", None), ("normalized", "output")]
    assert statuses(verdict)["variance"] == "conforms"


def test_what_stands_in_for_a_step_that_is_not_seen_has_no_other_weights():
    """`scaled` is most like it; that the output is linear in both says nothing of the weights."""
    steps = norm(between=lambda z: z + np.float32(0.1) * np.sin(z))
    verdict = judge(NORM, trace(steps, drop=("normalized",)), SINGLE)
    assert (verdict.status, verdict.causes) == ("diverges", ())


def test_a_step_in_a_narrow_format_is_not_another_one_that_nothing_reads():
    """In float16, the new moving mean with its weights exchanged is the batch's mean, to within a tolerance."""
    half = precision("float16")
    given = {
        "x": np.array([300, 310, 290, 305]) + RNG.normal(size=(7, 5, 4)),
        "moving_mean": np.full(4, 294.0),
        "moving_variance": np.ones(4),
    }
    x, moving_mean, moving_variance = (half.round(a) for a in given.values())
    weights = {"moving_mean": moving_mean, "moving_variance": moving_variance}
    flow = Flow.bind(get_layer("batch_norm"), {"training": True}, {"x": x}, weights)
    mean = x.mean((0, 1)).astype(np.float32)
    variance = np.square(x - mean).mean((0, 1)).astype(np.float32)
    output = ((x - mean) / np.sqrt(variance + 1e-5)).astype(np.float16)
    tape = [Entry("mean", mean), Entry("cast", mean.astype(np.float16)), Entry("var", variance), Entry("out", output)]
    verdict = judge(flow, Trace(output=output, observed_output=output, tape=tape), half)
    assert (statuses(verdict)["mean"], statuses(verdict)["new_moving_mean"]) == ("conforms", "not-observed")


def test_an_output_that_alone_is_wrong_is_the_culprit():
    verdict = judge(NORM, trace(norm(scale=SCALE * np.float32(1.001))), SINGLE)
    assert (verdict.status, verdict.culprit) == ("diverges", "output")


def test_nan_is_a_divergence():
    steps = norm()
    steps["output"] = np.where(np.arange(16) == 3, np.float32(np.nan), steps["output"])
    verdict = judge(NORM, trace(steps), SINGLE)
    assert (verdict.status, verdict.culprit) == ("diverges", "output")
    assert step_of(verdict, "output").isolated.ratio == np.inf
    assert step_of(verdict, "output").isolated.outside == 15


def test_an_output_of_another_shape_is_said():
    with pytest.raises(ConformanceError, match="3x16x5"):
        judge(NORM, Trace(output=np.swapaxes(norm()["output"], 1, 2)), SINGLE)


def test_what_rounding_does_not_let_judge_is_uninformative():
    x = (1000 + 1e-3 * RNG.normal(size=(4, 64))).astype(np.float32)
    flow = bound("layer_norm", {"x": x})
    mean = x.mean(-1, keepdims=True)
    normalized = (x - mean) / np.sqrt(np.square(x - mean).mean(-1, keepdims=True) + np.float32(1e-5))
    verdict = judge(flow, trace({"mean": mean, "output": normalized}), SINGLE)
    assert verdict.status == "uninformative"
    assert statuses(verdict)["mean"] == "conforms"
    assert statuses(verdict)["output"] == "uninformative"
    assert verdict.culprit is None


def test_a_coarser_variance_is_named_but_explains_nothing():
    """Flax's E[x**2] - E[x]**2 with a mean of thirty: errors of the size that its cancellation makes."""
    x = (30 + RNG.normal(size=(4, 64))).astype(np.float32)
    flow = bound("layer_norm", {"x": x})
    mean = x.mean(-1, keepdims=True)
    variance = np.square(x).mean(-1, keepdims=True) - np.square(mean)
    normalized = (x - mean) / np.sqrt(variance + np.float32(1e-5))
    verdict = judge(flow, trace({"mean": mean, "variance": variance, "output": normalized}), SINGLE)
    assert (verdict.status, verdict.culprit) == ("diverges", "variance")
    assert [(c.convention, c.value, c.explains) for c in verdict.causes] == [("norm.variance", "fast", False)]


def test_a_plain_output_of_another_shape_is_said_though_the_watched_one_is_right():
    with pytest.raises(ConformanceError, match="3x5x8"):
        judge(NORM, trace(norm(), output=norm()["output"][..., :8]), SINGLE)


# -- the plain run and the watched one ----------------------------------------------------------------------


def test_a_plain_run_that_is_off_while_the_watched_run_conforms():
    steps = norm()
    verdict = judge(NORM, trace(steps, output=steps["output"] + np.float32(0.01)), SINGLE)
    assert (verdict.status, verdict.culprit) == ("diverges", "output")
    assert "fused path is at fault" in verdict.message
    output = step_of(verdict, "output")
    assert output.isolated.ratio <= 1 < output.accumulated.ratio
    assert list(statuses(verdict).values())[:3] == ["conforms"] * 3


def test_a_watched_run_that_is_off_while_the_plain_run_conforms():
    right, wrong = norm(), norm(scale=SCALE * 2)
    verdict = judge(NORM, trace(wrong, output=right["output"]), SINGLE)
    assert verdict.status == "diverges"
    output = step_of(verdict, "output")
    assert output.accumulated.ratio <= 1 < output.isolated.ratio
    assert "unfused path is at fault" in verdict.message


# -- rounding that structure has lined up -------------------------------------------------------------------

MANY = 400_000


def summed(x):
    """A linear layer of one output whose kernel is ones, its terms added one after the other."""
    flow = bound("linear", {"x": x}, {"kernel": np.ones((MANY, 1), np.float32)})
    output = np.cumsum(x, axis=-1, dtype=np.float32)[:, -1:]
    return flow, Trace(output=output, tape=[Entry("naive", output)])


CONSTANT = summed(np.full((1, MANY), np.float32(0.1)))


def test_errors_that_only_structure_can_line_up_are_rerun_on_other_data():
    asked = []

    def rerun():
        asked.append(True)
        return summed(np.random.default_rng(1).normal(size=(1, MANY)).astype(np.float32))

    flow, seen = CONSTANT
    verdict = judge(flow, seen, SINGLE, rerun)
    assert asked == [True]
    assert verdict.status == "conforms"
    assert verdict.culprit is None
    flagged = step_of(verdict, "output")
    assert (flagged.status, flagged.flags) == ("conforms", ("biased-rounding",))
    assert flagged.accumulated.ratio > 1  # it is said all the same


def test_what_cannot_be_rerun_is_inconclusive():
    flow, seen = CONSTANT
    for verdict in (judge(flow, seen, SINGLE), judge(flow, replace(seen, recorded=True), SINGLE, lambda: CONSTANT)):
        assert verdict.status == "inconclusive"
        assert verdict.culprit is None
        assert verdict.causes == ()


def test_a_rerun_that_diverges_too_is_a_divergence():
    flow, seen = CONSTANT
    verdict = judge(flow, seen, SINGLE, lambda: CONSTANT)
    assert (verdict.status, verdict.culprit) == ("diverges", "product")


def test_what_no_rounding_explains_is_not_rerun():
    def rerun():
        raise AssertionError

    flow, seen = CONSTANT
    wrong = seen.output * np.float32(1.2)
    verdict = judge(flow, Trace(output=wrong, tape=[Entry("naive", wrong)]), SINGLE, rerun)
    assert verdict.status == "diverges"


# -- layouts ------------------------------------------------------------------------------------------------


def attention(head_first=True):
    q, k, v = (RNG.normal(size=(2, 3, n, 4)).astype(np.float32) for n in (5, 7, 7))
    flow = bound("scaled_dot_product_attention", {"query": q, "key": k, "value": v})
    scores = q @ np.swapaxes(k, -1, -2)
    scaled = scores / np.float32(2)
    powers = np.exp(scaled - scaled.max(-1, keepdims=True))
    weights = powers / powers.sum(-1, keepdims=True)
    return flow, {"scores": scores, "scaled": scaled, "weights": weights, "context": weights @ v}


def test_a_layout_is_reported_and_is_no_fault():
    flow, steps = attention()
    for name in ("scores", "scaled", "weights"):
        steps[name] = np.ascontiguousarray(np.swapaxes(steps[name], -1, -2))
    verdict = judge(flow, trace(steps), SINGLE)
    assert verdict.status == "conforms"
    assert [(x.step, x.convention, x.value) for x in verdict.layouts] == [
        ("scores", "attention.scores-layout", "key-query")
    ]
    assert step_of(verdict, "scores").found_axes == "batch head key query"


def test_merged_axes_are_described():
    flow, steps = attention()
    steps["scores"] = steps["scores"].reshape(6, 5, 7)
    verdict = judge(flow, trace(steps), SINGLE)
    assert verdict.layouts == ()
    assert step_of(verdict, "scores").found_axes == "(batch head) query key"


def test_a_scale_that_was_left_out():
    flow, steps = attention()
    powers = np.exp(steps["scores"] - steps["scores"].max(-1, keepdims=True))
    weights = powers / powers.sum(-1, keepdims=True)
    value = flow.values["value"].astype(np.float32)
    verdict = judge(flow, trace({"scores": steps["scores"], "weights": weights, "context": weights @ value}), SINGLE)
    assert (verdict.status, verdict.culprit) == ("diverges", "scaled")
    (cause,) = verdict.causes
    assert (cause.convention, cause.value, cause.canonical, cause.explains) == (
        "attention.scale", "1", "1/sqrt(head_dim)", True
    )  # fmt: skip
    assert cause.sentence.startswith("scaled comes out with attention.scale = 1")


@pytest.mark.parametrize(
    ("axes", "ndim", "said"),
    [
        ("batch time in", 3, "batch time in"),
        ("*batch out", 3, "batch0 batch1 out"),
        ("*batch out", 2, "batch out"),
        ("*batch out", 1, "out"),
        ("batch *space out", 4, "batch space0 space1 out"),
        ("... pair", 2, "axis pair"),
        ("*shape", 0, ""),
    ],
)
def test_names_of_axes(axes, ndim, said):
    assert axis_names(axes, ndim) == said
