"""An LSTM's steps in one walk are its steps one by one, and what the walk cannot do is left to them."""

import numpy as np
import pytest

from conformance.flow import Flow
from conformance.layers import get_layer, lstm_walk
from conformance.model import RoundingModel
from conformance.precision import precision

SINGLE = RoundingModel(precision("float32"))
SIZES = [(3, 7, 5, 4), (1, 9, 1, 1), (2, 1, 3, 2), (4, 50, 8, 16), (5, 3, 2, 1), (0, 3, 2, 2)]


def flow(batch, time, width, unit, config=None, states=False, bias=True, scale=1.0, **more):
    rng = np.random.default_rng(4)

    def drawn(*shape):
        return rng.normal(size=shape).astype(np.float32).astype(np.float64) * scale

    weights = {"kernel": drawn(width, 4 * unit), "recurrent_kernel": drawn(unit, 4 * unit)}
    weights |= {"bias": drawn(4 * unit)} if bias else {}
    inputs = {"x": drawn(batch, time, width)}
    inputs |= {"initial_hidden": drawn(batch, unit), "initial_cell": drawn(batch, unit)} if states else {}
    return Flow.bind(get_layer("lstm", config or {}), config or {}, {**inputs, **more}, weights)


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(lstm_walk, "_LONG", 0)


def both(made, model=SINGLE, backward=False):
    """What the walk finds, and the steps one by one."""
    walked = lstm_walk.walked(made.start(model), backward)
    apart = Flow(made.layer, made.config, made.values, made.steps)
    object.__setattr__(apart.layer, "walk", None)
    return walked, {step.name: value for step, value in apart.run(model)}


@pytest.fixture(autouse=True)
def _kept():
    """The layer as it was: `both` takes its walk from it."""
    layer = get_layer("lstm", {})
    walk = layer.walk
    yield
    object.__setattr__(layer, "walk", walk)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("states", [True, False])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("chunk", [40, 2**17])
def test_the_walk_is_the_steps_one_by_one(size, bias, states, direction, chunk, always, monkeypatch):
    monkeypatch.setattr(lstm_walk, "_CHUNK", chunk)
    made = flow(*size, {"direction": direction}, states, bias)
    walked, steps = both(made, backward=direction == "reverse")
    assert walked is not None
    assert list(steps) == [step.name for step in made.steps]
    for name, value in steps.items():
        assert walked[name].shape == value.shape
        assert walked[name].value == pytest.approx(value.value, abs=1e-14)
        assert walked[name].deviation == pytest.approx(value.deviation, rel=3e-6)


def test_a_flow_takes_the_walk(always, monkeypatch):
    made = flow(2, 3, 4, 5)
    taken = []
    walked = lstm_walk.walked

    def watched(values, backward):
        taken.append(backward)
        return walked(values, backward)

    monkeypatch.setattr(type(made.layer), "walk", property(lambda _: watched), raising=False)
    assert len(list(made.run(SINGLE))) == 7
    assert taken == [False]


def test_saturated_gates(always):
    """Inputs of fifty: gates of 1 and of 1e-20, whose tolerances are those of a sigmoid's tail."""
    walked, steps = both(flow(3, 20, 4, 6, scale=4.0))
    assert steps["input_gate"].value.min() < 1e-15
    for name, value in steps.items():
        assert walked[name].value == pytest.approx(value.value, abs=1e-13)
        assert walked[name].deviation == pytest.approx(value.deviation, rel=1e-5)


@pytest.mark.parametrize(
    "left",
    [
        flow(2, 3, 4, 5, {"activation": "relu"}),
        flow(2, 3, 4, 5, {"recurrent_activation": "hard_sigmoid"}),
        flow(2, 3, 4, 5, lengths=np.array([2, 3])),
        flow(2, 3, 4, 5, scale=1e4),
        flow(2, 3, 4, 5, bias=False, scale=1e-30),
    ],
    ids=["activation", "gates", "lengths", "large deviations", "tiny numbers"],
)
def test_what_the_walk_cannot_do_is_left_to_the_steps(left, always):
    assert lstm_walk.walked(left.start(SINGLE), False) is None


def test_other_formats_and_short_sequences_are_left_to_the_steps(monkeypatch):
    assert lstm_walk.walked(flow(2, 3, 4, 5).start(SINGLE), False) is None  # too short
    monkeypatch.setattr(lstm_walk, "_LONG", 0)
    for model in (RoundingModel(precision(n)) for n in ("float64", "bfloat16", "float16")):
        assert lstm_walk.walked(flow(2, 3, 4, 5).start(model), False) is None
    assert lstm_walk.walked(flow(2, 3, 4, 5).start(RoundingModel(precision("float32"), True)), False) is None
    assert lstm_walk.walked(flow(2, 3, 4, 5).start(SINGLE, carried=True), False) is None
    nothing = flow(2, 3, 4, 5)
    nothing.values["x"][1, 2, 3] = np.nan
    assert lstm_walk.walked(nothing.start(SINGLE), False) is None
