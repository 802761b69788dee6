"""What looks like a step and is none, and what cannot be told apart and is said to be so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from attention_module import Attention
from planted import blamed, explanations
from problem import Problem, attention, drawn, lengths, verdict
from torch import Tensor
from watched import in_torch

from conformance.judge import JudgedStep, Verdict
from conformance.precision import precision
from conformance.rounding import RoundedArray
from conformance.tape import Tape
from conformance.trace import Entry, Trace

SQUARE = attention(batch=4, heads=4, head_dim=4, channels=(16, 16, 16, 16), times=(4, 4))
DOT_PRODUCT = Problem(
    "scaled_dot_product_attention",
    {},
    {"query": drawn("q", 2, 3, 5, 4), "key": drawn("k", 2, 3, 5, 4), "value": drawn("v", 2, 3, 5, 4)},
)


def step(verdict: Verdict, name: str) -> JudgedStep:
    return next(step for step in verdict.steps if step.name == name)


def by_hand(problem: Problem, *tape: tuple[str, np.ndarray], output: np.ndarray) -> Verdict:
    """The verdict on a tape that is written by hand, in float64."""
    entries = [Entry(operation, array) for operation, array in tape]
    return verdict(problem, lambda *_: Trace(output, entries, recorded=True), "float64")


def dot_product(problem: Problem) -> dict[str, np.ndarray]:
    """Every step, by plain formulas."""
    query, key, value = (problem.inputs[name] for name in ("query", "key", "value"))
    scores = np.einsum("bhqd,bhkd->bhqk", query, key)
    powers = np.exp(scores / math.sqrt(query.shape[-1]))
    weights = powers / powers.sum(-1, keepdims=True)
    return {"scores": scores, "weights": weights, "context": np.einsum("bhqk,bhkd->bhqd", weights, value)}


# -- permuted copies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "permuted",
    [
        pytest.param(lambda x: x[::-1], id="sequences swapped"),
        pytest.param(lambda x: x[:, ::-1], id="heads reversed"),
        pytest.param(lambda x: np.roll(x, 1, axis=2), id="queries rolled"),
        pytest.param(lambda x: x[..., ::-1], id="keys reversed"),
        pytest.param(lambda x: np.sort(x, axis=None).reshape(x.shape), id="sorted"),
        pytest.param(lambda x: x.reshape(3, 2, 5, 5).swapaxes(0, 1), id="batch and head mixed"),
    ],
)
def test_a_permuted_copy_is_not_taken_for_the_step(permuted):
    """All scores are there, to the bit, in another order: they are not the scores."""
    right = dot_product(DOT_PRODUCT)
    copy = np.array(permuted(right["scores"]))
    given = by_hand(DOT_PRODUCT, ("copy", copy), ("softmax", right["weights"]), output=right["context"])
    assert given.status == "conforms"
    assert step(given, "scores").status == "not-observed"
    assert step(given, "weights").status == "conforms"


def test_the_step_itself_is_taken_although_permuted_copies_stand_before_it():
    right = dot_product(DOT_PRODUCT)
    scores = right["scores"]
    tape = [("reversed", scores[:, ::-1]), ("rolled", np.roll(scores, 1, 0)), ("product", scores)]
    given = by_hand(DOT_PRODUCT, *tape, output=right["context"])
    found = step(given, "scores").found
    assert found is not None
    assert (found.operation, found.position) == ("product", 2)


def test_a_subject_that_computes_with_a_permuted_copy_is_at_fault_there():
    """The scores are right and then sorted along the keys: what follows is of the sorted ones."""
    right = dot_product(DOT_PRODUCT)
    scores = np.sort(right["scores"], axis=-1)
    powers = np.exp(scores / 2)
    weights = powers / powers.sum(-1, keepdims=True)
    output = weights @ DOT_PRODUCT.inputs["value"]
    tape = [("product", right["scores"]), ("sort", scores), ("divide", scores / 2), ("softmax", weights)]
    given = by_hand(DOT_PRODUCT, *tape, output=output)
    assert given.culprit == "scaled"
    assert explanations(given) == {}
    assert step(given, "scores").status == "conforms"


# -- each of them at each position ---------------------------------------------------------------------------

POSITIONS = ("scores", "weights", "context")


def only_wrong(position: str, wrong: np.ndarray, problem: Problem = DOT_PRODUCT) -> Verdict:
    """The verdict where the tape has the right steps, but `wrong` at `position`; the output is right."""
    steps = dot_product(problem) | {position: wrong}
    return by_hand(problem, *steps.items(), output=dot_product(problem)["context"])


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda x: np.sort(x, axis=None).reshape(x.shape), id="the same sorted values"),
        pytest.param(lambda x: x[:, ::-1], id="heads reversed"),
        pytest.param(lambda x: x[..., ::-1], id="last axis reversed"),
        pytest.param(lambda x: np.full(x.shape, x.mean()), id="constant, of the same sum"),
        pytest.param(np.ones_like, id="ones"),
        pytest.param(lambda x: np.where(np.arange(x.size).reshape(x.shape) % 2, x.mean() - 1, x.mean() + 1), id="sum"),
    ],
)
def test_what_only_looks_like_a_step_is_not_taken_for_it(position: str, wrong: Any) -> None:
    given = only_wrong(position, np.ascontiguousarray(wrong(dot_product(DOT_PRODUCT)[position])))
    assert given.status == "conforms"
    found = step(given, position).found
    if position == "context":  # the output is known without the tape
        assert found is not None
        assert (found.position, found.operation) == (-1, "output")
    else:
        assert found is None


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(lambda x: np.stack([np.sort(x, axis=None).reshape(x.shape), x * 2]), id="sorted"),
        pytest.param(lambda x: np.stack([x[:, ::-1], x * 2]), id="heads reversed"),
        pytest.param(lambda x: np.stack([np.full(x.shape, x.mean()), x * 2]), id="constant"),
    ],
)
@pytest.mark.parametrize("position", ["scores", "weights"])
def test_a_slice_with_the_sum_of_the_step_is_not_taken_for_it(position: str, packed: Any) -> None:
    right = dot_product(DOT_PRODUCT)
    assert step(only_wrong(position, packed(right[position])), position).found is None
    held = step(only_wrong(position, np.stack([right[position], right[position] * 2])), position)
    assert held.found_axes == "2[0] batch head query key"  # the right one beside the same neighbour is found


def test_a_transposed_square_is_turned_at_every_position_but_the_output() -> None:
    """Five queries, keys and features: the tape's tensors are held transposed, the output must not be."""
    square = DOT_PRODUCT.with_inputs(**{n: drawn(f"square {n}", 2, 3, 5, 5) for n in ("query", "key", "value")})
    right = dot_product(square)
    turned = {name: array.swapaxes(-1, -2) for name, array in right.items()}
    given = by_hand(square, *turned.items(), output=right["context"])
    assert given.status == "conforms"
    assert step(given, "scores").found_axes == "batch head key query"
    assert step(given, "weights").found_axes == "batch head key query"
    assert [(layout.step, layout.value) for layout in given.layouts] == [("scores", "key-query")]
    assert by_hand(square, *turned.items(), output=turned["context"]).culprit == "context"


