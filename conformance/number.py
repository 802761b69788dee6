"""The number behind a numeric convention: solved for, and rounded to what a person would write."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EXPONENTS = range(-16, 9)
_CLOSE = 1e-3
_NEAR = 2.0


def near(
    values: Callable[[float], Any], target: NDArray[Any], tolerance: NDArray[Any], starts: tuple[int, ...]
) -> Iterator[float]:
    """The number that brings `values` to `target`, as a person may have written it; nothing where none does.

    It is near where no element is off by more than twice its tolerance: a replay decides.
    """
    exact = solved(values, target, tolerance, starts)
    for value in [] if exact is None else [exact, *written(exact)]:  # the first decides on the others
        with np.errstate(all="ignore"):
            is_near = not np.any(np.abs(np.asarray(values(value)) - target) > _NEAR * tolerance)
        if value is not exact and is_near:
            yield value
        if value is exact and not is_near:
            return


def solved(
    values: Callable[[float], NDArray[Any]], target: NDArray[Any], tolerance: NDArray[Any], starts: tuple[int, ...]
) -> float | None:
    """The positive number for which `values` is nearest to `target`, counted in tolerances; None where there is none.

    It is looked for between 1e-16 and 1e8: first among `starts` times the powers of ten, then around the best.
    """
    from scipy.optimize import minimize_scalar  # imported late: SciPy doubles the start-up

    goal = np.asarray(target, np.float64)
    finite = np.isfinite(goal)
    if not finite.any():
        return None
    size = math.sqrt(float(np.mean(np.square(goal[finite]))))
    unit = np.asarray(tolerance)[finite] + 1e-12 * size

    def distance(logarithm: float) -> float:
        with np.errstate(all="ignore"):
            off = (np.asarray(values(math.exp(logarithm)))[finite] - goal[finite]) / unit
            squares = float(np.mean(np.square(off)))
        return squares if math.isfinite(squares) else math.inf

    grid = sorted(math.log(start) + exponent * math.log(10) for exponent in _EXPONENTS for start in starts)
    distances = [distance(at) for at in grid]
    best = int(np.argmin(distances))
    if not math.isfinite(distances[best]):
        return None
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    found = minimize_scalar(distance, bounds=(low, high), method="bounded", options={"xatol": 1e-10, "maxiter": 60})
    nearest = found.x if found.fun < distances[best] else grid[best]
    return math.exp(nearest)


def written(number: float) -> Iterator[float]:
    """What a person may have written for `number`, the simplest first: a power of ten, few digits, 1/n, 1/sqrt(n)
    and sqrt(n), then more digits."""
    made: list[float] = [float(f"1e{round(math.log10(number))}")]
    made += [float(f"{number:.{digits}g}") for digits in (1, 2, 3)]
    for n, of in ((1 / number, lambda n: 1 / n), (number**-2, lambda n: 1 / math.sqrt(n)), (number**2, math.sqrt)):
        if 1 <= round(n) < 1e6 and abs(of(round(n)) - number) <= _CLOSE * number:
            made.append(of(round(n)))
    made += [float(f"{number:.{digits}g}") for digits in (4, 5, 6)]
    yield from dict.fromkeys(made)
