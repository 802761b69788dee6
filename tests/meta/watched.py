"""Traces of what is written in PyTorch: run once plain, once watched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from problem import Arrays, Problem

from conformance.trace import Trace
from conformance_adapters.torch_tape import record, to_numpy

Build = Callable[[Mapping[str, torch.Tensor], Mapping[str, Any]], Callable[..., torch.Tensor]]


def tensor(array: np.ndarray, dtype: str) -> torch.Tensor:
    """The framework's tensor; a boolean mask stays one."""
    made = torch.from_numpy(np.array(array))
    return made.to(getattr(torch, dtype)) if made.is_floating_point() else made


def in_torch(build: Build, *, decomposed: bool = False) -> Callable[[Problem, Arrays, str], Trace]:
    """How `build(weights, config)`, called with the inputs by name, is run and watched.

    The seed is the same for both runs, for what is random.
    """

    def observe(problem: Problem, inputs: Arrays, dtype: str) -> Trace:
        given = {name: tensor(array, dtype) for name, array in inputs.items()}
        weights = {name: tensor(array, dtype) for name, array in problem.weights.items()}
        subject = build(weights, problem.config)
        torch.manual_seed(7)
        plain = subject(**given)
        torch.manual_seed(7)
        observed, tape = record(lambda: subject(**given), decomposed)
        return Trace(to_numpy(plain), tape, to_numpy(observed))

    return observe
