import numpy as np
import pytest

from conformance.model import RoundingModel
from conformance.precision import precision
from conformance.rounding import RoundedArray
from conformance.tape import Found, Tape, correlation
from conformance.trace import Entry

SINGLE = RoundingModel(precision("float32"))
SHAPE = 2, 3, 4, 5
VALUES = np.random.default_rng(0).normal(size=SHAPE)


def expected(values=VALUES, tolerance=1e-6):
    return RoundedArray(np.asarray(values, float), np.broadcast_to(tolerance / 8, np.shape(values)), SINGLE)


def tape(*arrays, hints=()):
    hints = [*hints, *[None] * len(arrays)]
    return Tape([Entry(f"op.{i}", np.asarray(a, np.float32), h) for i, (a, h) in enumerate(zip(arrays, hints))])  # noqa: B905


def noise(seed=9, shape=SHAPE):
    return np.random.default_rng(seed).normal(size=shape)


# -- finding ------------------------------------------------------------------------------------------------


def test_a_tensor_with_the_values_is_found():
    found = tape(noise(), VALUES, noise(8)).find(expected())
    assert (found.position, found.operation, found.flags) == (1, "op.1", ())
    assert found.view.canonical
    assert np.abs(found.array - VALUES).max() < 1e-6


def test_nothing_is_found_where_nothing_is_right():
    assert tape(noise(), VALUES + 1e-3, VALUES[:1]).find(expected()) is None
    assert Tape([]).find(expected()) is None


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (VALUES.reshape(6, 4, 5), "(a b) c d"),
        (VALUES.transpose(0, 1, 3, 2), "a b d c"),
        (VALUES.transpose(2, 0, 1, 3).reshape(4, 30), "c (a b d)"),
        (VALUES[:, :, None], "a b c d"),
        (VALUES.reshape(2, 3, 2, 2, 5), "a b c/2 d"),
    ],
)
def test_views(held, said):
    found = tape(noise(), held).find(expected())
    assert found.position == 1
    assert found.view.describe(["a", "b", "c", "d"]) == said
    assert np.abs(found.array - VALUES).max() < 1e-6


def test_the_same_numbers_in_another_place_are_not_the_step():
    assert tape(VALUES[::-1]).find(expected()) is None
    assert tape(np.sort(VALUES.ravel()).reshape(SHAPE)).find(expected()) is None


def test_the_steps_own_order_goes_before_an_earlier_tensor():
    square = noise(1, (4, 4))
    symmetric = square + square.T
    found = tape(square.T, square).find(expected(square))
    assert (found.position, found.view.canonical) == (1, True)
    found = tape(symmetric, symmetric).find(expected(symmetric))
    assert (found.position, found.view.canonical) == (0, True)


def test_what_comes_after_the_parents_goes_before_what_does_not():
    found = tape(VALUES, noise(), VALUES, VALUES).find(expected(), after=1)
    assert found.position == 2
    assert tape(VALUES, noise()).find(expected(), after=1).position == 0  # better than none


def test_large_tensors_are_looked_at_in_samples_and_then_as_a_whole():
    large = noise(2, (40, 300))
    off = large.copy()
    off[17, 255] += 1  # one element, which the samples need not see
    off[0, 0] -= 1  # and the sum is as it was
    assert tape(off).find(expected(large)) is None
    assert tape(off, large.T).find(expected(large)).position == 1


def test_a_tensor_of_nothing():
    assert tape(np.zeros((0, 3))).find(expected(np.zeros((3, 0)))).position == 0


# -- masks --------------------------------------------------------------------------------------------------

MASKED = np.where(np.tri(4, 5, dtype=bool), VALUES, -np.inf)


@pytest.mark.parametrize("fill", [-1e9, -3.4028234663852886e38, -1e30])
def test_a_finite_fill_stands_for_minus_infinity(fill):
    found = tape(np.where(np.isneginf(MASKED), fill, MASKED)).find(expected(MASKED))
    assert found.flags == ("finite-mask-fill",)
    assert np.array_equal(np.isneginf(found.array), np.isneginf(MASKED))


