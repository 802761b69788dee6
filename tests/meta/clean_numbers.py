"""Attention as the oracle has it, on unusual numbers and sizes."""

from __future__ import annotations

import numpy as np
from attention_module import Attention
from clean import CleanCorpus
from problem import Problem, attention, drawn, lengths

CLEAN = CleanCorpus()

SELF = attention()


def scaled_by(problem: Problem, factor: float) -> Problem:
    return problem.with_inputs(query_input=problem.inputs["query_input"] * factor)


def with_equal_heads() -> Problem:
    """Every head has the same kernels and biases, so that their values are equal."""
    first = {
        name: np.concatenate([array[..., :4]] * 3, axis=-1)
        for name, array in SELF.weights.items()
        if not name.startswith("output")
    }
    return SELF.with_weights(**first)


NUMBERS = {
    "normal": SELF,
    "large": scaled_by(SELF, 1e3),
    "large, with ordinary scores": scaled_by(SELF, 1e3).with_weights(
        **{n: SELF.weights[n] * 1e-3 for n in ("query_kernel", "key_kernel")}
    ),
    "tiny": scaled_by(SELF, 1e-6),
    "zero inputs": scaled_by(SELF, 0.0),
    "constant inputs": SELF.with_inputs(query_input=np.full((2, 5, 12), 0.7)),
    "equal time steps": SELF.with_inputs(query_input=np.repeat(drawn("step", 2, 1, 12), 5, axis=1)),
    "zero kernels": SELF.with_weights(**{n: np.zeros_like(a) for n, a in SELF.weights.items() if "kernel" in n}),
    "zero value": SELF.with_weights(value_kernel=np.zeros((12, 12)), value_bias=np.zeros(12)),
    "identity kernels": SELF.with_weights(**{n: np.eye(12) for n in SELF.weights if "kernel" in n}),
    "tied query and key": SELF.with_weights(
        key_kernel=SELF.weights["query_kernel"], key_bias=SELF.weights["query_bias"]
    ),
    "all tied": SELF.with_weights(
        **{f"{part}_kernel": SELF.weights["query_kernel"] for part in ("key", "value", "output")}
    ),
    "equal heads": with_equal_heads(),
    "single head": attention(heads=1, head_dim=12),
    "single query": attention(times=(1, 7)),
    "single key": attention(times=(5, 1)),
    "single time step": attention(times=(1, 1)),
    "batch of one": attention(batch=1),
    "one of everything": attention(heads=1, head_dim=1, value_dim=1, channels=(1, 1, 1, 1), batch=1, times=(1, 1)),
    "square everywhere": attention(batch=4, heads=4, head_dim=4, channels=(16, 16, 16, 16), times=(4, 4)),
    "square and masked": attention(
        batch=4, heads=4, head_dim=4, channels=(16, 16, 16, 16), times=(4, 4), mask=lengths(1, 2, 3, 4, times=4)
    ),
    "many keys": attention(times=(3, 1024)),
    "wide": attention(heads=2, head_dim=64, channels=(128, 128, 128, 128), value_dim=64),
    "grouped": attention(heads=6, kv_heads=2),
    "one key head": attention(heads=6, kv_heads=1),
    "fully masked rows": attention(mask=lengths(0, 4, times=5)),
    "causal": attention(causal="top-left"),
    "causal, more queries than keys": attention(causal="bottom-right", times=(7, 4)),
    "rotary": attention(rotary=True),
    "softcap": attention(softcap=1.5, causal="top-left"),
}

CLEAN.add(NUMBERS)(Attention)
