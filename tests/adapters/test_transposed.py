"""Transposed convolutions that users hand over are read with their config, and what differs is named."""

import numpy as np
import pytest
from torch import nn

from conformance import check


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "module",
    [
        nn.ConvTranspose1d(3, 4, 3, stride=2, padding=1, output_padding=1),
        nn.ConvTranspose2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 0), bias=False),
        nn.ConvTranspose3d(3, 4, 2, dilation=2),
    ],
    ids=str,
)
def test_a_module_of_pytorch_is_read_with_its_config(module, dtype):
    axes = int(type(module).__name__[-2])
    x = np.random.default_rng(axes).normal(size=(2, *(4, 5, 3)[:axes], 3))
    case = check(module, f"conv_transpose{axes}d", inputs={"x": x}, dtype=dtype)
    assert (case.status, case.subject) == ("conforms", f"torch.nn.{type(module).__name__}")


def test_groups_are_no_part_of_the_canonical_layer():
    case = check(nn.ConvTranspose2d(4, 4, 3, groups=2), "conv_transpose2d", inputs={"x": np.ones((1, 3, 3, 4))})
    assert (case.status, "2 groups" in (case.message or "")) == ("unsupported", True)


def test_the_other_end_that_is_cropped_is_named():
    """torch's padding=1, output_padding=1 has the size of Keras's "same", and is shifted by one."""
    module = nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1)
    x = np.random.default_rng(0).normal(size=(2, 4, 5, 3))
    config = {"padding": "same-upper", "output_padding": 0}
    case = check(module, "conv_transpose2d", inputs={"x": x}, config=config)
    found = [(f.convention, f.value, f.canonical) for f in case.diagnosis]
    assert found == [("conv_transpose.padding", "crop-lower", "crop-upper")]
