"""Resizing as users hand it over: read, judged and named."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import torch.nn.functional as F
from onnx_models import parsed
from torch import nn

from conformance import check, check_model

X = np.random.default_rng(3).normal(size=(2, 5, 7, 3))
OWN = [
    nn.Upsample(size=(8, 11)),
    nn.Upsample(scale_factor=2, mode="nearest-exact"),
    nn.Upsample(scale_factor=(1.5, 2.5), mode="bilinear"),
    nn.Upsample(size=(3, 4), mode="bilinear", align_corners=True),
    nn.Upsample(size=8, mode="bicubic"),
]


def found(case):
    return [(f.convention, f.value) for f in case.diagnosis]


@pytest.mark.parametrize("module", OWN, ids=str)
def test_a_module_of_pytorch_is_read_with_its_config(module):
    case = check(module, "resize", inputs={"x": X})
    assert (case.status, case.subject.partition("(")[0]) == ("conforms", "torch.nn.Upsample")


def test_a_module_is_found_in_a_model():
    model = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(3, 4, 3))
    run = check_model(model, inputs={"x": np.moveaxis(X, -1, 1)})
    assert {(c.layer, c.status) for c in run.cases} == {("resize", "conforms"), ("conv2d", "conforms")}


@pytest.mark.parametrize(
    ("module", "config", "named"),
    [
        (
            nn.Upsample(size=(8, 11), mode="bilinear", align_corners=True),
            {"coordinates": "half-pixel"},
            [("resize.coordinates", "align-corners")],
        ),
        (nn.Upsample(size=(8, 11)), {"coordinates": "half-pixel"}, [("resize.coordinates", "asymmetric")]),
        (
            nn.Upsample(size=(8, 11), mode="bicubic"),
            {"cubic_coefficient": -0.5},
            [("resize.cubic-coefficient", "-0.75")],
        ),
    ],
    ids=["corners", "floor", "cubic"],
)
def test_what_another_framework_would_have_done_is_named(module, config, named):
    assert found(check(module, "resize", inputs={"x": X}, config=config)) == named


def test_an_antialias_that_was_not_asked_for_is_named():
    """The default of jax.image.resize."""

    def smaller(x):
        return jax.image.resize(x, (2, 3, 4, 3), "linear")

    config = {"size": [3, 4], "mode": "bilinear", "outside": "excluded"}
    case = check(smaller, "resize", inputs={"x": X}, config=config, adapter="jax")
    assert found(case) == [("resize.antialias", "on")]


def test_a_scale_that_is_recomputed_is_named():
    class Larger(nn.Module):
        def forward(self, x):
            given = {"scale_factor": 1.7, "mode": "bilinear", "recompute_scale_factor": True}
            return F.interpolate(x.permute(0, 3, 1, 2), **given).permute(0, 2, 3, 1)

    case = check(Larger(), "resize", inputs={"x": X}, config={"scale": 1.7, "mode": "bilinear"})
    assert found(case) == [("resize.scale", "recomputed")]


SIZES = "sizes = Constant <value_ints = [2, 3, 8, 11]> () "
ONNX = {
    "the defaults": SIZES + "y = Resize (x, , , sizes)",
    "cubic": SIZES + 'y = Resize <mode = "cubic", cubic_coeff_a = -0.5, exclude_outside = 1> (x, , , sizes)',
    "scales": "scales = Constant <value_floats = [1.0, 1.0, 1.5, 2.5]> () "
    'y = Resize <mode = "linear", coordinate_transformation_mode = "asymmetric"> (x, , scales)',
}


@pytest.mark.parametrize("body", ONNX)
def test_an_operator_of_onnx_is_read_with_its_config(body):
    case = check(parsed("float[2, 3, 5, 7] x) => (float[A, B, C, D] y", ONNX[body]), "resize", inputs={"x": X})
    assert (case.status, case.message) == ("conforms", None)


def test_onnxs_own_nearest_element_is_named():
    """Its default takes the lower of two that are as near."""
    body = "sizes = Constant <value_ints = [2, 3, 1, 2]> () y = Resize (x, , , sizes)"
    even = np.random.default_rng(4).normal(size=(2, 4, 8, 3))
    model = parsed("float[2, 3, 4, 8] x) => (float[A, B, C, D] y", body)
    case = check(model, "resize", inputs={"x": even}, config={"nearest_rounding": "half-up"})
    assert found(case) == [("resize.nearest-rounding", "half-down")]
