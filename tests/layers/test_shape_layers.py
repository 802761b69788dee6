"""Embedding, flattening, padding, pixel shuffle and dropout against values by hand and index arithmetic."""

import itertools

import numpy as np
import pytest
from exact import drawn, steps

from conformance.errors import ConformanceError

LINE = np.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1)
TABLE = np.array([[0.0, 1.0], [10.0, 11.0], [20.0, 21.0]])


def output(layer, x, config=None, **conventions):
    return steps(layer, {"x": x}, {}, config, **conventions)["output"]


# ---------------------------------------------------------------------------------------- embedding
def test_rows_are_counted_from_zero():
    found = steps("embedding", {"indices": np.array([[2, 0], [1, 1]])}, {"table": TABLE})["output"]
    assert found.tolist() == [[[20, 21], [0, 1]], [[10, 11], [10, 11]]]


def test_rows_counted_from_one_are_the_next_ones_and_scaled_rows_are_larger():
    given = {"indices": np.array([0, 1])}, {"table": TABLE}
    shifted = steps("embedding", *given, embedding_padding_index="shifted")["output"]
    assert shifted.tolist() == [[10, 11], [20, 21]]
    scaled = steps("embedding", *given, embedding_scale="sqrt(dim)")["output"]
    assert scaled == pytest.approx(np.sqrt(2) * TABLE[:2])


@pytest.mark.parametrize("row", [-1, 3])
def test_a_row_that_there_is_not_is_refused(row):
    with pytest.raises(ConformanceError, match="output"):
        steps("embedding", {"indices": np.array([row])}, {"table": TABLE})


# ------------------------------------------------------------------------------------------ flatten
def test_flattening_keeps_the_batch_and_has_the_channel_last():
    x = np.arange(12.0).reshape(1, 2, 3, 2)
    assert output("flatten", x).tolist() == [list(range(12))]
    assert output("flatten", x, flatten_order="channels-first").tolist() == [[0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11]]
    assert output("flatten", x, flatten_order="column-major").tolist() == [[0, 6, 2, 8, 4, 10, 1, 7, 3, 9, 5, 11]]


# ---------------------------------------------------------------------------------------------- pad
@pytest.mark.parametrize(
    ("mode", "expected"),
    [  # of 1 2 3 4, two before and three after, as the documentation of numpy.pad has them
        ("constant", [9, 9, 1, 2, 3, 4, 9, 9, 9]),
        ("reflect", [3, 2, 1, 2, 3, 4, 3, 2, 1]),
        ("symmetric", [2, 1, 1, 2, 3, 4, 4, 3, 2]),
        ("replicate", [1, 1, 1, 2, 3, 4, 4, 4, 4]),
        ("circular", [3, 4, 1, 2, 3, 4, 1, 2, 3]),
    ],
)
def test_what_is_around_is_what_the_mode_says(mode, expected):
    config = {"padding": [[2, 3]], "mode": mode, "value": 9.0}
    assert output("pad", LINE, config).ravel().tolist() == expected
    other = {**config, "mode": "constant"}
    assert output("pad", LINE, other, pad_mode=mode).ravel().tolist() == expected


def test_one_amount_is_for_every_side_and_a_negative_one_takes_away():
    assert output("pad", LINE).ravel().tolist() == [0, 1, 2, 3, 4, 0]
    assert output("pad", LINE, {"padding": [[-1, 2]]}).ravel().tolist() == [2, 3, 4, 0, 0]
    assert output("pad", np.ones((1, 3, 5, 2)), {"padding": 2}).shape == (1, 7, 9, 2)


def test_pairs_are_in_the_order_of_the_axes():
    x = drawn(0, 2, 3, 5, 4)
    found = output("pad", x, {"padding": [[1, 0], [0, 2]]})
    assert found.shape == (2, 4, 7, 4)
    assert np.array_equal(found[:, 1:, :5], x)
    other = output("pad", x, {"padding": [[1, 0], [0, 2]]}, pad_axis_order="last-axis-first")
    assert np.array_equal(other[:, :3, 1:], x)


@pytest.mark.parametrize("config", [{"padding": [[1, 1]]}, {"mode": "mirror"}])
def test_a_padding_that_says_too_little_or_something_else_is_refused(config):
    with pytest.raises(ConformanceError, match="padding"):
        output("pad", np.ones((1, 3, 5, 2)), config)


# ------------------------------------------------------------------------------------ pixel shuffle
@pytest.mark.parametrize(("mode", "factor"), list(itertools.product(("CRD", "DCR"), (2, 3))))
def test_every_pixel_of_a_block_is_the_channel_that_the_definition_names(mode, factor):
    out = 2
    x = drawn(1, 1, 3, 5, out * factor**2)
    found = output("pixel_shuffle", x, {"factor": factor, "mode": mode})
    for h, w, i, j, c in np.ndindex(3, 5, factor, factor, out):
        channel = c * factor**2 + i * factor + j if mode == "CRD" else (i * factor + j) * out + c
        assert found[0, h * factor + i, w * factor + j, c] == x[0, h, w, channel]


def test_channels_that_are_no_whole_blocks_are_refused():
    with pytest.raises(ConformanceError, match="multiple"):
        output("pixel_shuffle", np.ones((1, 2, 2, 6)))
    with pytest.raises(ConformanceError, match="mode"):
        output("pixel_shuffle", np.ones((1, 2, 2, 8)), {"mode": "RCD"})


# ------------------------------------------------------------------------------------------ dropout
def test_nothing_is_dropped_at_inference():
    x = drawn(2, 3, 4)
    assert np.array_equal(output("dropout", x, {"rate": 0.25}), x)
    assert output("dropout", x, {"rate": 0.25}, dropout_scaling="1-rate") == pytest.approx(0.75 * x)
    assert output("dropout", x, {"rate": 0.25}, dropout_scaling="1/(1-rate)") == pytest.approx(x / 0.75)
