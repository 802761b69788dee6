"""Embedding, flattening, padding and pixel shuffle as users hand them over: read, judged and named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx_models import parsed
from torch import nn

from conformance import check, check_model

rng = np.random.default_rng(7)
LINE, PLANE, VOLUME = rng.normal(size=(2, 7, 4)), rng.normal(size=(2, 5, 7, 8)), rng.normal(size=(2, 4, 5, 3, 8))
OWN = [
    (nn.ConstantPad1d((1, 2), 0.5), "pad", LINE),
    (nn.ZeroPad2d((1, 2, 0, 3)), "pad", PLANE),
    (nn.ReflectionPad2d((1, 2, 0, 3)), "pad", PLANE),
    (nn.ReplicationPad3d(1), "pad", VOLUME),
    (nn.CircularPad2d((1, 2, 3, 0)), "pad", PLANE),
    (nn.PixelShuffle(2), "pixel_shuffle", PLANE),
    (nn.Flatten(), "flatten", PLANE),
    (nn.Dropout(0.2).eval(), "dropout", LINE),
]


@pytest.mark.parametrize(("module", "layer", "x"), OWN, ids=lambda v: getattr(v, "_get_name", lambda: "")())
def test_a_module_of_pytorch_is_read_with_its_config(module, layer, x):
    case = check(module, layer, inputs={"x": x})
    assert (case.status, case.subject.partition("(")[0]) == (
        "conforms",
        f"torch.nn.{type(module).__name__}".replace("ZeroPad", "ConstantPad")
        if case.subject.startswith("torch.nn.Constant")
        else f"torch.nn.{type(module).__name__}",
    )


def test_an_embedding_is_read_and_one_that_counts_from_one_is_named():
    table = nn.Embedding(11, 5)
    indices = {"indices": np.array([[0, 3, 9], [1, 1, 4]])}
    assert check(table, "embedding", inputs=indices).status == "conforms"

    class FromOne(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = table

        def forward(self, indices):
            return self.table(indices + 1)

    case = check(FromOne(), "embedding", inputs=indices)
    assert [(f.convention, f.value) for f in case.diagnosis] == [("embedding.padding-index", "shifted")]


@pytest.mark.parametrize(
    ("module", "layer", "said"),
    [
        (nn.Flatten(0), "flatten", "Flatten"),
        (nn.Embedding(3, 2, max_norm=1.0), "embedding", "max_norm"),
    ],
)
def test_an_option_that_no_canonical_layer_has_is_unsupported(module, layer, said):
    given = {"indices": np.array([0, 2])} if layer == "embedding" else {"x": PLANE}
    case = check(module, layer, inputs=given)
    assert case.status == "unsupported"
    assert said in (case.message or "")


def test_every_such_layer_of_a_model_is_judged():
    torch.manual_seed(0)
    model = nn.Sequential(nn.ZeroPad2d((1, 2, 0, 1)), nn.PixelShuffle(2), nn.Flatten(), nn.Dropout(0.3)).eval()
    run = check_model(model, inputs={"x": np.moveaxis(PLANE, -1, 1)})
    assert [(c.layer, c.status) for c in run.cases] == [
        (layer, "conforms") for layer in ("pad", "pixel_shuffle", "flatten", "dropout")
    ]


def test_amounts_in_the_order_of_another_framework_are_named():
    config = {"padding": [[1, 2], [2, 1]]}
    case = check(nn.ZeroPad2d((1, 2, 2, 1)), "pad", inputs={"x": PLANE}, config=config)
    assert [(f.convention, f.value) for f in case.diagnosis] == [("pad.axis-order", "last-axis-first")]


ONNX = {
    "pixel_shuffle": ("float[2, 8, 5, 7] x", 'y = DepthToSpace <blocksize = 2, mode = "CRD"> (x)', PLANE),
    "flatten": ("float[2, 5, 7, 8] x", "y = Flatten <axis = 1> (x)", PLANE),
    "pad": (
        "float[2, 8, 5, 7] x",
        'pads = Constant <value_ints = [0, 0, 1, 2, 0, 0, 3, 0]> () y = Pad <mode = "edge"> (x, pads)',
        PLANE,
    ),
}


@pytest.mark.parametrize("layer", ONNX)
def test_an_operator_of_onnx_is_read_with_its_config(layer):
    said, body, x = ONNX[layer]
    ends = "A, B" if layer == "flatten" else "A, B, C, D"
    case = check(parsed(f"{said}) => (float[{ends}] y", body), layer, inputs={"x": x})
    assert (case.status, case.message) == ("conforms", None)


def test_the_order_of_blocks_that_an_operator_of_onnx_has_by_default_is_named():
    model = parsed("float[2, 8, 5, 7] x) => (float[A, B, C, D] y", "y = DepthToSpace <blocksize = 2> (x)")
    case = check(model, "pixel_shuffle", inputs={"x": PLANE}, config={"mode": "CRD"})
    assert [(f.convention, f.value) for f in case.diagnosis] == [("pixel_shuffle.mode", "DCR")]


def test_a_bilinear_map_is_read_and_one_whose_kernel_is_turned_is_not_it():
    torch.manual_seed(1)
    inputs = {"first": rng.normal(size=(5, 4)), "second": rng.normal(size=(5, 4))}
    module = nn.Bilinear(4, 4, 3)
    assert check(module, "bilinear", inputs=inputs).status == "conforms"

    class Turned(nn.Module):
        def forward(self, first, second):
            return module(second, first)

    weights = {"kernel": module.weight.detach().numpy().transpose(1, 2, 0), "bias": module.bias.detach().numpy()}
    assert check(Turned(), "bilinear", inputs=inputs, weights=weights).status == "diverges"
