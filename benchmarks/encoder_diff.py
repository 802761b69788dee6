"""How long the diff of a 12-layer encoder and its ONNX export takes, one layer of the export altered.

    python benchmarks/encoder_diff.py [--tokens 64]

The encoder is torch.nn.TransformerEncoder as BERT-base has it (768 wide, 12 heads, 3072 in between), exported by
torch.onnx.export after a bias, an epsilon or the form of GELU was altered in one of its layers, or nothing was.
Imports, both runs of each model, its float64 run and the comparison count; to make the export does not.
"""

from __future__ import annotations

import argparse
import copy
import resource
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from conformance.diffing import diff

LAYERS, WIDTH, HEADS, BETWEEN = 12, 768, 12, 3072


def encoder() -> nn.TransformerEncoder:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, BETWEEN, dropout=0.0, activation="gelu", batch_first=True)
    made = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False).eval()
    with torch.no_grad():  # it holds twelve copies of one layer: make them different
        for parameter in made.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return made


def bias(layer: Any) -> None:
    layer.self_attn.out_proj.bias.data[7] += 0.01


def epsilon(layer: Any) -> None:
    layer.norm2.eps = 1e-4


def gelu(layer: Any) -> None:
    layer.activation = nn.GELU(approximate="tanh")


ALTERATIONS: dict[str, tuple[int, Callable[[Any], None]] | None] = {
    "nothing": None,
    "a bias of layer 7": (7, bias),
    "an epsilon of layer 3": (3, epsilon),
    "the GELU of layer 10": (10, gelu),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--tokens", type=int, default=64)
    tokens = options.parse_args().tokens
    model, x = encoder(), torch.randn(1, tokens, WIDTH)
    with tempfile.TemporaryDirectory() as folder:
        for what, alteration in ALTERATIONS.items():
            changed = copy.deepcopy(model)
            if alteration is not None:
                alteration[1](changed.layers[alteration[0]])
            path = Path(folder) / "encoder.onnx"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.onnx.export(changed, (x,), path, dynamo=False, opset_version=18, input_names=["src"])
            clock = time.perf_counter()
            found = diff(model, path, inputs={"src": x.numpy()})
            seconds = time.perf_counter() - clock
            at = found.first.a if found.first is not None else None
            where = f"{at.operation} in {at.scope}" if at is not None else "nowhere"
            worst = max(float(p.ratio) for p in found.pairs)
            print(
                f"{what}: {found.status}, at {where}; {len(found.pairs)} tensors in common (at most {worst:.2f} "
                f"tolerances off), output {float(found.output.ratio):.3g} off; {seconds:.1f} s"
            )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB, exports included")


if __name__ == "__main__":
    main()
