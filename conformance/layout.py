"""Weight layouts, declared: one pattern per framework parameter, from which both directions follow.

A pattern is einops notation from the canonical weight to the framework's parameter. Examples:

    Parameter("weight", "kernel", "in out -> out in")
    Parameter("in_proj_weight", "query_kernel key_kernel value_kernel", "part channel hdim -> (part hdim) channel")
    Parameter("W", "kernel", "in (gate unit) -> 1 (gate unit) in", order={"gate": (0, 3, 1, 2)})
    Parameter("bias_hh_l0", "bias", "unit -> unit", addend=True)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Parameter:
    """How one parameter of a framework holds one or more canonical weights.

    `weights` are canonical names, separated by spaces; several are stacked along a leading axis `part`.
    `order` maps an axis of the pattern to the canonical positions in the framework's order: with
    `{"gate": (0, 3, 1, 2)}` the framework's second gate is the canonical fourth. `addend` says that the
    framework adds this parameter to another that holds the same weight: it is written as zeros, and
    added when read.
    """

    name: str
    weights: str
    pattern: str
    order: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    addend: bool = False

    @property
    def names(self) -> list[str]:
        """The canonical weights that the parameter holds."""
        return self.weights.split()

    def write(self, weights: Mapping[str, NDArray[Any]], **sizes: int) -> NDArray[Any]:
        """The framework's array, from canonical `weights`; `sizes` are axis sizes that shapes do not tell."""
        from einops import rearrange

        parts = [weights[n] for n in self.names]
        array = np.stack(parts) if len(parts) > 1 else parts[0]
        if self.addend:
            array = np.zeros_like(array)
        known = {**sizes, **{axis: len(order) for axis, order in self.order.items()}}
        left, right = (side.strip() for side in self.pattern.split("->"))
        return _rearrange(rearrange, array, left, right, self.order, known)

    def read(self, array: NDArray[Any], **sizes: int) -> dict[str, NDArray[Any]]:
        """The canonical weights, from the framework's `array`: the exact inverse of `write`."""
        from einops import rearrange

        names = self.names
        known = {**sizes, **{axis: len(order) for axis, order in self.order.items()}}
        if len(names) > 1:
            known["part"] = len(names)
        inverse = {axis: tuple(int(i) for i in np.argsort(order)) for axis, order in self.order.items()}
        left, right = (side.strip() for side in self.pattern.split("->"))
        whole = _rearrange(rearrange, array, right, left, inverse, known)
        return dict(zip(names, whole, strict=True)) if len(names) > 1 else {names[0]: whole}


def _rearrange(
    rearrange: Any,
    array: NDArray[Any],
    source: str,
    target: str,
    order: Mapping[str, tuple[int, ...]],
    sizes: Mapping[str, int],
) -> NDArray[Any]:
    words = source.replace("(", " ").replace(")", " ").split()
    flat = " ".join(words)
    used = {axis: size for axis, size in sizes.items() if axis in words}
    array = rearrange(array, f"{source} -> {flat}", **used)
    for axis, positions in order.items():
        array = np.take(array, positions, axis=words.index(axis))
    # A copy: a framework that changes its parameter in place must not change the canonical weight.
    return np.array(rearrange(array, f"{flat} -> {target}", **used), order="C")


def write(
    parameters: Iterable[Parameter], weights: Mapping[str, NDArray[Any]], **sizes: int
) -> dict[str, NDArray[Any]]:
    """Every framework parameter whose canonical weights are all among `weights`."""
    return {p.name: p.write(weights, **sizes) for p in parameters if all(n in weights for n in p.names)}


def read(parameters: Iterable[Parameter], arrays: Mapping[str, NDArray[Any]], **sizes: int) -> dict[str, NDArray[Any]]:
    """The canonical weights that the framework's `arrays` hold. Addends are summed."""
    weights: dict[str, NDArray[Any]] = {}
    for p in parameters:
        if p.name not in arrays:
            continue
        for name, value in p.read(arrays[p.name], **sizes).items():
            weights[name] = weights[name] + value if name in weights else value
    return weights
