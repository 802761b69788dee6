"""Elementwise functions, and how far frameworks' implementations of them may be off.

An error bound is `k u |f| + a u`, in unit roundoffs u of the format in which the function is evaluated.
k and a are one deviation, of which a tolerance is eight; they cover the largest error that
`python benchmarks/elementwise_errors.py` measured in NumPy, PyTorch, JAX, TensorFlow and ONNX Runtime,
for float32 and float64. Library sigmoids and error functions are off by millions of ulps in their tails,
yet by little absolutely: that is what `a` is for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Function = Callable[..., Any]


@dataclass(frozen=True)
class Elementwise:
    """A scalar function with its error constants, applied to every element.

    `function` computes in float64. `relative` and `absolute` are k and a. Arguments below `low` are
    outside the domain and are taken as `low` when a deviation is followed through the function.
    `cheap` says that it takes less to compute it twice than to keep it. `secant(x, deviation, multiple)` is
    what becomes of a deviation, where there is a shorter way to it than by values of the function.
    """

    name: str
    function: Function
    relative: float = 1.0
    absolute: float = 0.0
    low: float = -np.inf
    cheap: bool = False
    secant: Function | None = None

    def __call__(self, x: Any) -> Any:
        """The function of `x`, an ndarray or a rounding-aware array of any shape."""
        apply = getattr(x, "apply", None)
        return self.function(x) if apply is None else apply(self)


def _erf(x: NDArray[Any]) -> NDArray[Any]:
    from scipy.special import erf  # imported late: SciPy doubles the start-up

    return np.asarray(erf(x))


def _sigmoid(x: NDArray[Any]) -> NDArray[Any]:
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, e) / (1 + e))


def _softplus(x: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def _times(gate: Function) -> Function:
    """x gate(x): NaN at minus infinity, as the formula has it."""

    def function(x: NDArray[Any]) -> NDArray[Any]:
        with np.errstate(invalid="ignore"):
            return np.asarray(x * gate(x))

    return function


def _hard_sigmoid(x: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(np.clip(x / 6 + 0.5, 0, 1))


def _hard_sigmoid_fifth(x: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(np.clip(0.2 * x + 0.5, 0, 1))


def _secant_of_square(x: NDArray[Any], deviation: NDArray[Any], multiple: int) -> NDArray[Any]:
    """((abs(x) + step)^2 - x^2) / multiple."""
    far = np.asarray(np.abs(x))
    far *= 2
    far += deviation * multiple
    far *= deviation
    return far


def _to_bits(bits: int, rounding: Callable[[NDArray[Any]], NDArray[Any]] = np.rint) -> Function:
    """Rounding to `bits` significant bits; halves go to the even neighbour."""

    def function(x: NDArray[Any]) -> NDArray[Any]:
        fraction, exponent = np.frexp(x)
        return np.asarray(np.ldexp(rounding(fraction * 2.0**bits) * 2.0**-bits, exponent))

    return function


erf = Elementwise("erf", _erf, 1.0)
sigmoid = Elementwise("sigmoid", _sigmoid, 1.2, 0.4)
hard_sigmoid = Elementwise("hard_sigmoid", _hard_sigmoid, 1.0, 0.13)
hard_sigmoid_fifth = Elementwise("hard_sigmoid_fifth", _hard_sigmoid_fifth, 1.0, 0.13)
softplus = Elementwise("softplus", _softplus, 1.0)
softplus_to_20 = Elementwise("softplus_to_20", lambda x: np.where(x > 20, x, _softplus(x)), 1.0)
silu = Elementwise("silu", _times(_sigmoid), 1.2, 5.0)  # what a sigmoid's tail is off by, 16 times
hard_silu = Elementwise("hard_silu", _times(_hard_sigmoid), 1.0, 0.13)
relu = Elementwise("relu", lambda x: np.maximum(x, 0), 0.0)
relu6 = Elementwise("relu6", lambda x: np.minimum(np.maximum(x, 0), 6), 0.0)

# Casts, as of a product's operands. They add no error of their own: a value whose uncertainty spans a boundary
# between two results has the distance of the two as its spread, and any other has none.
to_bfloat16 = Elementwise("to_bfloat16", _to_bits(8), 0.0)
to_tf32 = Elementwise("to_tf32", _to_bits(11), 0.0)
cut_to_tf32 = Elementwise("cut_to_tf32", _to_bits(11, np.trunc), 0.0)

# NumPy's own functions, reached through its protocols.
UFUNCS: dict[np.ufunc, Elementwise] = {
    np.exp: Elementwise("exp", np.exp, 0.6),
    np.expm1: Elementwise("expm1", np.expm1, 1.0, 0.13),  # as in ELU, for which some libraries take exp(x) - 1
    np.log: Elementwise("log", np.log, 0.7, low=0.0),
    np.sqrt: Elementwise("sqrt", np.sqrt, 0.5, low=0.0),
    np.square: Elementwise("square", np.square, 1.0, cheap=True, secant=_secant_of_square),
    np.tanh: Elementwise("tanh", np.tanh, 1.2),
    np.sin: Elementwise("sin", np.sin, 1.0, 0.7),
    np.cos: Elementwise("cos", np.cos, 1.0, 0.7),
    np.absolute: Elementwise("absolute", np.absolute, 0.0),
}
