"""How Keras on JAX runs a layer other than operation by operation: jitted, as `Model.predict` does."""

from __future__ import annotations

from copy import copy
from typing import Any

from conformance_adapters.keras_subject import KerasSubject


def run_jitted(subject: KerasSubject) -> Any:
    """What `subject` gives as one jitted program, whose arguments are its inputs and the variables of its layers."""
    import jax
    from keras import StatelessScope, layers

    held = [leaf for value in vars(subject).values() for leaf in jax.tree.leaves(value)]
    variables = [variable for layer in held if isinstance(layer, layers.Layer) for variable in layer.variables]

    @jax.jit
    def program(given: dict[str, Any], values: list[Any]) -> Any:
        called = copy(subject)
        called.given = given
        with StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return called()

    return program(subject.given, [variable.value for variable in variables])
