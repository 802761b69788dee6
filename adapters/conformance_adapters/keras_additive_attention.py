"""Keras's additive attention, which has no projections, as a subject; its masks are apart for queries and for values.

What it masks it fills with a large finite number, so that a row in which every key is masked has weights; the output of
a query that is masked is zero whatever they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.layout import Parameter
from conformance_adapters.attention_mask import causal_mask, is_padding
from conformance_adapters.keras_subject import KerasSubject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.trace import Request

Masks = tuple["NDArray[Any] | None", "NDArray[Any] | None", bool]

_QUERY_MASK, _VALUE_MASK = "query_mask", "value_mask"  # what is made of the mask for a call, beside it in `given`


class AdditiveAttention(KerasSubject):
    """`keras.layers.AdditiveAttention`."""

    name = "keras.layers.AdditiveAttention"
    layer = "additive_attention"
    inputs = ("query", "value", "key", "mask")
    weight_names: tuple[str, ...] = ("scale",)
    parameters = (Parameter("scale", "scale", "dim -> dim"),)

    @classmethod
    def reason(cls, request: Request) -> str | None:
        """The mask has to be made of one of queries, one of values and a causal one."""
        mask = request.inputs.get("mask")
        if mask is not None and mask.dtype != bool:
            return "takes bool masks only"
        if mask is not None and apart(mask, *_lengths(request)) is None:
            return "takes a mask of queries, one of values and a causal one, and none for each query and key"
        return None

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self.instance = self.build()
        self.instance.build([tuple(self.given[n].shape) for n in self.named()])
        self.load(self.instance, request.weights)

    def build(self) -> Any:
        """The Keras layer."""
        from keras import layers

        scaled = "scale" in self.request.weights
        return layers.AdditiveAttention(use_scale=scaled, dtype=self.request.dtype, name="additive_attention")

    def named(self) -> list[str]:
        """The inputs in the order in which Keras lists them."""
        return [n for n in ("query", "value", "key") if n in self.given]

    def weights(self) -> dict[str, NDArray[Any]]:
        """The weight of each feature, read back out of the layer."""
        return self.read(self.instance)

    def prepare(self) -> None:
        """The two masks, as tensors, and whether it is causal besides."""
        if _VALUE_MASK in self.given:
            return
        mask = self.request.inputs.get("mask")
        queries, values, self.causal = (mask is not None and apart(mask, *_lengths(self.request))) or (
            None,
            None,
            False,
        )
        for name, found in ((_QUERY_MASK, queries), (_VALUE_MASK, values)):
            self.given[name] = None if found is None else self.tensor(found)

    def __call__(self) -> Any:
        """The context, `batch query vdim`."""
        self.prepare()
        queries, values = self.given[_QUERY_MASK], self.given[_VALUE_MASK]
        return self.instance(
            [self.given[n] for n in self.named()],
            mask=None if queries is None and values is None else [queries, values],
            use_causal_mask=self.causal,
            training=False,
        )


class ConcatAttention(AdditiveAttention):
    """`keras.layers.Attention(score_mode="concat")`, whose two weights are single numbers: here they are one."""

    name = 'keras.layers.Attention(score_mode="concat")'
    weight_names = ()

    def build(self) -> Any:
        """The Keras layer."""
        from keras import layers

        return layers.Attention(score_mode="concat", dtype=self.request.dtype, name="attention")

    def load(self, layer: Any, weights: Mapping[str, NDArray[Any]], **sizes: int) -> None:
        """Its own first value of the weight that it has is one."""


def apart(mask: NDArray[Any], batch: int, queries: int, keys: int) -> Masks | None:
    """A bool mask as one of queries (`batch query`), one of values (`batch key`), and whether query i sees keys up to i
    only; None where it is not made of these."""
    if is_padding(mask, batch, keys):
        return None, mask, False
    plain = mask[:, 0] if mask.ndim == 4 and mask.shape[1] == 1 else mask
    if plain.ndim > 3:
        return None
    whole = np.broadcast_to(plain, (batch, queries, keys))
    rows, columns = whole.any(axis=2), whole.any(axis=1)
    for causal in (False, True):
        allowed = rows[:, :, None] & columns[:, None]
        if causal:
            allowed &= causal_mask("top-left", queries, keys)
        if np.array_equal(allowed, whole):
            return None if rows.all() else rows, None if columns.all() else columns, causal
    return None


def called_with(given: Mapping[str, Any]) -> dict[str, Any]:
    """The canonical inputs of a call, still tensors: what the masks and the causal flag forbid is one mask."""
    from keras import ops

    query, value, *key = given["inputs"]
    made = {"query": query, "value": value, **({"key": key[0]} if key and key[0] is not value else {})}
    queries, values, *_ = given["mask"] or [getattr(t, "_keras_mask", None) for t in given["inputs"]]
    if queries is None and not given["use_causal_mask"]:
        return made if values is None else {**made, "mask": ops.cast(values, "bool")}
    (batch, rows), columns = query.shape[:2], value.shape[1]
    mask = ops.ones((batch, rows, columns), "bool")
    if queries is not None:
        mask = ops.logical_and(mask, ops.cast(queries, "bool")[:, :, None])
    if values is not None:
        mask = ops.logical_and(mask, ops.cast(values, "bool")[:, None])
    if given["use_causal_mask"]:
        mask = ops.logical_and(mask, causal_mask("top-left", rows, columns))
    return {**made, "mask": mask}


def _lengths(request: Request) -> tuple[int, int, int]:
    query, value = request.inputs["query"], request.inputs["value"]
    return query.shape[0], query.shape[1], value.shape[1]


SUBJECTS: tuple[type[KerasSubject], ...] = (AdditiveAttention, ConcatAttention)