@pytest.mark.parametrize("position", POSITIONS)
def test_equal_heads_are_copies_of_each_other(position: str) -> None:
    """The heads are equal to the bit: their order says nothing, and there is nothing to remark on."""
    repeated = {n: np.repeat(drawn(f"head {n}", 2, 1, 5, 4), 3, axis=1) for n in ("query", "key", "value")}
    problem = DOT_PRODUCT.with_inputs(**repeated)
    right = dot_product(problem)[position]
    assert np.array_equal(right, right[:, ::-1])
    given = only_wrong(position, right[:, ::-1], problem)
    assert given.status == "conforms"
    assert step(given, position).flags == ()


@pytest.mark.parametrize("position", ["scores", "weights"])
def test_two_tensors_that_hold_a_step_with_other_values_are_said_to_be_ambiguous(position: str) -> None:
    """One is off by some units in the last place; the layer conforms with either."""
    right = dot_product(DOT_PRODUCT)
    off = right[position] * (1 + 2.0**-51)
    tape = {**right, "again": off}
    ordered = [(name, tape[name]) for name in ("scores", "weights", "again")]
    ordered = sorted(ordered, key=lambda item: item[0] == "weights") if position == "scores" else ordered
    given = by_hand(DOT_PRODUCT, *ordered, output=right["context"])
    assert given.status == "conforms"
    assert step(given, position).flags == ("ambiguous",)
    assert [s.name for s in given.steps if s.flags] == [position]


