import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.view import View, views

SIZES = st.lists(st.integers(1, 4), min_size=0, max_size=4).map(tuple)


def numbered(shape):
    return np.arange(math.prod(shape)).reshape(shape)


@st.composite
def held(draw):
    """A step's shape, and a tensor that holds it: axes permuted, then neighbours merged or axes split."""
    shape = draw(SIZES)
    order = tuple(draw(st.permutations(range(len(shape)))))
    turned = np.transpose(numbered(shape), order)
    form, whole = [], False
    for size in turned.shape:
        kind = draw(st.sampled_from(["own", "merge", "split"]))
        if kind == "merge" and whole:
            form[-1] *= size
        else:
            whole = kind != "split" or size != 4
            form += [size] if whole else [2, 2]
    return shape, order, turned.reshape(form)


@given(case=held())
@settings(max_examples=300, deadline=None)
def test_the_view_that_was_made_is_found(case):
    shape, _, tensor = case
    wanted = numbered(shape)
    assert any(np.array_equal(view.restore(tensor), wanted) for view in views(shape, tensor.shape))


@given(case=held())
@settings(max_examples=200, deadline=None)
def test_every_view_has_the_steps_shape_and_all_of_its_values(case):
    shape, _, tensor = case
    found = list(views(shape, tensor.shape))
    for view in found:
        restored = view.restore(tensor)
        assert restored.shape == shape
        assert sorted(restored.ravel()) == sorted(tensor.ravel())
    assert len({view.order for view in found}) == len(found)


@given(case=held())
@settings(max_examples=100, deadline=None)
def test_the_steps_own_order_goes_first(case):
    shape, _, tensor = case
    found = list(views(shape, tensor.shape))
    canonical = [view.canonical for view in found]
    assert canonical == sorted(canonical, reverse=True)
    if tensor.shape == shape:
        assert found[0].canonical


@given(shape=SIZES, other=SIZES)
@settings(max_examples=100, deadline=None)
def test_another_number_of_elements_is_no_view(shape, other):
    if math.prod(shape) != math.prod(other):
        assert list(views(shape, other)) == []


def test_two_times_six_is_no_view_of_three_times_four():
    assert list(views((3, 4), (2, 6))) == []
    assert len(list(views((3, 4), (12,)))) == 2  # row by row, or column by column


def test_axes_of_one_size_are_in_every_order():
    assert len(list(views((2, 2, 2), (2, 2, 2)))) == len(list(permutations(range(3))))


def test_axes_of_size_one_do_not_count():
    found = list(views((1, 3, 1, 4), (3, 4, 1)))
    assert [view.canonical for view in found] == [True]
    tensor = numbered((3, 4, 1))
    assert found[0].restore(tensor).shape == (1, 3, 1, 4)
    turned = list(views((1, 3, 1, 4), (4, 1, 3)))
    assert [view.canonical for view in turned] == [False]
    assert np.array_equal(turned[0].restore(numbered((4, 1, 3))), numbered((4, 3)).T.reshape(1, 3, 1, 4))


def test_a_single_number_and_no_numbers():
    assert [v.restore(np.array(7)).shape for v in views((1, 1), ())] == [(1, 1)]
    assert {v.restore(np.zeros((0, 3))).shape for v in views((3, 0), (0, 3))} == {(3, 0)}
    assert [v.describe(["batch", "key"]) for v in views((0, 3), (0, 3))] == ["batch key"]
    assert not list(views((0, 3), (0, 4)))


NAMES = ["batch", "head", "query", "key"]


@pytest.mark.parametrize(
    ("shape", "order", "form", "said"),
    [
        ((2, 3, 4, 5), (0, 1, 2, 3), (2, 3, 4, 5), "batch head query key"),
        ((2, 3, 4, 5), (0, 1, 3, 2), (2, 3, 5, 4), "batch head key query"),
        ((2, 3, 4, 5), (0, 1, 2, 3), (6, 4, 5), "(batch head) query key"),
        ((2, 3, 4, 5), (1, 0, 2, 3), (3, 8, 5), "head (batch query) key"),
        ((2, 3, 4, 5), (0, 1, 2, 3), (2, 3, 2, 2, 5), "batch head query/2 key"),
        ((1, 3, 4, 5), (0, 1, 2, 3), (3, 4, 5), "head query key"),
        ((1, 3, 4, 5), (0, 1, 3, 2), (3, 1, 5, 4), "head key query"),
        ((2, 3, 4, 5), (0, 1, 2, 3), (120,), "(batch head query key)"),
    ],
)
def test_words(shape, order, form, said):
    assert View(shape, order, form).describe(NAMES) == said


def test_canonical_is_a_matter_of_the_axes_that_have_a_size():
    assert View((2, 1, 3, 4), (1, 0, 2, 3), (2, 3, 4)).canonical
    assert not View((2, 3), (1, 0), (3, 2)).canonical


def test_restoring_copies_nothing_where_the_memory_allows():
    tensor = numbered((5, 4, 3)).astype(float)
    for view in views((3, 4, 5), (5, 4, 3)):
        assert np.shares_memory(view.restore(tensor), tensor)
