"""Products in a coarser arithmetic than the claimed one: the convention `arithmetic.precision`.

Its value may have a form after a colon, which says where frameworks cast; diagnosis reports what is before it.

    tf32                nearest tf32 of both operands; the sum in the claimed precision
    tf32:cut            the operands' lower bits masked away
    bfloat16            operands and result are bfloat16, as in autocast; a bias is added afterwards
    bfloat16:fused      the bias too, and one rounding of the whole: `addmm` in autocast
    bfloat16:operands   operands only, as oneDNN's fast math and XLA's default precision on TPU have it
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.elementwise import cut_to_tf32, to_bfloat16, to_tf32

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.array import Array
    from conformance.elementwise import Elementwise

CLAIMED = "<dtype>"

_OPERANDS: dict[str, Elementwise] = {
    "tf32": to_tf32,
    "tf32:cut": cut_to_tf32,
    "bfloat16": to_bfloat16,
    "bfloat16:fused": to_bfloat16,
    "bfloat16:operands": to_bfloat16,
}


def operand(x: Array, precision: str) -> Array:
    """`x` as a product in `precision` takes it. Raises ValueError for an unknown precision."""
    if precision == CLAIMED:
        return x
    if precision not in _OPERANDS:
        raise ValueError(f"the precision {precision!r} cannot be emulated")
    cast: Array = _OPERANDS[precision](x)
    return cast


def result(x: Array, precision: str) -> Array:
    """`x`, what a product (and the like) gives, as `precision` stores it."""
    stored: Array = to_bfloat16(x) if precision == "bfloat16" else x
    return stored


def product(a: Array, b: Array, precision: str) -> Array:
    """`a @ b`, in `precision`."""
    return result(operand(a, precision) @ operand(b, precision), precision)


def bilinear(
    compute: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]], a: Array, b: Array, terms: int, precision: str
) -> Array:
    """What `compute` makes of two arrays, in `precision`: each element is a sum of `terms` products of theirs."""
    a, b = operand(a, precision), operand(b, precision)
    rounded: Any = next((x for x in (a, b) if not isinstance(x, np.ndarray)), None)
    made: Array = compute(a, b) if rounded is None else rounded.bilinear(compute, a, b, terms)
    return result(made, precision)


def with_bias(product: Array, bias: Array | None, precision: str) -> Array:
    """`product + bias`; the fused form rounds only this sum."""
    if precision != "bfloat16:fused":
        return product if bias is None else product + bias
    rounded: Array = to_bfloat16(product if bias is None else product + to_bfloat16(bias))
    return rounded