def test_a_step_that_is_an_identity_shares_its_tensor() -> None:
    """A scale of one: the scores and the scaled ones are one tensor."""
    problem = DOT_PRODUCT.with_inputs(**{n: drawn(f"one {n}", 2, 3, 5, 1) for n in ("query", "key", "value")})
    right = dot_product(problem)
    given = by_hand(problem, *right.items(), output=right["context"])
    assert given.status == "conforms"
    places = [found.position for name in ("scores", "scaled") if (found := step(given, name).found) is not None]
    assert places == [0, 0]
    assert all(s.flags == () for s in given.steps)


# -- square tensors ------------------------------------------------------------------------------------------


class KeyMajor(Attention):
    """Scores `key query` throughout; batch, head, query, key and dim are all four."""

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        self.head_dim = query.shape[-1]
        return key @ query.mT

    def weights(self, scores: Tensor, seen: Tensor | None) -> Tensor:
        return torch.softmax(scores, dim=-2)

    def context(self, weights: Tensor, value: Tensor) -> Tensor:
        return weights.mT @ value


class FeaturesFirst(Attention):
    """Projections `batch hdim time`."""

    def query(self, x: Tensor) -> Tensor:
        return self.w["query_kernel"].T @ x.mT + self.w["query_bias"][:, None]

    def split_query(self, query: Tensor) -> Tensor:
        return query.unflatten(1, (self.heads, -1)).mT


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_transposed_square_is_reported_with_its_axes(dtype: str):
    given = verdict(SQUARE, in_torch(KeyMajor), dtype)
    assert given.status == "conforms"
    assert [(layout.step, layout.convention, layout.value) for layout in given.layouts] == [
        ("scores", "attention.scores-layout", "key-query")
    ]
    assert step(given, "scores").found_axes == "(batch head) key query"


def test_the_projection_of_a_square_layer_is_reported_with_its_axes():
    square = attention(batch=4, heads=2, head_dim=2, value_dim=2, channels=(4, 4, 4, 4), times=(4, 4))
    given = verdict(square, in_torch(FeaturesFirst), "float64")
    assert given.status == "conforms"
    assert step(given, "query").found_axes == "batch hdim query"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_square_in_its_own_order_has_no_layout(dtype: str):
    given = verdict(SQUARE, in_torch(Attention), dtype)
    assert given.layouts == ()
    for name in ("scores", "scaled", "weights", "context"):
        assert step(given, name).found_axes in ("batch head query key", "(batch head) query key") or name == "context"


class TransposedScores(Attention):
    """The scores are transposed, and the softmax is not: a fault, not a layout."""

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        self.head_dim = query.shape[-1]
        return key @ query.mT


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_transposed_scores_that_are_used_as_if_they_were_not_are_a_fault(dtype: str):
    """As much as to say: query and key are exchanged."""
    given = verdict(SQUARE, in_torch(TransposedScores), dtype)
    assert given.status == "diverges"
    assert given.culprit == "query"
    assert explanations(given) == {"attention.qkv-packing": "k|q|v"}
    assert blamed(given) == ["query", "key"]


# -- constants and equal values ------------------------------------------------------------------------------


class NotScaled(Attention):
    def scaled(self, scores: Tensor) -> Tensor:
        return scores


class NextValueHead(Attention):
    def split_value(self, value: Tensor) -> Tensor:
        return super().split_value(value).roll(1, dims=1)


def with_two_equal_heads(problem: Problem) -> Problem:
    """The second of three heads repeats the first."""
    weights: Mapping[str, np.ndarray] = {
        name: np.concatenate([array[..., :4], array[..., :4], array[..., 8:]], axis=-1)
        for name, array in problem.weights.items()
        if not name.startswith("output")
    }
    return problem.with_weights(**weights)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_fault_is_found_where_two_heads_are_equal(dtype: str):
    problem = with_two_equal_heads(attention())
    assert verdict(problem, in_torch(Attention), dtype).status == "conforms"
    given = verdict(problem, in_torch(NextValueHead), dtype)
    assert given.culprit == "context"
    given = verdict(problem, in_torch(NotScaled), dtype)
    assert given.culprit == "scaled"
    assert explanations(given) == {"attention.scale": "1"}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_fault_that_makes_no_difference_is_not_invented(dtype: str):
    """All heads are equal, and all time steps: neither the scale nor the head of a value can matter."""
    first = {
        name: np.concatenate([array[..., :4]] * 3, axis=-1)
        for name, array in attention().weights.items()
        if not name.startswith("output")
    }
    constant = attention().with_weights(**first).with_inputs(query_input=np.full((2, 5, 12), 0.7))
    for build in (Attention, NextValueHead, NotScaled):
        given = verdict(constant, in_torch(build), dtype)
        assert given.status == "conforms"
        assert given.causes == ()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_constant_tensor_is_not_taken_for_a_step_that_is_not_constant(dtype: str):
    """A tape full of tensors of ones and zeros of every step's size: they are nobody's values."""

    class Distracting(Attention):
        def context(self, weights: Tensor, value: Tensor) -> Tensor:
            for shape in {weights.shape, value.shape, (2, 5, 12), (2, 5, 10)}:
                torch.ones(shape, dtype=value.dtype), torch.zeros(shape, dtype=value.dtype)
            return super().context(weights, value)

    given = verdict(attention(), in_torch(Distracting), dtype)
    assert given.status == "conforms"
    held = [s.found.operation for s in given.steps if s.found is not None]
    assert not any("ones" in operation or "zeros" in operation for operation in held)


