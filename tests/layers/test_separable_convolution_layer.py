"""Separable convolution: by hand, against SciPy's correlation, and as one whole convolution of another kernel."""

from itertools import product

import numpy as np
import pytest
from exact import drawn, steps
from scipy.signal import correlate2d

from conformance.errors import DoesNotFit


def test_by_hand():
    """Two channels of one row, each with two kernels of two, and the four of them added up with weights."""
    x = np.array([[1.0, 10], [2, 20], [3, 30]]).reshape(1, 1, 3, 2)
    kernel = np.array([[[1.0, 2], [3, 4]], [[10, 20], [30, 40]]]).reshape(1, 2, 2, 2)
    weights = {"depthwise_kernel": kernel, "pointwise_kernel": np.array([[1.0], [10], [100], [1000]])}
    found = steps("separable_conv2d", {"x": x}, {**weights, "bias": np.array([0.5])})
    assert found["convolved"][0, 0].tolist() == [[21, 42, 630, 840], [32, 64, 960, 1280]]
    assert found["pointwise"][0, 0, :, 0].tolist() == [21 + 420 + 63000 + 840000, 32 + 640 + 96000 + 1280000]
    assert found["output"][0, 0, 0, 0] == 21 + 420 + 63000 + 840000 + 0.5
    other = steps("separable_conv2d", {"x": x}, weights, conv_groups="interleaved")
    assert other["pointwise"][0, 0, 0, 0] == 21 + 6300 + 4200 + 840000


@pytest.mark.parametrize(("choice", "order"), [("multiplier,in", False), ("multiplier,in:stored", True)])
def test_kernels_of_which_the_multiplier_is_counted_first(choice, order):
    """A kernel of Keras's for three channels, two each, reshaped to torch's with and without a transposition."""
    x, kernel = drawn(0, 1, 4, 4, 3), drawn(1, 2, 2, 3, 2)
    found = steps("depthwise_conv2d", {"x": x}, {"kernel": kernel}, conv_multiplier_order=choice)["output"]
    for j in range(6):
        column = kernel[..., j % 3, j // 3] if order else kernel.reshape(2, 2, 6)[..., (j % 2) * 3 + j // 2]
        assert np.allclose(found[0, ..., j], correlate2d(x[0, ..., j // 2], column, "valid"), 1e-12, 1e-12)


def test_it_is_a_convolution_whose_kernel_is_a_product():
    """Its kernel from input channel c is the sum over m of depthwise[o, c, m] pointwise[c M + m]."""
    x, depthwise, pointwise, bias = drawn(0, 2, 7, 8, 3), drawn(1, 3, 2, 3, 2), drawn(2, 6, 5), drawn(3, 5)
    config = {"strides": [2, 1], "padding": [[1, 0], [0, 2]], "dilation": [1, 2]}
    weights = {"depthwise_kernel": depthwise, "pointwise_kernel": pointwise, "bias": bias}
    found = steps("separable_conv2d", {"x": x}, weights, config)["output"]
    whole = np.einsum("ijcm,cmo->ijco", depthwise, pointwise.reshape(3, 2, 5))
    apart = np.zeros((3, 3, 3, 5))  # the kernel's two columns with a column of zeros between them
    apart[:, ::2] = whole
    padded = np.pad(x, [(0, 0), (1, 0), (0, 2), (0, 0)])
    for sample, o in product(range(2), range(5)):
        channels = [correlate2d(padded[sample, ..., c], apart[..., c, o], "valid")[::2] for c in range(3)]
        assert np.allclose(found[sample, ..., o], sum(channels) + bias[o], 1e-12, 1e-12)


def test_a_pointwise_kernel_of_another_depth_is_refused():
    weights = {"depthwise_kernel": drawn(1, 3, 3, 3, 2), "pointwise_kernel": drawn(2, 5, 4)}
    with pytest.raises(DoesNotFit, match="'pointwise' cannot be computed from convolved 1x2x2x6, pointwise_kernel 5x4"):
        steps("separable_conv2d", {"x": drawn(0, 1, 4, 4, 3)}, weights)
