"""How JAX runs a function other than operation by operation: jitted, as one program."""

from __future__ import annotations

from copy import copy
from typing import Any

JIT = "jit"


def run_jitted(subject: Any) -> Any:
    """What `subject`, called without arguments, gives as one jitted program.

    Every array that it holds is an argument of the program, as in a user's: what a jitted function closes over is a
    constant, of which XLA computes what it can while it compiles, in another way than at run time.
    """
    import jax

    held = {name: jax.tree.flatten(value) for name, value in vars(subject).items()}
    arrays = {
        name: {i: leaf for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)}
        for name, (leaves, _) in held.items()
    }

    @jax.jit
    def program(given: dict[str, dict[int, Any]]) -> Any:
        called = copy(subject)
        for name, own in given.items():
            leaves, structure = held[name]
            setattr(called, name, structure.unflatten([own.get(i, leaf) for i, leaf in enumerate(leaves)]))
        return called()

    return program({name: own for name, own in arrays.items() if own})
