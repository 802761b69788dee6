"""Embedding: the rows of a table, by their numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from conformance.layer import Layer

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from conformance.array import Array, Indices


def output(
    indices: Int[Indices, ...],
    table: Float[Array, "index dim"],
    *,
    embedding_padding_index: str = "none",
    embedding_scale: str = "1",
) -> Float[Array, "... dim"]:
    where = indices.astype(np.int64) + (embedding_padding_index == "shifted")
    if where.size and where.min() < 0:
        raise IndexError(f"a table of {table.shape[0]} rows has no row {where.min()}")
    rows = np.take(table, where, axis=0)
    return rows * math.sqrt(table.shape[1]) if embedding_scale == "sqrt(dim)" else rows


embedding = Layer.define(
    "embedding",
    summary="The rows of a table whose numbers are given, counted from zero.",
    formula="output = table[indices]",
    source="Bengio, Ducharme, Vincent, Jauvin, A Neural Probabilistic Language Model (2003), section 2",
    inputs={"indices": "..."},
    weights={"table": "index dim"},
    config={},
    steps={"output": output},
)

LAYERS = {"embedding": embedding}
