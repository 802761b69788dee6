import numpy as np
import pytest

from conformance.errors import ConformanceError, DoesNotFit
from conformance.flow import Flow, carry, exact
from conformance.layer import Layer
from conformance.layers import get_layer
from conformance.model import RoundingModel
from conformance.precision import precision

SINGLE = RoundingModel(precision("float32"))


def ones(*shape):
    return np.ones(shape)


def bind(layer, inputs, weights=None, config=None, where=""):
    return Flow.bind(get_layer(layer), config or {}, inputs, weights or {}, where)


def refused(message, layer, inputs, weights=None, config=None, where=""):
    with pytest.raises(ConformanceError) as caught:
        bind(layer, inputs, weights, config, where)
    assert str(caught.value) == message


KERNEL = {"kernel": ones(3, 4)}
LSTM = {"kernel": ones(3, 8), "recurrent_kernel": ones(2, 8)}


def test_sizes_that_contradict():
    refused(
        "'kernel' is 4x5 (in out), but in is 3 (from 'x')",
        "linear", {"x": ones(2, 3)}, {"kernel": ones(4, 5)},
    )  # fmt: skip
    refused(
        "fixture a/b: 'bias' is 5 (out), but out is 4 (from 'kernel')",
        "linear", {"x": ones(2, 3)}, {**KERNEL, "bias": ones(5)}, where="fixture a/b",
    )  # fmt: skip
    refused(
        "'value' is 2x2x6x3 (batch kv_head key vdim), but key is 5 (from 'key')",
        "scaled_dot_product_attention",
        {"query": ones(2, 2, 4, 3), "key": ones(2, 2, 5, 3), "value": ones(2, 2, 6, 3)},
    )  # fmt: skip


def test_numbers_of_axes():
    refused("'kernel' is 3, but has the axes in out", "linear", {"x": ones(2, 3)}, {"kernel": ones(3)})
    refused("'x' is a single number, but has the axes *batch in", "linear", {"x": ones()}, KERNEL)
    refused("'x' is 3x5, but has the axes batch time in", "lstm", {"x": ones(3, 5)}, LSTM)


def test_multiples():
    refused(
        "'kernel' is 3x7 (in 4*unit), but 7 is not a multiple of 4",
        "lstm", {"x": ones(2, 5, 3)}, {**LSTM, "kernel": ones(3, 7)},
    )  # fmt: skip
    refused(
        "'recurrent_kernel' is 2x12 (state 4*unit), but unit is 2 (from 'kernel')",
        "lstm", {"x": ones(2, 5, 3)}, {**LSTM, "recurrent_kernel": ones(2, 12)},
    )  # fmt: skip


def test_what_is_missing():
    refused("the weight 'kernel' of linear is missing; it has the axes in out", "linear", {"x": ones(2, 3)})
    refused("f: the input 'x' of softmax is missing; it has the axes *shape", "softmax", {}, where="f")


def test_what_is_unknown():
    refused(
        "linear has no weight 'kernal' (did you mean 'kernel'?); it has kernel, bias",
        "linear", {"x": ones(2, 3)}, {"kernal": ones(3, 4)},
    )  # fmt: skip
    refused("softmax has no input 'logits'; it has x", "softmax", {"logits": ones(2)})
    refused("softmax has no weight 'scale'; it has none", "softmax", {"x": ones(2)}, {"scale": ones(2)})
    refused(
        "layer_norm has no config 'epsilom' (did you mean 'epsilon'?); it has axes, epsilon",
        "layer_norm", {"x": ones(2)}, config={"epsilom": 1},
    )  # fmt: skip


def test_sizes_of_the_parts_of_a_row_are_their_own():
    parts = [{"name": "a", "layer": "linear"}, {"name": "b", "layer": "linear"}]
    layer = get_layer("sequential", {"parts": parts})
    Flow.bind(layer, {}, {"x": ones(2, 3)}, {"a.kernel": ones(3, 4), "b.kernel": ones(4, 5)})
    with pytest.raises(ConformanceError, match=r"^'b.bias' is 4 \(out\), but out is 5 \(from 'b.kernel'\)$"):
        Flow.bind(layer, {}, {"x": ones(2, 3)}, {"a.kernel": ones(3, 4), "b.kernel": ones(4, 5), "b.bias": ones(4)})


