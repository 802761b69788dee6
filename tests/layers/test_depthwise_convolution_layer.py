"""Depthwise convolution: each channel by itself, by hand and against SciPy's correlation."""

from itertools import product

import numpy as np
from exact import drawn, steps
from scipy.signal import correlate2d


def test_by_hand():
    """Two channels of one row, each with two kernels of two: channel c has outputs 2c and 2c + 1."""
    x = np.array([[1.0, 10], [2, 20], [3, 30]]).reshape(1, 1, 3, 2)
    kernel = np.array([[[1.0, 2], [3, 4]], [[10, 20], [30, 40]]]).reshape(1, 2, 2, 2)
    found = steps("depthwise_conv2d", {"x": x}, {"kernel": kernel, "bias": np.array([0, 0, 0, 0.5])})
    assert found["convolved"][0, 0].tolist() == [[21, 42, 630, 840], [32, 64, 960, 1280]]
    assert found["output"][0, 0, :, 3].tolist() == [840.5, 1280.5]
    other = steps("depthwise_conv2d", {"x": x}, {"kernel": kernel}, conv_groups="interleaved")
    assert other["convolved"][0, 0, 0].tolist() == [21, 630, 42, 840]


def test_channels_are_correlations_of_scipys():
    x, kernel = drawn(0, 2, 7, 8, 3), drawn(1, 3, 2, 3, 2)
    config = {"strides": 2, "padding": [[1, 0], [0, 2]]}
    found = steps("depthwise_conv2d", {"x": x}, {"kernel": kernel}, config)["output"]
    padded = np.pad(x, [(0, 0), (1, 0), (0, 2), (0, 0)])
    for sample, c, m in product(range(2), range(3), range(2)):
        whole = correlate2d(padded[sample, ..., c], kernel[..., c, m], "valid")
        assert np.allclose(found[sample, ..., 2 * c + m], whole[::2, ::2], 1e-12, 1e-12)
