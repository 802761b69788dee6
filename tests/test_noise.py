"""How much rounding a tensor carries, and when two tensors are the same up to it."""

import math

import numpy as np
import pytest

from conformance.matching import Graph, closest, matched
from conformance.noise import Values, deviation_of, joint, measured, modelled, unmeasured
from conformance.precision import precision
from conformance.trace import Entry

U = 2.0**-24
RNG = np.random.default_rng(7)


def normal(*shape):
    return RNG.normal(size=shape)


def test_the_deviation_is_the_error_relative_to_the_values():
    exact = np.full((3, 4), 2.0)
    assert deviation_of(exact + np.array([1e-3, -1e-3, 1e-3, -1e-3]), exact) == pytest.approx(5e-4)


def test_fills_and_what_is_not_finite_do_not_count():
    exact = np.array([1.0, -np.inf, np.nan, -1e9, 1.0])
    assert deviation_of(np.array([1.5, -3.4e38, 1.0, -1e9, 0.5]), exact) == pytest.approx(0.5)


def test_measured_on_a_float64_run_and_never_below_a_rounding():
    x = normal(50, 40)
    noisy = (x + 3e-5 * normal(50, 40)).astype(np.float32)
    tape = [Entry("a", x.astype(np.float32)), Entry("b", noisy, reads=(0,))]
    exact = [Entry("a", x.astype(np.float32).astype(float)), Entry("b", x, reads=(0,))]
    first, second = measured(tape, exact, precision("float32"))
    assert first.deviation == U
    assert second.deviation == pytest.approx(3e-5, rel=0.1)


def test_a_single_number_has_at_least_the_deviation_of_what_it_was_made_of():
    """Its own error may be small by chance."""
    x = normal(50, 40)
    noisy = x + 3e-5 * normal(50, 40)
    mean = Entry("mean", np.array(2.0), reads=(0,))
    found = measured([Entry("a", noisy), mean], [Entry("a", x), mean], precision("float32"))
    assert found[1].deviation == pytest.approx(3e-5, rel=0.1)


def test_operations_that_only_the_float64_run_has_are_passed_over():
    x, y = np.ones(100), np.arange(100.0)
    exact = [Entry("cast", x), Entry("a", x), Entry("cast", y), Entry("b", y)]
    found = measured([Entry("a", x), Entry("b", y * (1 + 1e-5))], exact, precision("float32"))
    assert found[1].deviation == pytest.approx(1e-5)


def test_without_a_float64_run_it_grows_with_the_square_root_of_the_way():
    tape = [Entry("a", np.ones(3)), Entry("b", np.ones(3), reads=(0,)), Entry("c", np.ones(3)),
            Entry("d", np.ones(3), reads=(1, 2)), Entry("e", np.ones(3), reads=(3,))]  # fmt: skip
    deviations = [v.deviation / (2 * U) for v in modelled(tape, precision("float32"))]
    assert deviations == pytest.approx([1, math.sqrt(2), 1, math.sqrt(3), 2])


def test_both_sides_count_and_one_that_is_not_known_counts_twice():
    assert float(joint(3.0, np.asarray(4.0))) == 8 * 5
    assert float(joint(1.0, np.asarray(math.nan))) == pytest.approx(8 * math.sqrt(5))
    assert float(joint(math.nan, np.asarray(1.0))) == pytest.approx(8 * math.sqrt(5))


def test_a_row_of_large_values_may_err_more_than_the_others():
    """An error of a row's size is rounding there, also in an element near zero, and a fault elsewhere."""
    x = normal(64, 100)
    x[5] *= 1000
    x[5, 3] = x[6, 3] = 0.0
    held = Values(x, 1e-7)
    in_row, elsewhere = x.copy(), x.copy()
    in_row[5, 3] = elsewhere[6, 3] = 5e-4
    assert closest(held, Values(in_row, 1e-7))[1].ratio < 1
    assert closest(held, Values(elsewhere, 1e-7))[1].ratio > 1


# -- which tensor is which --------------------------------------------------------------------------------------------
def graph(*entries):
    return Graph(entries, unmeasured(entries))


def known(*entries):
    return Graph(entries, [Values(e.array, 1e-7) for e in entries])


@pytest.mark.parametrize(
    ("turn", "view"),
    [
        (lambda x: x, ""),
        (lambda x: x[None], ""),
        (lambda x: x.transpose(0, 2, 1), "a b c -> a c b"),
        (lambda x: x.transpose(1, 0, 2).reshape(3, 10), "a b c -> b (a c)"),
        (lambda x: -x.transpose(0, 2, 1), None),
        (lambda x: x.reshape(2, 5, 3), None),  # the same numbers, not the same axes
        (lambda x: x + 1e-4, None),
        (lambda x: x * (1 + 1e-7), ""),
    ],
)
def test_a_tensor_is_found_in_other_axes_and_no_other_is(turn, view):
    x = normal(2, 3, 5)
    found = matched(known(Entry("a", x)), graph(Entry("b", turn(x))))
    assert {n: (other, m.view) for n, (other, m) in found.items()} == ({} if view is None else {0: (0, view)})


def test_a_fill_is_minus_infinity_whatever_it_is():
    x = normal(4, 6)
    x[1, 2:] = -np.inf
    filled = np.where(np.isneginf(x), np.finfo(np.float32).min, x)
    assert 0 in matched(known(Entry("a", x)), graph(Entry("b", filled)))
    wrong = filled.copy()
    wrong[1, 2] = 0.5
    assert matched(known(Entry("a", x)), graph(Entry("b", wrong))) == {}


def test_views_of_one_tensor_are_one_node_and_what_is_made_of_weights_is_none():
    x = normal(3, 4)
    entries = [
        Entry("exp", x),
        Entry("t", x.T, reads=(0,)),
        Entry("weight", normal(4, 4), fixed=True),
        Entry("reshape", x.T.reshape(2, 2, 3), reads=(1,)),
        Entry("mul", 2 * x, reads=(0, 2)),
    ]
    made = graph(*entries)
    assert [n.members for n in made.nodes] == [(0, 1, 3), (4,)]
    assert made.nodes[1].reads == (0,)


def test_one_tensor_of_b_is_the_counterpart_of_one_of_a():
    x = normal(3, 4)
    ours = known(Entry("a", x), Entry("sin", x + 0.0), Entry("b", x * 1.0))
    assert len(matched(ours, graph(Entry("a", x), Entry("b", x.copy())))) == 2