def test_sizes_that_only_a_step_can_check_name_what_it_reads():
    flow = bind("layer_norm", {"x": ones(2, 3)}, {"scale": ones(4)})
    with pytest.raises(DoesNotFit, match=r"^the step 'output' cannot be computed from normalized 2x3, scale 4: "):
        list(flow.run(None))
    heads = {"query_kernel": ones(3, 7), "key_kernel": ones(3, 7), "value_kernel": ones(3, 7)}
    flow = bind("multi_head_attention", {"query_input": ones(1, 2, 3)}, heads, {"heads": 2})
    with pytest.raises(ConformanceError, match=r"'scores' cannot be computed from query 1x2x7, key 1x2x7, heads 2"):
        list(flow.run(SINGLE))


def test_defaults_and_what_stands_in():
    heads = {f"{n}_kernel": ones(3, 4) for n in ("query", "key", "value")}
    flow = bind("multi_head_attention", {"query_input": ones(1, 2, 3)}, heads, {"heads": 2})
    assert flow.config["kv_heads"] == 2
    assert flow.config["scale"] is None
    assert flow.values["key_input"] is flow.values["query_input"]
    assert flow.values["value_input"] is flow.values["query_input"]
    assert flow.values["output_kernel"] is None


def test_steps_that_are_not_asked_for_are_read_through():
    flow = bind("scaled_dot_product_attention", {n: ones(1, 1, 2, 3) for n in ("query", "key", "value")})
    assert [s.name for s in flow.steps] == ["scores", "scaled", "weights", "context"]
    assert flow.steps[2].reads["masked"] == "scaled"
    assert flow.output == "context"


@pytest.mark.parametrize("given", [{"causal": "top-left"}, {"window": 0}, {"softcap": 2.0}])
def test_steps_that_are_asked_for_exist(given):
    flow = bind("scaled_dot_product_attention", {n: ones(1, 1, 2, 3) for n in ("query", "key", "value")}, config=given)
    assert len(flow.steps) == 5


def test_a_window_of_zero_is_asked_for_and_false_is_not():
    layer = get_layer("multi_head_attention")
    assert layer.steps["masked"].exists({"window": 0})
    assert not layer.steps["rotated_query"].exists({"rotary": False})
    assert not layer.steps["rotated_query"].exists({"rotary": None})
    assert not layer.steps["rotated_query"].exists({})


def test_the_initial_states_of_a_recurrence_are_zeros():
    flow = bind("lstm", {"x": ones(5, 7, 3)}, {**LSTM, "projection": ones(2, 2)})
    assert flow.values["initial_hidden"].shape == flow.values["initial_cell"].shape == (5, 2)
    assert not flow.values["initial_cell"].any()
    assert flow.layer.axes(flow.steps[-1]) == "batch time state"


# -- runs ---------------------------------------------------------------------------------------------------


def chain():
    """x, then x + 1, twice that, and that minus the first step: each step keeps what it was given."""
    return Layer.define(
        "chain", summary="", formula="", source="", inputs={"x": "*shape"}, weights={}, config={},
        steps={"first": first, "second": second, "third": third},
    )  # fmt: skip


def first(x) -> "Float[Array, '*shape']":  # noqa: F821
    return x + 1.0


def second(first, *, factor=2.0) -> "Float[Array, '*shape']":  # noqa: F821
    return first * factor


def third(second, first) -> "Float[Array, '*shape']":  # noqa: F821
    return second - first


CHAIN = Flow.bind(chain(), {}, {"x": np.array([1.0, 3.0])}, {})


def values(run):
    return {step.name: getattr(value, "value", value).tolist() for step, value in run}


def test_a_run_follows_from_the_inputs():
    assert values(CHAIN.run(None)) == {"first": [2, 4], "second": [4, 8], "third": [2, 4]}
    assert values(CHAIN.run(SINGLE)) == {"first": [2, 4], "second": [4, 8], "third": [2, 4]}
    assert values(CHAIN.run(None, {"factor": 3.0})) == {"first": [2, 4], "second": [6, 12], "third": [4, 8]}


def test_an_isolated_step_follows_from_what_was_observed():
    observed = {"first": np.array([10.0, 20.0]), "third": np.array([7.0, 7.0])}
    found = values(CHAIN.isolated(SINGLE, observed))
    assert found == {"first": [2, 4], "second": [20, 40], "third": [10, 20]}


