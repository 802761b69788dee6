"""PyTorch's own pools as they are met in a user's model: the subject, the config and the canonical inputs of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from conformance.errors import Unsupported
from conformance_adapters.torch_pooling import POOLS, AvgPool, Pool
from conformance_adapters.window_padding import per_axis

Config = Callable[[Any], dict[str, Any]]
Inputs = Callable[[Any, Mapping[str, Any]], dict[str, Any]]


def _named(module: nn.Module) -> str:
    return f"torch.nn.{type(module).__name__}"


def _refuse(condition: object, sentence: str) -> None:
    if condition:
        raise Unsupported(sentence)


def windowed(module: Any) -> dict[str, Any]:
    """The config of a maximum or a mean of windows. Raises Unsupported for an option that no canonical layer has."""
    name, subject = _named(module), POOLS[_named(module)]
    _refuse(getattr(module, "return_indices", False), f"{name} that gives indices too (return_indices)")
    _refuse(getattr(module, "divisor_override", None), f"{name} with a divisor of its own (divisor_override)")
    axes = subject.axes
    _refuse(set(per_axis(getattr(module, "dilation", 1), axes)) != {1}, f"{name} with a dilation")
    config = {
        "size": list(per_axis(module.kernel_size, axes)),
        "strides": list(per_axis(module.stride, axes)),
        "padding": [[p, p] for p in per_axis(module.padding, axes)],
        "ceil_mode": module.ceil_mode,
    }
    return {**config, "count_include_pad": module.count_include_pad} if issubclass(subject, AvgPool) else config


def adaptive(module: Any) -> dict[str, Any]:
    """The config of torch.nn.AdaptiveAvgPool2d. Raises Unsupported where an axis keeps its size."""
    size = module.output_size
    size = [size, size] if isinstance(size, int) or size is None else list(size)
    _refuse(None in size, f"{_named(module)} that leaves an axis as it is (None)")
    return {"size": size}


def whole(module: Any) -> dict[str, Any]:
    """Of an adaptive pool of one window, which has no config. Raises Unsupported for more windows."""
    size = module.output_size
    one = size == 1 or (isinstance(size, tuple | list) and set(size) == {1})
    _refuse(not one, f"{_named(module)}({size}): of its sizes, 1 is a canonical layer's")
    return {}


def _channels_last(axes: int) -> Inputs:
    def inputs(module: Any, given: Mapping[str, Any]) -> dict[str, Any]:
        x = given["input"]
        return {"x": (x if x.ndim == axes + 2 else x[None]).movedim(1, -1)}

    return inputs


def _entry(name: str, config: Config) -> tuple[type[Pool], Config, Inputs]:
    subject = POOLS[name]
    return subject, config, _channels_last(subject.axes)


def own_pools() -> dict[type[nn.Module], tuple[type[Pool], Config, Inputs]]:
    """Every pool of PyTorch that is a canonical layer."""
    made: dict[type[nn.Module], tuple[type[Pool], Config, Inputs]] = {}
    for axes in (1, 2, 3):
        for kind, config, suffix in (
            ("MaxPool", windowed, ""),
            ("AvgPool", windowed, ""),
            ("AdaptiveAvgPool", whole, "(1)"),
            ("AdaptiveMaxPool", whole, "(1)"),
        ):
            made[getattr(nn, f"{kind}{axes}d")] = _entry(f"torch.nn.{kind}{axes}d{suffix}", config)
    made[nn.AdaptiveAvgPool2d] = _entry("torch.nn.AdaptiveAvgPool2d", adaptive)
    return made
