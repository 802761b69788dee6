"""Batch norm against 50 digits, by hand, in inference and in training, and under its conventions."""

import mpmath
import numpy as np
import pytest
from exact import check, drawn, exact, filled, steps, total

from conformance.flow import Flow
from conformance.layers import get_layer
from conformance.model import RoundingModel
from conformance.precision import PRECISIONS

EPSILON, MOMENTUM = 1e-3, 0.9
X = drawn(4, 2, 3, 5, 4) + 1
WEIGHTS = {
    "scale": drawn(5, 4),
    "bias": drawn(6, 4),
    "moving_mean": drawn(7, 4),
    "moving_variance": 1 + np.square(drawn(8, 4)),
}


def applied(mean, variance):
    """`normalized` and `output`, where channel c has `mean[c]` and `variance[c]`."""
    values, root = exact(X), [mpmath.sqrt(v + mpmath.mpf(EPSILON)) for v in variance]
    whole = filled(X.shape, lambda *i: (values[i] - mean[i[-1]]) / root[i[-1]])
    scale, bias = exact(WEIGHTS["scale"]), exact(WEIGHTS["bias"])
    return {"normalized": whole, "output": filled(X.shape, lambda *i: whole[i] * scale[i[-1]] + bias[i[-1]])}


def test_inference_against_50_digits():
    reference = applied(exact(WEIGHTS["moving_mean"]), exact(WEIGHTS["moving_variance"]))
    check(steps("batch_norm", {"x": X}, WEIGHTS, {"epsilon": EPSILON}), reference)


def test_training_against_50_digits():
    values, n = exact(X), 2 * 3 * 5
    mean = filled((4,), lambda c: total(values[..., c].ravel()) / n)
    variance = filled((4,), lambda c: total((v - mean[c]) ** 2 for v in values[..., c].ravel()) / n)
    kept = mpmath.mpf(MOMENTUM)

    def averaged(name, of):
        old = exact(WEIGHTS[name])
        return filled((4,), lambda c: old[c] * kept + of[c] * (1 - kept))

    new = {
        "new_moving_mean": averaged("moving_mean", mean),
        "new_moving_variance": averaged("moving_variance", variance),
    }
    reference = {"mean": mean, "variance": variance, **new, **applied(mean, variance)}
    config = {"epsilon": EPSILON, "training": True, "momentum": MOMENTUM}
    check(steps("batch_norm", {"x": X}, WEIGHTS, config), reference)


# One channel: 1 2 4 5 have the mean 3 and the variance 2.5, of which 10 / 3 is the unbiased estimate.
ROW = np.array([[[1.0], [2.0]], [[4.0], [5.0]]])
ONE = {"moving_mean": np.array([2.0]), "moving_variance": np.array([7.0])}


def test_by_hand():
    found = steps("batch_norm", {"x": ROW}, ONE, {"epsilon": 2.0})
    assert list(found) == ["normalized", "output"]
    assert found["output"].ravel().tolist() == [-1 / 3, 0, 2 / 3, 1]  # sqrt(7 + 2) = 3
    found = steps("batch_norm", {"x": ROW}, ONE, {"epsilon": 1.5, "training": True, "momentum": 0.75})
    assert [found[n].item() for n in ("mean", "variance")] == [3, 2.5]
    assert [found[n].item() for n in ("new_moving_mean", "new_moving_variance")] == [2.25, 5.875]
    assert found["output"].ravel().tolist() == [-1, -0.5, 0.5, 1]  # sqrt(2.5 + 1.5) = 2


def test_the_last_step_is_the_output():
    """What a call leaves behind is computed before what it gives."""
    layer = get_layer("batch_norm")
    assert layer.output == "output"
    assert set(layer.steps) == {
        "mean", "variance", "new_moving_mean", "new_moving_variance", "normalized", "output"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("conventions", "new_mean", "new_variance"),
    [
        ({"batch_norm_momentum": "weight-of-new"}, 2.75, 3.625),
        ({"batch_norm_running_variance": "bessel"}, 2.25, 7 * 0.75 + 10 / 12),
        ({"norm_variance": "bessel"}, 2.25, 7 * 0.75 + 10 / 12),
        ({"batch_norm_momentum": "weight-of-old"}, 2.25, 5.875),
    ],
)
def test_what_is_left_behind(conventions, new_mean, new_variance):
    found = steps("batch_norm", {"x": ROW}, ONE, {"training": True, "momentum": 0.75}, **conventions)
    assert found["new_moving_mean"].item() == new_mean
    assert found["new_moving_variance"].item() == pytest.approx(new_variance, rel=1e-15)
    bessel = conventions == {"norm_variance": "bessel"}
    assert found["variance"].item() == pytest.approx(10 / 3 if bessel else 2.5, rel=1e-15)


def test_one_value_has_no_unbiased_variance():
    one = {"x": np.array([[2.0]])}
    found = steps("batch_norm", one, ONE, {"training": True}, batch_norm_running_variance="bessel")
    assert np.isnan(found["new_moving_variance"]).all()


@pytest.mark.parametrize(
    ("conventions", "divisor"),
    [
        ({"norm_epsilon": "9"}, 4),
        ({"norm_epsilon_placement": "outside-sqrt"}, np.sqrt(7) + 2),
        ({"norm_epsilon_placement": "max"}, np.sqrt(7)),
        ({"norm_epsilon_placement": "none"}, np.sqrt(7)),
    ],
)
def test_what_the_deviations_are_divided_by(conventions, divisor):
    found = steps("batch_norm", {"x": ROW}, ONE, {"epsilon": 2.0}, **conventions)["normalized"]
    assert np.allclose(found.ravel(), np.array([-1, 0, 2, 3]) / divisor, 1e-15, 0)


def test_a_layer_that_was_left_in_training_normalises_with_the_batch():
    left = steps("batch_norm", {"x": ROW}, ONE, {"epsilon": 1.5}, batch_norm_statistics="batch")
    training = steps("batch_norm", {"x": ROW}, ONE, {"epsilon": 1.5, "training": True})
    assert np.array_equal(left["output"], training["output"])
    assert list(left) == ["normalized", "output"]


def test_the_multiplied_out_form_is_within_tolerance():
    """x * (scale / r) + (bias - mean * scale / r), as fused kernels have it, loses what both have in common."""
    rng = np.random.default_rng(0)
    single = {n: rng.normal(size=3).astype(np.float32) for n in ("scale", "bias")}
    single["moving_mean"] = np.array([300, -1000, 50], np.float32)
    single["moving_variance"] = np.array([1, 0.5, 2], np.float32)
    x = (rng.normal(size=(40, 3)) + single["moving_mean"]).astype(np.float32)
    factor = single["scale"] / np.sqrt(single["moving_variance"] + np.float32(1e-5))
    fused = x * factor + (single["bias"] - single["moving_mean"] * factor)
    exact_weights = {n: a.astype(np.float64) for n, a in single.items()}
    flow = Flow.bind(get_layer("batch_norm"), {}, {"x": x.astype(np.float64)}, exact_weights)
    *_, (_, output) = flow.run(RoundingModel(PRECISIONS["float32"]))
    ratio = np.abs(fused - output.value) / output.tolerance
    assert 0.01 < ratio.max() < 0.5
