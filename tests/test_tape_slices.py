"""Steps that are held inside larger tensors: they are found there, and nothing else is."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from conformance.model import RoundingModel
from conformance.precision import precision
from conformance.rounding import RoundedArray
from conformance.slices import tells
from conformance.tape import Tape
from conformance.trace import Entry

SINGLE = RoundingModel(precision("float32"))
RNG = np.random.default_rng(20260101)
QUERY, KEY, VALUE = (RNG.normal(size=(2, 5, 12)) for _ in range(3))
FEATURES = ["batch", "time", "hdim"]
HEADS = ["batch", "head", "time", "dim"]


def expected(values, tolerance=1e-6):
    values = np.asarray(values, float)
    return RoundedArray(values, np.broadcast_to(tolerance / 8, values.shape), SINGLE)


def tape(*arrays):
    return Tape([Entry(f"op.{i}", np.asarray(array, np.float32)) for i, array in enumerate(arrays)])


def apart(x):
    """`batch time (head dim)` taken apart: three heads of four, as `batch time head dim`."""
    return x.reshape(2, 5, 3, 4)


def heads(x):
    """As `batch head time dim`."""
    return apart(x).transpose(0, 2, 1, 3)


PACKED = {
    "side by side": (KEY, FEATURES, np.concatenate([QUERY, KEY, VALUE], -1), "batch time (3[1] hdim)"),
    "stacked first": (KEY, FEATURES, np.stack([QUERY, KEY, VALUE]), "3[1] batch time hdim"),
    "stacked last": (KEY, FEATURES, np.stack([QUERY, KEY, VALUE], -1), "batch time hdim 3[1]"),
    "alternating": (KEY, FEATURES, np.stack([QUERY, KEY, VALUE], -1).reshape(2, 5, 36), "batch time (hdim 3[1])"),
    "per head": (
        VALUE,
        FEATURES,
        np.stack([apart(x) for x in (QUERY, KEY, VALUE)], 3).reshape(2, 5, 36),
        "batch time (hdim 3[2] hdim)",
    ),
    "heads side by side": (
        heads(KEY),
        HEADS,
        np.concatenate([QUERY, KEY, VALUE], -1),
        "batch time (3[1] head dim)",
    ),
    "heads stacked": (heads(QUERY), HEADS, np.stack([heads(x) for x in (QUERY, KEY)]), "2[0] batch head time dim"),
    "heads, alternating": (
        heads(KEY),
        HEADS,
        np.stack([apart(x) for x in (QUERY, KEY, VALUE)], 3).reshape(10, 36),
        "(batch time) (head 3[1] dim)",
    ),
    "one head": (heads(QUERY)[:, 2], ["batch", "time", "dim"], heads(QUERY), "batch 3[2] time dim"),
    "half of a gate": (QUERY[..., 6:], FEATURES, QUERY, "batch time (2[1] hdim)"),
    "one time step": (QUERY[:, 3], ["batch", "hdim"], QUERY, "batch 5[3] hdim"),
    "more queries than keys": (
        QUERY,
        FEATURES,
        np.concatenate([QUERY, KEY[..., :4], VALUE[..., :4]], -1),
        "batch time (5[0:3] hdim)",
    ),
    "inside of a margin": (QUERY, FEATURES, np.pad(QUERY, ((0, 0), (1, 1), (0, 0))), "batch (7[1:6] time) hdim"),
}


@pytest.mark.parametrize("name", PACKED)
def test_a_step_inside_a_larger_tensor(name):
    step, axes, packed, said = PACKED[name]
    found = tape(RNG.normal(size=packed.shape), packed).find(expected(step))
    assert (found.position, found.operation, found.flags) == (1, "op.1", ())
    assert found.view.describe(axes) == said
    assert np.array_equal(found.array, step.astype(np.float32))


def test_a_whole_tensor_goes_before_a_slice():
    packed = np.stack([QUERY, KEY])
    assert tape(packed, KEY).find(expected(KEY)).position == 1
    turned = tape(packed, KEY.transpose(2, 0, 1)).find(expected(KEY))
    assert (turned.position, turned.view.canonical) == (1, False)
    assert tape(KEY, packed).find(expected(KEY), after=0).position == 0


def test_slices_share_a_tensor_that_is_claimed():
    held = tape(np.concatenate([QUERY, KEY, VALUE], -1))
    for number, step in enumerate((QUERY, KEY, VALUE)):
        found = held.find(expected(step))
        held.claimed.add(found.position)
        assert found.view.describe(FEATURES) == f"batch time (3[{number}] hdim)"


def test_a_slice_may_have_its_axes_turned():
    found = tape(np.stack([heads(QUERY), heads(KEY)]).swapaxes(-1, -2)).find(expected(heads(KEY)))
    assert found.view.describe(HEADS) == "2[1] batch head dim time"
    assert not found.view.canonical


def test_a_slice_after_the_parents_goes_before_one_that_is_not():
    packed = np.stack([QUERY, KEY])
    assert tape(packed, RNG.normal(size=(3, 3)), packed).find(expected(KEY), after=1).position == 2


def test_a_slice_is_of_at_most_sixty_four_blocks():
    whole = RNG.normal(size=(65, 4, 5))
    assert tape(whole[1:]).find(expected(whole[7])) is not None
    assert tape(whole).find(expected(whole[7])) is None


@st.composite
def packed(draw):
    """A random step and a tensor that holds it as a slice: an axis (outer, blocks, inner), then turned and split."""
    shape = draw(st.lists(st.integers(2, 4), min_size=2, max_size=3))
    assume(math.prod(shape) >= 12)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    step = rng.normal(size=shape)
    order = draw(st.permutations(range(len(shape))))
    turned = step.transpose(order)
    axis = draw(st.integers(0, len(shape) - 1))
    size = turned.shape[axis]
    outer = draw(st.sampled_from([d for d in range(1, size + 1) if size % d == 0]))
    blocks = draw(st.integers(2, 8))
    before, after = turned.shape[:axis], turned.shape[axis + 1 :]
    whole = rng.normal(size=(*before, outer, blocks, size // outer, *after))
    where = (slice(None),) * (axis + 1)
    whole[(*where, draw(st.integers(0, blocks - 1)))] = turned.reshape(*before, outer, size // outer, *after)
    return step, whole.reshape(*before, size * blocks, *after)


@given(case=packed())
@settings(max_examples=200, deadline=None)
def test_a_random_slice_is_found_again_to_the_bit(case):
    step, whole = case
    found = Tape([Entry("packed", whole)]).find(expected(step))
    assert found is not None
    assert np.array_equal(found.array, step)
    assert np.array_equal(found.view.restore(whole), step)
    assert found.view.describe("abc"[: step.ndim]).count("[") == 1


@given(case=packed())
@settings(max_examples=50, deadline=None)
def test_a_slice_that_is_off_by_more_than_its_tolerance_is_not_found(case):
    step, whole = case
    off = step.copy()
    off.flat[off.size // 2] += 2e-6
    assert Tape([Entry("packed", whole)]).find(expected(off)) is None


# -- what is no slice ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(KEY[:, ::-1], id="times reversed"),
        pytest.param(np.sort(KEY, axis=None).reshape(KEY.shape), id="sorted"),
        pytest.param(np.roll(KEY, 1, -1), id="rolled"),
        pytest.param(RNG.permutation(KEY.ravel()).reshape(KEY.shape), id="shuffled"),
        pytest.param(np.full(KEY.shape, KEY.mean()), id="constant, of the same sum"),
    ],
)
def test_a_slice_of_the_same_sum_is_not_the_step(wrong):
    assert np.isclose(wrong.sum(), KEY.sum(), rtol=0, atol=1e-9)
    assert tape(np.concatenate([QUERY, wrong, VALUE], -1)).find(expected(KEY)) is None


def test_a_step_that_tells_nothing_is_not_looked_for_in_slices():
    ones = np.ones((4, 5))
    assert tape(np.stack([ones, ones])).find(expected(ones)) is None
    few = np.arange(20.0).reshape(4, 5) % 7
    assert tape(np.stack([few, ones])).find(expected(few)) is None
    enough = np.arange(20.0).reshape(4, 5) % 8
    assert tape(np.stack([enough, ones])).find(expected(enough)).position == 0
    assert tape(np.stack([enough, ones])).find(expected(enough, tolerance=0.6)) is None  # not told apart


@pytest.mark.parametrize(("values", "tolerance", "enough"), [
    (np.arange(8), 0.49, True), (np.arange(8), 0.51, False), (np.arange(7), 0.0, False),
    (np.r_[np.arange(7), np.nan, np.inf], 0.0, False), (np.zeros(100), 1e-9, False), (np.zeros((0, 3)), 1e-9, False),
])  # fmt: skip
def test_eight_values_that_tolerances_tell_apart(values, tolerance, enough):
    assert tells(expected(values, tolerance)) == enough


def test_masked_scores_inside_a_larger_tensor():
    masked = np.where(np.tri(5, 12, dtype=bool), QUERY, -np.inf)
    found = tape(np.stack([np.where(np.isneginf(masked), -1e9, masked), KEY])).find(expected(masked))
    assert found.flags == ("finite-mask-fill",)
    assert np.array_equal(np.isneginf(found.array), np.isneginf(masked))
    assert tape(np.stack([np.where(np.isneginf(masked), 0.0, masked), KEY])).find(expected(masked)) is None


# -- pieces that are slices ----------------------------------------------------------------------------------


def test_time_steps_inside_fused_gates():
    """The forget gate, of which each time step is the second quarter of one tensor."""
    gates = RNG.normal(size=(2, 3, 20))
    forget = gates[..., 5:10]
    found = tape(*(gates[:, t] for t in range(3))).find_in_pieces(expected(forget), axis=1)
    assert found.position == 0
    assert np.array_equal(found.array, forget.astype(np.float32))


def test_time_steps_in_a_tensor_with_time_first_and_the_initial_state():
    sequence = RNG.normal(size=(2, 6, 8))
    stacked = np.moveaxis(np.concatenate([np.zeros((2, 1, 8)), sequence], 1), 1, 0)
    found = tape(stacked).find_in_pieces(expected(sequence), axis=1)
    assert np.array_equal(found.array, sequence.astype(np.float32))
    found = tape(stacked).find(expected(sequence))
    assert found.view.describe(FEATURES) == "(7[1:7] time) batch hdim"
