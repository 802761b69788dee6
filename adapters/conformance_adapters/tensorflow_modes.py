"""How TensorFlow runs a function other than eagerly: as a graph, or compiled by XLA."""

from __future__ import annotations

from copy import copy
from typing import Any

GRAPH = "graph"
XLA = "xla"


def run_traced(subject: Any, mode: str) -> Any:
    """What `subject`, called without arguments, gives as a tf.function; in the mode "xla" with `jit_compile`.

    The tensors in its `given` are arguments, since what a function closes over may become a constant, which is folded;
    its variables are captured, as a user's are.
    """
    import tensorflow as tf

    @tf.function(jit_compile=mode == XLA, autograph=False)
    def function(given: dict[str, Any]) -> Any:
        called = copy(subject)
        called.given = given
        return called()

    return function(subject.given)