@pytest.mark.parametrize(("fill", "stands"), [(-65504, True), (-65440, True), (-3e4, False), (-1e4, False)])
def test_in_float16_the_least_number_stands_for_minus_infinity(fill, stands):
    wanted = RoundedArray(MASKED, np.full(MASKED.shape, 1e-6), RoundingModel(precision("float16")))
    found = tape(np.where(np.isneginf(MASKED), fill, MASKED)).find(wanted)
    assert (found is not None and found.flags == ("finite-mask-fill",)) == stands


def test_minus_infinity_needs_no_remark():
    assert tape(MASKED).find(expected(MASKED)).flags == ()


@pytest.mark.parametrize("fill", [-1e4, 0.0, 1e9, np.nan, np.inf])
def test_other_fills_are_another_step(fill):
    assert tape(np.where(np.isneginf(MASKED), fill, MASKED)).find(expected(MASKED)) is None


def test_a_fill_in_the_wrong_place_is_another_step():
    assert tape(np.where(np.isneginf(MASKED[..., ::-1]), -1e9, VALUES)).find(expected(MASKED)) is None


def test_nan_is_found_where_it_is_expected():
    holes = np.where(np.tri(4, 5, dtype=bool), VALUES, np.nan)
    assert tape(VALUES, holes).find(expected(holes)).position == 1


# -- pieces -------------------------------------------------------------------------------------------------


def test_a_step_in_one_tensor_per_time_step():
    sequence = noise(3, (2, 6, 4))
    order = [0, 1, 2, 3, 4, 5]
    found = tape(*(sequence[:, t] for t in order)).find_in_pieces(expected(sequence), axis=1)
    assert found.position == 0
    assert np.abs(found.array - sequence).max() < 1e-6
    assert found.view.canonical


def test_time_steps_may_be_out_of_order_but_not_missing():
    sequence = noise(3, (2, 3, 4))
    backward = tape(*(sequence[:, t] for t in (2, 1, 0)))
    assert backward.find_in_pieces(expected(sequence), axis=1).position == 2  # where the first time step is
    assert tape(sequence[:, 0], sequence[:, 2]).find_in_pieces(expected(sequence), axis=1) is None
    assert tape().find_in_pieces(expected(np.zeros((2, 0, 4))), axis=1) is None


# -- candidates ---------------------------------------------------------------------------------------------


def test_candidates_are_the_likeliest_first():
    wrong = VALUES * 2
    found = tape(noise(), VALUES + 0.3 * noise(4), wrong, VALUES.ravel()[:10]).candidates(expected())
    assert [f.position for f in found[:2]] == [2, 1]
    assert np.abs(found[0].array - wrong).max() < 1e-5


def test_candidates_are_views_too():
    found = tape(noise(), (VALUES * 3).transpose(0, 1, 3, 2)).candidates(expected())
    assert found[0].position == 1
    assert np.abs(found[0].array - VALUES * 3).max() < 1e-5


def test_candidates_are_neither_claimed_nor_before_the_parents():
    held = tape(VALUES, VALUES * 2, VALUES * 3)
    held.claimed.add(1)
    assert {f.position for f in held.candidates(expected())} == {0, 2}
    assert {f.position for f in held.candidates(expected(), after=0)} == {2}
    assert held.candidates(expected(), after=2) == []


def test_what_a_recording_calls_a_step():
    held = tape(noise(), VALUES.reshape(6, 20), hints=[None, "scores"])
    assert {f.position for f in held.hinted("scores", SHAPE)} == {1}
    assert np.abs(next(held.hinted("scores", SHAPE)).array - VALUES).max() < 1e-6
    assert list(held.hinted("weights", SHAPE)) == []
    assert list(held.hinted("scores", (7, 7))) == []


def test_likeness():
    a = noise(5, (30,))
    assert correlation(a, 3 * a + 7) == pytest.approx(1)
    assert correlation(a, -a) == pytest.approx(1)
    assert correlation(a, noise(6, (30,))) < 0.5
    assert correlation(a, np.ones(30)) == 0
    assert correlation(a[:1], a[:1]) == 0
    with_holes = np.where(np.arange(30) < 5, -np.inf, a)
    assert correlation(with_holes, 2 * with_holes) == pytest.approx(1)
    assert correlation(np.full(3, np.nan), a[:3]) == 0


