"""ALiBi: what attention adds to its scores in place of positions, a penalty in proportion to the distance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from conformance.array import constant
from conformance.errors import ConformanceError
from conformance.layer import Layer

if TYPE_CHECKING:
    from jaxtyping import Float

    from conformance.array import Array, Indices


def counted(name: str, value: int | None) -> int:
    """`value` as a number of heads or positions. Raises ConformanceError where it is none."""
    if not isinstance(value, int) or value < 1:
        raise ConformanceError(f"alibi needs the numbers heads, query and key in its config: {name} is {value!r}")
    return value


def powers(heads: int, choice: str) -> tuple[list[int], list[int]]:
    """For each head, p and n of its slope 2**(-8 p / n). Raises ConformanceError for an unknown choice."""
    if choice == "geometric":
        return list(range(1, heads + 1)), [heads] * heads
    if choice not in ("interleaved", "from-one"):
        raise ConformanceError(f"unknown slopes {choice!r}; they can be 'interleaved', 'geometric' or 'from-one'")
    known = 1 << (heads.bit_length() - 1)  # the greatest power of two that is not above it
    first = 0 if choice == "from-one" else 1
    own = range(first, first + known)
    between = range(first, first + 2 * known)[::2][: heads - known]  # every other slope of twice as many heads
    return [*own, *between], [known] * known + [2 * known] * len(between)


def slopes(heads: int | None, one: Float[Array, ""], *, alibi_slopes: str = "interleaved") -> Float[Array, " head"]:
    multiples, of = (np.array(numbers) for numbers in powers(counted("heads", heads), alibi_slopes))
    # As powers of 2**(-8 / n) they repeat the rounding of that number.
    return constant(2.0 ** (-8 * multiples / of), like=one, roundings=1.0 + multiples)


def distances(queries: int, keys: int, choice: str, alignment: str) -> Indices:
    """What a slope is multiplied by, `query key`. Raises ConformanceError for an unknown choice."""
    offset = keys - queries if alignment == "bottom-right" else 0
    i, j = np.arange(queries)[:, None] + offset, np.arange(keys)[None, :]
    made = {
        "absolute": -np.abs(i - j),
        "signed": j - i,
        "sign-reversed": i - j,
        "key-position": j + 0 * i,
        "key-from-last": j - (keys - 1) + 0 * i,
    }
    if choice not in made:
        raise ConformanceError(f"unknown distance {choice!r}; it can be {', '.join(made)}")
    return made[choice]


def bias(
    slopes: Float[Array, " head"],
    query: int | None,
    key: int | None,
    *,
    alibi_distance: str = "absolute",
    alibi_alignment: str = "top-left",
) -> Float[Array, "head query key"]:
    queries, keys = counted("query", query), counted("key", key)
    return slopes[:, None, None] * distances(queries, keys, alibi_distance, alibi_alignment)


alibi = Layer.define(
    "alibi",
    summary="A bias for the scores of each head: the further a key is from a query, the lower.",
    formula="bias[h, i, j] = -slopes[h] * |i - j|, slopes[h] = 2**(-8 (h + 1) / heads) where heads is a power of two; "
    "else those of the power below, and every other one of the power above",
    source="Press, Smith, Lewis, Train Short, Test Long (2022), section 3, arXiv:2108.12409; for no power of "
    "two, its reference implementation; keys after the query: ofirpress/attention_with_linear_biases#5",
    inputs={},
    weights={},
    config={"heads": None, "query": None, "key": None},
    steps={"slopes": slopes, "bias": bias},
)

LAYERS = {"alibi": alibi}
