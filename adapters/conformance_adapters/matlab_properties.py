"""Properties of MATLAB's layers that are config: how they are read, and how they are written.

A property is an array of numbers or a line of text. One that is empty (`[]`) is not there: MATLAB has the defaults
then, as the reference page of each layer says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.errors import Unsupported
from conformance.layers.convolution import per_axis

if TYPE_CHECKING:
    from numpy.typing import NDArray

Properties = Mapping[str, "NDArray[Any] | str"]
Config = Mapping[str, Any]


@dataclass(frozen=True)
class Option:
    """Some properties, and the config that they say.

    `read` gives that config, from what is there; `write` gives properties, and raises Unsupported for a config that
    the layer cannot have.
    """

    properties: tuple[str, ...]
    config: tuple[str, ...]
    read: Callable[[Properties], Config]
    write: Callable[[Config], Properties]


def number(name: str, config: str, kind: type = float) -> Option:
    """A property that is one number."""

    def read(properties: Properties) -> Config:
        value = properties.get(name)
        if value is None or isinstance(value, str):
            return {}
        if value.size != 1:
            raise Unsupported(f"{name} has {value.size} numbers, where one is needed")
        return {config: kind(value.item())}

    return Option((name,), (config,), read, lambda said: {name: row([said[config]])})


def chosen(name: str, config: str, values: Mapping[str, Any]) -> Option:
    """A property that is one of some words; `values` are what each is in the config."""

    def read(properties: Properties) -> Config:
        value = properties.get(name)
        if value is None:
            return {}
        if not isinstance(value, str):
            raise Unsupported(f"{name} is an array, where the canonical layer can be {', '.join(values)}")
        if value not in values:
            raise Unsupported(f"{name} is {value!r}, which the canonical layer cannot be: it has {', '.join(values)}")
        return {config: values[value]}

    def write(said: Config) -> Properties:
        words = [word for word, value in values.items() if value == said[config]]
        if not words:
            raise Unsupported(f"MATLAB's {name} cannot be {config} = {said[config]!r}")
        return {name: words[0]}

    return Option((name,), (config,), read, write)


def text(properties: Properties, name: str) -> str | None:
    """The property where it is text."""
    value = properties.get(name)
    return value if isinstance(value, str) else None


def exactly(name: str, wanted: float) -> Option:
    """A property that is one number, where the canonical layer has `wanted` alone."""

    def read(properties: Properties) -> Config:
        value = properties.get(name)
        if value is not None and (isinstance(value, str) or np.any(value != wanted)):
            raise Unsupported(f"{name} is {value if isinstance(value, str) else value.ravel()[0]}, and not {wanted}")
        return {}

    return Option((name,), (), read, lambda said: {name: row([wanted])})


def always(name: str, value: str) -> Option:
    """A property that is text, and always the same."""
    return Option((name,), (), lambda properties: {}, lambda said: {name: value})


def row(values: Sequence[Any]) -> NDArray[Any]:
    """A row of numbers, as MATLAB has them."""
    return np.asarray([values], np.float64)


def _numbers(properties: Properties, name: str) -> NDArray[Any] | None:
    value = properties.get(name)
    return None if isinstance(value, str) else value


def per_side(name: str, config: str, axes: int, default: int | None = None) -> Option:
    """A property of one number for each spatial axis, or of one for all; `default` is MATLAB's where it has none."""

    def read(properties: Properties) -> Config:
        value = _numbers(properties, name)
        if value is None:
            return {} if default is None else {config: default}
        whole = [int(n) for n in value.ravel()]
        return {config: whole[0] if len(set(whole)) == 1 else whole}

    return Option((name,), (config,), read, lambda said: {name: row(per_axis(said[config], axes))})


def margins(kind: str, axes: int, modes: Mapping[str, str]) -> Option:
    """`PaddingMode`, `PaddingSize` and `PaddingValue` (`kind` is Padding), or `CroppingMode` and `CroppingSize`.

    The sizes are `[left right]` along one axis, `[top bottom left right]` along two and `[top left front; bottom right
    back]` along three.
    """
    mode, size, value = f"{kind}Mode", f"{kind}Size", f"{kind}Value"

    def read(properties: Properties) -> Config:
        said = properties.get(mode)
        filled = properties.get(value, np.zeros(1))
        if isinstance(said, str) and said != "manual":
            if said not in modes:
                raise Unsupported(f"{mode} is {said!r}, which the canonical layer cannot be")
            return {"padding": modes[said]}
        sizes = _numbers(properties, size)
        if sizes is None or not sizes.any():
            return {} if sizes is None else {"padding": "valid"}
        if value in _ZEROS and (isinstance(filled, str) or np.any(filled != 0)):
            raise Unsupported(f"{value} is {filled if isinstance(filled, str) else filled.ravel()[0]}, and not 0")
        return {"padding": _pairs(sizes, size, axes)}

    def write(said: Config) -> Properties:
        padding = said["padding"]
        words = {canonical: word for word, canonical in modes.items()}
        if isinstance(padding, str) and padding != "valid":
            if padding not in words:
                raise Unsupported(f"MATLAB's {mode} cannot be {padding!r}: it pads the odd element after")
            return {mode: words[padding]}
        pairs = np.zeros((axes, 2)) if padding == "valid" else np.asarray(padding, np.float64)
        return {mode: "manual", size: pairs.T if axes == 3 else pairs.reshape(1, -1)}

    return Option((mode, size, value), ("padding",), read, write)


_ZEROS = ("PaddingValue",)


def _pairs(sizes: NDArray[Any], name: str, axes: int) -> list[list[int]]:
    if sizes.size == 1:
        return [[int(sizes.item())] * 2] * axes
    if axes == 3 and sizes.shape == (2, 3):
        sides = sizes.T
    elif axes != 3 and sizes.size == 2 * axes:
        sides = sizes.reshape(axes, 2)
    elif sizes.size == axes:  # the same on both sides, as `Cropping` had it
        sides = np.stack([sizes.ravel()] * 2, axis=1)
    else:
        raise Unsupported(f"{name} has {sizes.size} numbers, where {axes} axes need {2 * axes}")
    return [[int(before), int(after)] for before, after in sides]


def averaged(name: str = "PaddingValue") -> Option:
    """What an average pool counts: its padding of zeros (0, MATLAB's default), or only what is there ("mean")."""

    def read(properties: Properties) -> Config:
        value = properties.get(name, np.zeros(1))
        return {"count_include_pad": value != "mean" if isinstance(value, str) else True}

    return Option(
        (name,), ("count_include_pad",), read, lambda said: {} if said["count_include_pad"] else {name: "mean"}
    )