def test_an_isolated_step_is_held_to_one_rounding_of_what_it_reads():
    for step, value in CHAIN.isolated(SINGLE, {"first": np.array([10.0, 20.0]), "second": np.array([3.0, 4.0])}):
        if step.name == "third":
            u = 2.0**-24
            difference = np.array([-7.0, -16.0])
            wanted = u * np.sqrt(np.square([3.0, 4.0]) + np.square([10.0, 20.0]) + np.square(difference))
            assert value.deviation == pytest.approx(wanted, rel=1e-5)


def test_inputs_are_exact_and_observed_values_are_rounded():
    assert exact(np.array([2.0]), SINGLE).deviation is None
    assert carry(np.array([2.0], np.float32), SINGLE).deviation.tolist() == [2.0**-23]
    stored = carry(np.array([2.0]), RoundingModel(precision("bfloat16")))  # u is 2**-8
    assert stored.deviation.tolist() == [2.0**-7]


def test_a_value_that_no_later_step_reads_is_let_go():
    import weakref

    alive = {}

    def traced(x) -> "Float[Array, '*shape']":  # noqa: F821
        made = x + 1.0
        alive["first"] = weakref.ref(made)
        return made

    layer = Layer.define(
        "chain", summary="", formula="", source="", inputs={"x": "*shape"}, weights={}, config={},
        steps={"first": traced, "second": second, "last": lambda second: second},
    )  # fmt: skip
    run = Flow.bind(layer, {}, {"x": np.ones(3)}, {}).run(None)
    seen = []
    for step, value in run:
        del value
        seen.append((step.name, alive["first"]() is not None))
    assert seen == [("first", True), ("second", True), ("last", False)]


def test_a_scanned_layer_isolates_every_time_step():
    rng = np.random.default_rng(0)
    weights = {"kernel": rng.normal(size=(3, 8)), "recurrent_kernel": rng.normal(size=(2, 8))}
    flow = bind("lstm", {"x": rng.normal(size=(1, 4, 3))}, weights)
    clean = {s.name: v for s, v in flow.run(None)}
    observed = {n: v.copy() for n, v in clean.items()}
    observed["output"][:, 1] += 0.5  # what the second time step gave, the third reads
    found = {s.name: v.value for s, v in flow.isolated(SINGLE, observed)}
    gate = 1 / (1 + np.exp(-(flow.values["x"][:, 2] @ weights["kernel"] + observed["output"][:, 1] @
                             weights["recurrent_kernel"])[:, :2]))  # fmt: skip
    assert np.abs(found["input_gate"][:, 2] - gate).max() < 1e-15
    assert np.array_equal(found["input_gate"][:, :2], clean["input_gate"][:, :2])
    assert np.abs(found["input_gate"][:, 3] - clean["input_gate"][:, 3]).max() < 1e-15


def test_a_run_changes_nothing_of_what_it_was_given():
    rng = np.random.default_rng(1)
    inputs = {"x": rng.normal(size=(2, 3, 4))}
    before = inputs["x"].copy()
    for layer, weights in (("layer_norm", {}), ("softmax", {}), ("gelu", {})):
        flow = bind(layer, inputs, weights)
        list(flow.run(SINGLE))
        list(flow.isolated(SINGLE, {}))
    assert np.array_equal(inputs["x"], before)


def test_an_input_that_is_called_as_a_step_is_read_by_that_step_and_the_step_by_those_after_it():
    query, value = ones(1, 2, 3), 2 * ones(1, 4, 3)
    flow = bind("additive_attention", {"query": query, "value": value}, {"query_kernel": 5 * np.eye(3)})
    made = {step.name: np.asarray(v) for step, v in flow.run(None)}
    assert (made["query"] == 5).all()
    assert (made["key"] == 2).all()  # what is not given is what stands in for it
    assert (made["scores"] == 3 * np.tanh(7)).all()
    other = {step.name: np.asarray(v) for step, v in flow.on({"query": -query, "value": value / 2}).run(None)}
    assert (other["query"] == -5).all()
    assert (other["key"] == 1).all()


def test_a_layer_without_arrays_has_the_rounding_of_the_format_it_is_run_in():
    flow = bind("alibi", {}, config={"heads": 4, "query": 2, "key": 3})
    for name in ("float32", "float64"):
        model = RoundingModel(precision(name))
        tolerances = {step.name: v.tolerance for step, v in flow.run(model)}
        assert (tolerances["slopes"] > 0).all()
        assert tolerances["slopes"].max() < 100 * model.precision.accumulate
