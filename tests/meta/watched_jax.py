"""Traces of what is written in JAX or Flax: run once plain, once equation by equation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from problem import Arrays, Observe, Problem

from conformance.trace import Trace
from conformance_adapters import jax_tape

Build = Callable[[Mapping[str, jax.Array], Mapping[str, Any]], Callable[..., jax.Array]]


def in_jax(build: Build, *, compiled: bool = False) -> Observe:
    """How `build(weights, config)`, a function or a Flax module, is run on the inputs by name, and watched.

    `compiled`: the plain run is under `jax.jit`, so that XLA fuses what it likes.
    """

    def observe(problem: Problem, inputs: Arrays, dtype: str) -> Trace:
        with jax.enable_x64(dtype == "float64"):

            def arrays(given: Arrays) -> dict[str, jax.Array]:
                return {n: jnp.asarray(a, None if a.dtype == bool else dtype) for n, a in given.items()}

            given, subject = arrays(inputs), build(arrays(problem.weights), problem.config)
            plain = jax.jit(lambda held: subject(**held))(given) if compiled else subject(**given)
            observed, tape = jax_tape.record(lambda held: subject(**held), given)
            return Trace(jax_tape.to_numpy(plain), tape, jax_tape.to_numpy(observed))

    return observe
