"""Keras layers that are met in users' models only: what they compute has another subject of Keras already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conformance.errors import Unsupported
from conformance_adapters.attention_mask import four_axes
from conformance_adapters.keras_subject import KerasSubject, to_numpy


class Attention(KerasSubject):
    """`keras.layers.Attention`: one head, no projections, unscaled unless it has learned a scale."""

    name = "keras.layers.Attention"
    layer = "scaled_dot_product_attention"

    @staticmethod
    def read_config(layer: Any) -> dict[str, Any]:
        """The canonical config. Raises Unsupported for additive scores."""
        made = layer.get_config()
        if made["score_mode"] != "dot":
            raise Unsupported(
                f"keras.layers.Attention with score_mode={made['score_mode']!r}: it adds, as additive attention"
            )
        return {"scale": float(to_numpy(layer.scale.value)) if made["use_scale"] else 1.0}

    @staticmethod
    def called_with(given: Mapping[str, Any]) -> dict[str, Any]:
        """The canonical inputs of a call: an axis of one head, the key named, the value's mask as one of keys."""
        from keras import ops

        query, value, *key = given["inputs"]
        tensors = {"query": query, "key": key[0] if key else value, "value": value}
        made = {n: ops.expand_dims(t, 1) for n, t in tensors.items()}
        masks = given["mask"] or [getattr(t, "_keras_mask", None) for t in given["inputs"]]
        if masks[0] is not None:
            raise Unsupported("keras.layers.Attention called with a mask of queries, whose output it blanks")
        if masks[1] is not None:
            made["mask"] = ops.cast(masks[1], "bool")[:, None, None, :]
        return made

    def __call__(self) -> Any:
        """The context, `batch head query vdim`."""
        from keras import ops

        query, value, key = (self.given[n] for n in ("query", "value", "key"))
        if query.shape[1] != 1:
            raise Unsupported(f"{self.name} has one head, not {query.shape[1]}")
        output = self.instance(
            [query[:, 0], value[:, 0], key[:, 0]],
            mask=self.mask(),
            use_causal_mask=self.request.config.get("causal") == "top-left",
            training=False,
        )
        return ops.expand_dims(output, 1)

    def mask(self) -> Any:
        """What the layer takes: a mask of queries (none) and one of keys."""
        mask = self.request.inputs.get("mask")
        if mask is None:
            return None
        batch, key = self.given["query"].shape[0], self.given["key"].shape[2]
        whole = four_axes(mask, batch, key)
        if mask.dtype != bool or whole.shape[1:3] != (1, 1):
            raise Unsupported(f"{self.name} takes a bool mask of keys only")
        return [None, self.tensor(whole[:, 0, 0].repeat(batch // len(whole), axis=0))]


class Activation(KerasSubject):
    """`keras.layers.Activation` of a function that is a canonical layer."""

    name = "keras.layers.Activation"

    def __call__(self) -> Any:
        """What the activation gives."""
        return self.instance(self.given["x"])


class GeluActivation(Activation):
    """`keras.layers.Activation("gelu")`, which is the exact form."""

    layer = "gelu"


class SoftmaxActivation(Activation):
    """`keras.layers.Activation("softmax")`, along the last axis."""

    layer = "softmax"