def test_values_within_tolerance_of_a_constant_step_are_told_from_noise():
    """A query of equal time steps: every row of its scores is the same, and a row that is not stands out."""
    problem = DOT_PRODUCT.with_inputs(query=np.repeat(drawn("row", 2, 3, 1, 4), 5, axis=2))
    right = dot_product(problem)
    off = right["scores"].copy()
    off[1, 2, 3, 4] += 1e-3
    given = by_hand(problem, ("off", off), ("softmax", right["weights"]), output=right["context"])
    assert step(given, "scores").status == "not-observed"


# -- what no value tells apart --------------------------------------------------------------------------------


def names(verdict: Verdict) -> set[str]:
    """Every explanation that is given for the first cause."""
    cause = verdict.causes[0]
    return {f"{cause.convention} = {cause.value}", *cause.equivalent}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_scale_that_is_another_one_squared_is_given_with_it(dtype: str):
    class Quarter(Attention):
        def scaled(self, scores: Tensor) -> Tensor:
            return scores / 4

    given = verdict(attention(heads=2), in_torch(Quarter), dtype)
    assert given.culprit == "scaled"
    assert names(given) == {"attention.scale = 1/head_dim", "attention.scale = twice"}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_padding_on_both_sides_is_given_with_padding_above(dtype: str):
    """With a stride of two and an even size the lower margin is never read."""

    def build(w: Mapping[str, Tensor], config: Mapping[str, Any]) -> Any:
        kernel = w["kernel"].permute(3, 2, 0, 1)
        return lambda x: torch.conv2d(x.permute(0, 3, 1, 2), kernel, stride=2, padding=1).permute(0, 2, 3, 1)

    problem = Problem(
        "conv2d",
        {"padding": "same-upper", "strides": 2},
        {"x": drawn("conv x", 2, 8, 10, 4)},
        {"kernel": drawn("conv kernel", 3, 3, 4, 6)},
    )
    given = verdict(problem, in_torch(build), dtype)
    assert given.culprit == "padded"
    assert names(given) == {"conv.same-padding = same-lower", "conv.same-padding = symmetric"}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_inverted_mask_is_not_confused_with_the_right_one_where_half_is_masked(dtype: str):
    """Two keys are real and two are not: as many are masked either way."""

    class Inverted(Attention):
        def masked(self, scores: Tensor, seen: Tensor) -> Tensor:
            return scores.masked_fill(seen, -torch.inf)

    half = attention(times=(4, 4), mask=lengths(2, 2, times=4))
    assert verdict(half, in_torch(Attention), dtype).status == "conforms"
    given = verdict(half, in_torch(Inverted), dtype)
    assert given.culprit == "masked"
    assert explanations(given) == {"attention.mask-polarity": "true-blocks"}


def test_a_tensor_just_outside_its_tolerance_is_not_found():
    """The tape's search is decided by the tolerance: a hundredth within it is found, a hundredth beyond is not."""
    from conformance.model import RoundingModel

    model = RoundingModel(precision("float32"))
    value = drawn("value", 4, 6)
    expected = RoundedArray(value, np.full(value.shape, 1e-6), model)
    for factor, held in ((0.99, True), (1.01, False)):
        seen = value.copy()
        seen[2, 3] += factor * float(expected.tolerance[2, 3])
        assert (Tape([Entry("off", seen)]).find(expected) is not None) == held
