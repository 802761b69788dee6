"""Keras's own activations as they are met in a user's model: layers, and functions in `keras.layers.Activation`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from conformance.errors import Unsupported
from conformance_adapters.keras_activation import FUNCTIONS, LAYERS, ActivationFunction, PReLU
from conformance_adapters.keras_siblings import Activation
from conformance_adapters.keras_subject import KerasSubject

Known = tuple[type[KerasSubject], Callable[[Any], dict[str, Any]]]


def own_layers() -> Mapping[type, Known]:
    """By type: the subject that knows the layer, and how its config is read. For ReLU it is `rectifier`."""
    from keras import layers

    made: dict[type, Known] = {getattr(layers, subject.kind): (subject, subject.read) for subject in LAYERS}
    return {**made, layers.PReLU: (PReLU, lambda layer: {})}


def rectifier(layer: Any) -> Known:
    """Which of three layers `keras.layers.ReLU` is, by its options."""
    relu, most, slope, threshold = LAYERS[0], layer.max_value, float(layer.negative_slope), layer.threshold
    if threshold or most not in (None, 6) or (most == 6 and slope):

        def refused(layer: Any) -> dict[str, Any]:
            options = f"max_value={most}, negative_slope={slope}, threshold={threshold}"
            raise Unsupported(f"keras.layers.ReLU with {options}: neither relu, relu6 nor leaky_relu")

        return relu, refused
    if most == 6:
        return _kept(relu, "relu6"), lambda layer: {}
    if slope:
        return _kept(relu, "leaky_relu"), lambda layer: {"slope": slope}
    return relu, relu.read


def _kept(subject: type[KerasSubject], layer: str) -> type[KerasSubject]:
    """`subject`, which is called as it is, as another layer."""
    return type(subject.__name__, (subject,), {"layer": layer, "__doc__": subject.__doc__})


def own_functions() -> Mapping[Any, Known]:
    """By function of `keras.activations`: the subject of a layer that applies it, and its config, which is what the
    function's defaults are."""
    from keras import activations

    return {getattr(activations, known.function): _applied(known) for known in FUNCTIONS}


def _applied(known: type[ActivationFunction]) -> Known:
    from keras import activations

    parameters = inspect.signature(getattr(activations, known.function)).parameters
    config = {name: parameters[own].default for name, own in known.named.items()}
    kind = type(known.function, (Activation,), {"layer": known.layer, "__doc__": f"An Activation of {known.name}."})
    return kind, lambda layer: config
