"""Runs for the tests in a browser: planted faults, a few fixtures as frameworks compute them, and names that hurt."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import onnx
import torch
from onnx import TensorProto, helper
from sample_runs import HOSTILE, every_status, hostile
from torch import Tensor, nn

import conformance
from conformance.checking import run_of
from conformance.difference import Difference
from conformance.fixture import select
from conformance.result import Run
from conformance.run import run

HURTS = HOSTILE + '"><img src=x onerror="hurt = 1"><script>hurt = 1</script><svg onload="hurt = 1">' + "W" * 10_000


class Unscaled(nn.Module):
    """Self-attention of three heads whose scores are not divided."""

    def __init__(self, heads: int = 3, width: int = 12) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        parts = (p(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        query, key, value = parts
        context = torch.softmax(query @ key.transpose(-1, -2), -1) @ value
        return self.out_proj(context.transpose(1, 2).flatten(2))


class Norm(nn.Module):
    """Layer norm with an epsilon inside the root that is not the one that is asked for."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.rand(width) + 0.5), nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + 0.1) * self.weight + self.bias


class Model(nn.Module):
    """A small model of layers that are known by their type."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.out = nn.Linear(7, 12), nn.LayerNorm(12), nn.Linear(12, 5)
        self.attention = nn.MultiheadAttention(12, 3, batch_first=True)
        self.sharpness = math.pi

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.embed(x))
        return self.out(x + self.sharpness * self.attention(x, x, x)[0])


def gelu_model(folder: Path) -> Path:
    """An ONNX file that has the approximation by tanh."""
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, (3, 16)) for n in ("x", "y")]
    graph = helper.make_graph(
        [helper.make_node("Gelu", ["x"], ["y"], approximate="tanh")], "gelu", value[:1], value[1:]
    )
    path = folder / "gelu.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def planted(folder: Path) -> Run:
    """Layers with a fault each, and one without."""
    torch.manual_seed(0)
    cases = [
        conformance.check(Unscaled(), "multi_head_attention", config={"heads": 3}),
        conformance.check(Norm(), "layer_norm"),
        conformance.check(gelu_model(folder), "gelu", config={"approximation": "none"}),
        conformance.check(nn.Linear(5, 7), "linear"),
    ]
    return run_of(cases, {"torch": str(torch.__version__)}, 1.0)


def of_a_model() -> Run:
    torch.manual_seed(0)
    return conformance.check_model(Model(), inputs={"x": torch.randn(2, 4, 7).numpy()})


def of_two_models() -> Difference:
    """A model, and the same one with its attention weighed otherwise."""
    torch.manual_seed(0)
    one, other = Model(), Model()
    other.load_state_dict(one.state_dict())
    other.sharpness = 3.0
    return conformance.diff(one, other, inputs={"x": torch.randn(2, 4, 7).numpy()})


def of_fixtures() -> Run:
    return run(select(["gelu", "layer-norm"]), ["torch", "onnxruntime", "matlab"], jobs=2)


def hurting() -> Run:
    """As `hostile`, with markup that would run, and names of 10,000 characters."""

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {renamed(k): renamed(v) for k, v in value.items()}
        if isinstance(value, list):
            return [renamed(v) for v in value]
        return HURTS if value == HOSTILE else value

    return msgspec.convert(renamed(msgspec.to_builtins(hostile())), Run)


MADE: dict[str, Callable[[Path], Run | Difference]] = {
    "planted": planted,
    "model": lambda _: of_a_model(),
    "diff": lambda _: of_two_models(),
    "fixtures": lambda _: of_fixtures(),
    "all": lambda _: every_status(),
    "hostile": lambda _: hostile(),
}
"""Each run by a name; a folder is given to write files in."""
