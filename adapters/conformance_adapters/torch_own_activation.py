"""PyTorch's own activation modules as they are met in a user's model: the config and the inputs of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from conformance.errors import Unsupported
from conformance_adapters.torch_activation import MODULES, Activation, Prelu

if TYPE_CHECKING:
    from conformance_adapters.torch_subject import TorchSubject

Config = Callable[[Any], dict[str, Any]]
Inputs = Callable[[Any, Mapping[str, Any]], dict[str, Any]]


def own_activations() -> Mapping[type[nn.Module], tuple[type[TorchSubject], Config, Inputs]]:
    """By type: the subject that knows the layer, how the config is read, and how the inputs of a call are."""
    made: dict[type[nn.Module], tuple[type[TorchSubject], Config, Inputs]] = {nn.PReLU: (Prelu, _none, _channels_last)}
    return {**made, **{getattr(nn, subject.kind): (subject, _reader(subject), _x) for subject in MODULES}}


def _reader(subject: type[Activation]) -> Config:
    def read(module: Any) -> dict[str, Any]:
        config = subject.read(module)
        if None in config.values():
            raise Unsupported(f"{subject.name} without a dim guesses one: give it its dim")
        if getattr(module, "beta", 1) != 1:
            raise Unsupported(f"{subject.name} with beta={module.beta}: a canonical softplus has none")
        return config

    return read


def _none(module: Any) -> dict[str, Any]:
    return {}


def _x(module: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    return {"x": next(iter(given.values()))}


def _channels_last(module: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    x = given["input"]
    if x.ndim == 0:  # a single number is its only channel
        x = x[None]
    return {"x": x if x.ndim < 2 or module.num_parameters == 1 else x.movedim(1, -1)}
