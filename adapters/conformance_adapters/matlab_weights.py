"""The learnable parameters of MATLAB's layers, to the canonical layout and from it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.errors import ConformanceError, Unsupported
from conformance.layout import Parameter
from conformance_adapters.matlab_axes import INPUT, channels_of, times
from conformance_adapters.matlab_layers import matlab_layer

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GATES = {"lstm": 4, "gru": 3}


def matlab_arrays(
    layer: str, config: Mapping[str, Any], weights: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """MATLAB's properties, from canonical `weights`. Vectors are columns (in a convolution, 1 x 1 x out).

    Raises Unsupported where MATLAB's layer cannot hold them.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for prefix, part, own in parts(layer, config):
        given = {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}
        made = matlab_layer(part, own, given)
        if part == "prelu" and given["slope"].ndim != 1:
            raise Unsupported(f"slopes of {times(given['slope'].shape)} are neither one number nor one per channel")
        if part == "gru" and "recurrent_bias" in given:
            given.setdefault("bias", np.zeros_like(given["recurrent_bias"]))
        for p in made.parameters:
            if all(name in given for name in p.names):
                arrays[prefix + p.name] = p.write(given, **_known(own, given))
    return arrays


def canonical_weights(
    layer: str,
    config: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    where: str,
    letters: str | None = None,
) -> dict[str, NDArray[Any]]:
    """The canonical weights, from MATLAB's properties in `arrays` (of the file `where`, for messages).

    `letters` is the format of the recorded input. Raises ConformanceError where one is missing or its size contradicts
    another's, the input's or the config, and Unsupported where MATLAB has no such layer.
    """
    from conformance.layers import get_layer

    weights: dict[str, NDArray[Any]] = {}
    for number, (prefix, part, own) in enumerate(parts(layer, config)):
        there = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix) and a.size}
        if number == 0 and INPUT in arrays:
            there[INPUT] = arrays[INPUT]
        if not get_layer(part, own).weights:
            continue
        made = matlab_layer(part, own, ["recurrent_bias"] if part == "gru" and _doubled(there) else ())
        sizes, definition = _Sizes(where, prefix, own), get_layer(part, own)
        if number == 0 and INPUT in arrays and part not in _NO_CHANNELS and own.get("groups", 1) == 1:
            sizes.axes["channel"] = (channels_of(part, next(iter(definition.inputs.values())), there, letters), INPUT)
        for p in made.parameters:
            array = there.get(p.name)
            if array is not None:
                weights |= {prefix + n: w for n, w in p.read(sizes.fit(p, array), **_known(own)).items()}
            elif any(name in definition.weights for name in p.names):  # it may not be absent
                raise ConformanceError(
                    f"{where}: there is no {prefix + p.name!r} ({sizes.wanted(p)}), which {part} needs"
                )
        sizes.check(part)
    return weights


_NO_CHANNELS = ("embedding", "prelu")


def _doubled(arrays: Mapping[str, NDArray[Any]]) -> bool:
    """Whether there are biases of the state too."""
    return "Bias" in arrays and "InputWeights" in arrays and arrays["Bias"].size == 2 * len(arrays["InputWeights"])


def parts(layer: str, config: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Prefix, layer and config of each part; of a plain layer, of itself."""
    if layer != "sequential":
        yield "", layer, config
        return
    for part in config["parts"]:
        yield f"{part['name']}.", part["layer"], part.get("config", {})


def _known(config: Mapping[str, Any], weights: Mapping[str, NDArray[Any]] | None = None) -> dict[str, int]:
    """The number of groups: of a depthwise convolution, that of its channels, which its arrays tell by themselves."""
    if "groups" in config:
        return {"group": config["groups"]}
    kernel = (weights or {}).get("kernel")
    return {} if kernel is None or kernel.ndim != 4 else {"group": kernel.shape[2]}


class _Sizes:
    """The axis sizes that a layer's properties agree on, and where each follows from."""

    def __init__(self, where: str, prefix: str, config: Mapping[str, Any]) -> None:
        self.where, self.prefix, self.config = where, prefix, config
        self.axes: dict[str, tuple[int, str]] = {}

    def fit(self, parameter: Parameter, array: NDArray[Any]) -> NDArray[Any]:
        """`array` with the axes of its pattern: trailing ones that MATLAB dropped are put back, and a
        vector is turned to where the pattern has it."""
        words = _words(parameter)
        shape = list(array.shape)
        if len([w for w in words if w != "1"]) == 1 and prod(shape) == max(shape):
            shape = [1 if w == "1" else prod(shape) for w in words]
        else:
            shape += [1] * (len(words) - len(shape))
        name = self.prefix + parameter.name
        expected = [1 if w == "1" else self.axes.get(w, (size,))[0] for w, size in zip(words, shape, strict=False)]
        if len(shape) != len(words) or shape != expected:
            raise ConformanceError(
                f"{self.where}: {name!r} is {times(array.shape)}, but {self.wanted(parameter)} is needed"
            )
        for word, size in zip(words, shape, strict=True):
            if word != "1":
                self.axes.setdefault(word, (size, name))
        return array.reshape(shape)

    def wanted(self, parameter: Parameter) -> str:
        """The size that a property must have, and where that follows from: `48x10 (hdim = 48 from 'QueryWeights')`."""
        words = _words(parameter)
        size = times(str(self.axes[w][0]) if w in self.axes else w for w in words)
        reasons = [f"{w} = {self.axes[w][0]} from {self.axes[w][1]!r}" for w in words if w in self.axes]
        return f"{size} ({', '.join(reasons)})" if reasons else size

    def check(self, layer: str) -> None:
        """Raise ConformanceError where the sizes do not fit the heads or gates."""
        if layer == "multi_head_attention":
            heads = self.config.get("heads", 1)
            for axis in ("hdim", "hvdim"):
                size, name = self.axes[axis]
                if size % heads:
                    raise ConformanceError(
                        f"{self.where}: {name!r} has {size} rows, which {heads} heads do not divide; check `heads`"
                    )
        if layer in _GATES and "unit" in self.axes:
            self.check_gates(_GATES[layer])

    def check_gates(self, gates: int) -> None:
        """Raise ConformanceError where there are not so many for each unit; in two directions, twice as many."""
        (unit, recurrent), both = self.axes["unit"], "(part gates)"
        stacked = both in self.axes and self.axes[both][1].endswith("Weights")
        rows, name = self.axes[both if stacked else "gates"]
        each = gates * (2 if stacked else 1)
        if rows != each * unit:
            raise ConformanceError(
                f"{self.where}: {name!r} has {rows} rows, but {unit} units (from {recurrent!r}) need {each} x {unit}"
            )


def _words(parameter: Parameter) -> list[str]:
    """The axes of MATLAB's array; several that are one stay together."""
    return re.findall(r"\([^)]*\)|\S+", parameter.pattern.split("->")[1])
