"""A grid: for a layer, the choices that a user has, and what a choice makes: a config, inputs and weights."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arrays = dict[str, "NDArray[Any]"]
Choice = Mapping[str, Any]
Made = tuple[dict[str, Any], Arrays]
"""A config, and arrays by `inputs.NAME` and `weights.NAME`."""

EXTREMES = ("usual", "mean", "tiny", "huge", "zeros", "nan", "inf")
MEAN = 300.0  # of which the square has no room for a variance of 1 in float16, and little in float32
TINY = 2.0**-136  # float32's subnormal numbers
HUGE = 2.0**100  # whose squares float32 does not hold


@dataclass(frozen=True)
class Grid:
    """The choices of one layer by name, and `make`: what one of each gives, or None where that is no such layer."""

    layer: str
    choices: Mapping[str, Sequence[Any]]
    make: Callable[[np.random.Generator, Choice], Made | None]

    def drawn(self, most: int, seed: int) -> Iterator[tuple[str, Made]]:
        """At most so many of the product of the choices, each with its name, in an order that the seed settles.

        Every value of every choice comes as early as it can: what is drawn next is, of a few at random, the one with
        the most values that were not seen yet.
        """
        rng = np.random.default_rng([seed, zlib.crc32(self.layer.encode())])
        total = math.prod(len(values) for values in self.choices.values())
        seen: set[tuple[str, Any]] = set()
        met: set[int] = set()
        while len(met) < total and most > 0:
            numbers = [int(n) for n in rng.integers(0, total, 40) if int(n) not in met]
            if total <= 400:
                numbers = [n for n in range(total) if n not in met]
            if not numbers:
                return
            numbers.sort(key=lambda n: -len(set(self._at(n).items()) - seen))
            number = numbers[0]
            met.add(number)
            choice = self._at(number)
            name = ",".join(f"{key}={_said(value)}" for key, value in choice.items())
            made = self.make(np.random.default_rng([seed, zlib.crc32(f"{self.layer}/{name}".encode())]), choice)
            if made is not None:
                seen |= set(choice.items())
                most -= 1
                yield f"{self.layer}/{name}", made

    def _at(self, number: int) -> dict[str, Any]:
        choice = {}
        for key, values in self.choices.items():
            number, index = divmod(number, len(values))
            choice[key] = values[index]
        return choice


def _said(value: Any) -> str:
    if isinstance(value, tuple):
        return "x".join(map(_said, value)) or "single"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return str(value)


def values(rng: np.random.Generator, kind: str, shape: Sequence[int]) -> NDArray[np.float64]:
    """Numbers of one of the kinds `EXTREMES`: a NaN or infinity stands among usual ones, at a place drawn."""
    made = np.asarray(rng.normal(size=shape))
    if kind == "mean":
        made += MEAN
    elif kind in ("tiny", "huge"):
        made *= TINY if kind == "tiny" else HUGE
    elif kind == "zeros":
        made *= 0.0
    elif kind in ("nan", "inf") and made.size:
        place = int(rng.integers(made.size))
        made.flat[place] = np.nan if kind == "nan" else np.inf * (-1) ** place
    return made


def kernel(rng: np.random.Generator, *shape: int) -> NDArray[np.float64]:
    """Weights that leave the spread of their inputs about as it was."""
    return rng.normal(size=shape) / max(1.0, math.prod(shape[:-1])) ** 0.5
