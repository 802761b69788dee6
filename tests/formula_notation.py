"""The notation of formulas: `^`, `.T` and the functions that layers use, evaluated with NumPy alone."""

from __future__ import annotations

import math
import re
from typing import Any

import ml_dtypes
import numpy as np


def softmax(x: Any, axis: int = -1) -> Any:
    powers = np.exp(x - x.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def tf32(x: Any) -> Any:
    """Float32 with the last 13 bits rounded away, half to even."""
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    return (((bits + 0xFFF + ((bits >> 13) & 1)) >> 13) << 13).astype(np.uint32).view(np.float32).astype(float)


FUNCTIONS: dict[str, Any] = {
    **{name: getattr(np, name) for name in ("exp", "log", "tanh", "sqrt", "cos", "sin", "where", "reshape")},
    **{name: getattr(np, name) for name in ("inf", "nan", "pi")},
    "T": lambda x: np.swapaxes(x, -1, -2),
    "max": np.maximum,
    "sum": lambda x: x.sum(-1, keepdims=True),
    "erf": np.vectorize(math.erf),
    "clip": np.clip,
    "softmax": softmax,
    "sigmoid": sigmoid,
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "split": lambda x: np.split(x, 4, axis=-1),
    "tf32": tf32,
    "bfloat16": lambda x: x.astype(ml_dtypes.bfloat16).astype(float),
}  # fmt: skip


def evaluated(expression: str, **names: Any) -> Any:
    """The value of an expression in the formulas' notation."""
    text = re.sub(r"(\w+(?:\[[^]]*\])?)\.T", r"T(\1)", expression.replace("^", "**"))
    return eval(text, {"__builtins__": {}}, {**FUNCTIONS, **names})


def sides(text: str) -> tuple[str, str]:
    left, right = re.split(r" = ", text, maxsplit=1)
    return left, right


def same(a: Any, b: Any) -> bool:
    """Whether `a` is `b`, the oracle's, but for rounding; `a` may be one number for all."""
    a, b = np.asarray(a), np.asarray(b)
    return a.shape in ((), b.shape) and np.allclose(a, b, 1e-9, 1e-12, equal_nan=True)