def test_an_output_is_known_without_a_tape():
    found = Found.whole(VALUES)
    assert (found.position, found.operation) == (-1, "output")
    assert found.view.canonical
    assert found.view.describe(["a", "b", "c", "d"]) == "a b c d"


# -- ambiguity ----------------------------------------------------------------------------------------------

NEARLY = VALUES + np.where(VALUES > 0, 4e-7, -4e-7)  # within the tolerance of 1e-6, and not the same numbers
HEADS = np.repeat(VALUES[:, :1], 2, axis=1)


def linked(*arrays, reads):
    """A tape that says what each operation read."""
    given = [np.asarray(a, np.float32) for a in arrays]
    return Tape([Entry(f"op.{i}", a, reads=r) for i, (a, r) in enumerate(zip(given, reads, strict=True))])


def test_another_tensor_with_other_values_within_tolerance_is_said():
    found = tape(VALUES, NEARLY).find(expected())
    assert (found.position, found.flags) == (0, ("ambiguous",))
    turned = tape(VALUES, NEARLY.transpose(3, 0, 1, 2)).find(expected())
    assert (turned.position, turned.flags) == (0, ("ambiguous",))


@pytest.mark.parametrize(
    "copy",
    [
        pytest.param(VALUES, id="the same"),
        pytest.param(VALUES.reshape(6, 20), id="reshaped"),
        pytest.param(VALUES.transpose(2, 3, 0, 1), id="transposed"),
        pytest.param(VALUES[:, :, None], id="with a singleton axis"),
    ],
)
def test_copies_are_not_ambiguous(copy):
    found = tape(VALUES, copy, noise(), copy).find(expected())
    assert (found.position, found.flags) == (0, ())


def test_a_wider_copy_is_not_ambiguous():
    narrow = VALUES.astype(np.float32)
    entries = [Entry("wide", narrow + np.float64(1e-10)), Entry("narrow", narrow)]
    assert np.array_equal((narrow + np.float64(1e-10)).astype(np.float32), narrow)
    assert Tape(entries).find(expected()).flags == ()


def test_flow_order_settles_what_the_parents_are_between():
    held = tape(NEARLY, noise(), VALUES)
    found = held.find(expected(), after=1)
    assert (found.position, found.flags) == (2, ())
    assert held.find(expected(), after=-1).flags == ("ambiguous",)


def test_what_was_made_of_the_found_tensor_comes_after_it():
    """A variance, and the variance with a tiny epsilon added to it, which was copied in between."""
    assert linked(VALUES, VALUES, NEARLY, reads=[(), (0,), (1,)]).find(expected()).flags == ()
    assert linked(VALUES, VALUES, NEARLY, reads=[(), (0,), ()]).find(expected()).flags == ("ambiguous",)


def test_scores_that_are_symmetric_but_for_rounding():
    """Two tensors, each the transposed of the other: which one is the step cannot be told."""
    rounding = np.random.default_rng(1).uniform(-2e-7, 2e-7, size=(5, 5))
    square = noise(1, (5, 5))
    symmetric = square + square.T
    found = tape(symmetric + rounding, (symmetric + rounding).T).find(expected(symmetric))
    assert (found.position, found.view.canonical, found.flags) == (0, True, ("ambiguous",))
    alone = tape(symmetric + rounding).find(expected(symmetric))
    assert (alone.view.canonical, alone.flags) == (True, ())  # several views of one tensor are no matter


def test_equal_heads_in_another_order():
    rounded = HEADS.copy()
    rounded[:, 1] += 4e-7
    assert tape(rounded, rounded[:, ::-1]).find(expected(HEADS)).flags == ("ambiguous",)
    assert tape(HEADS, HEADS[:, ::-1]).find(expected(HEADS)).flags == ()  # nothing at all differs


def test_slices_can_be_ambiguous_too():
    packed = tape(np.stack([VALUES, NEARLY])).find(expected())
    assert packed.flags == ("ambiguous",)
    assert tape(np.stack([VALUES, noise()]), np.stack([noise(), VALUES])).find(expected()).flags == ()
