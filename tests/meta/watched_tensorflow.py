"""Traces of what is written in TensorFlow, or in Keras on TensorFlow: run once plain, once as a graph.

A process has one Keras back end; where no other was chosen before, it is TensorFlow here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import tensorflow as tf
from problem import Arrays, Observe, Problem

from conformance.trace import Trace
from conformance_adapters import tensorflow_tape

Build = Callable[[Mapping[str, tf.Tensor], Mapping[str, Any]], Callable[..., tf.Tensor]]


def in_tensorflow(build: Build, *, compiled: bool = False) -> Observe:
    """How `build(weights, config)`, a function or a Keras layer, is run on the inputs by name, and watched.

    `compiled`: the plain run is a `tf.function`, whose graph the optimiser rewrites.
    """

    def observe(problem: Problem, inputs: Arrays, dtype: str) -> Trace:
        def arrays(given: Arrays) -> dict[str, tf.Tensor]:
            return {n: tf.constant(a if a.dtype == bool else a.astype(dtype)) for n, a in given.items()}

        given, subject = arrays(inputs), build(arrays(problem.weights), problem.config)
        plain = tf.function(lambda: subject(**given))() if compiled else subject(**given)
        observed, tape = tensorflow_tape.record(lambda: subject(**given))
        return Trace(tensorflow_tape.to_numpy(plain), tape, tensorflow_tape.to_numpy(observed))

    return observe
