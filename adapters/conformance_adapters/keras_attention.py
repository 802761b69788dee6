"""Keras's attention layers, and its attention function, as subjects.

What Keras masks it fills with a large finite number, so that a row in which every key is masked has uniform weights.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformance.layout import Parameter
from conformance_adapters.attention_mask import causal_mask, four_axes, joined
from conformance_adapters.keras_subject import KerasSubject, to_numpy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.trace import Request

ATTENTION_INPUTS = ("query_input", "key_input", "value_input", "mask")
CAUSAL = (None, False, "top-left", "bottom-right")
PROJECTIONS = ("query", "key", "value", "output")
_MASK, _BIAS = "attention_mask", "attention_bias"  # what is made of the inputs for a call, beside them in `given`
ATTENTION_WEIGHTS = tuple(f"{p}_{kind}" for p in PROJECTIONS for kind in ("kernel", "bias"))


class AttentionLayer(KerasSubject):
    """What Keras's two attention layers have in common: projections per head, a bool mask, scale 1/sqrt(head_dim)."""

    layer = "multi_head_attention"
    inputs = ATTENTION_INPUTS
    weight_names = ATTENTION_WEIGHTS
    options: ClassVar = {"heads": None, "kv_heads": None, "scale": None, "causal": CAUSAL, "window": None}

    @classmethod
    def reason(cls, request: Request) -> str | None:
        """The scale is fixed, and a float mask would be read as a bool one."""
        config, weights = request.config, request.weights
        scale = config["scale"]
        if scale is not None and not math.isclose(scale, 1 / math.sqrt(head_dim(request)), rel_tol=1e-15):
            return f"scales by 1/sqrt(head_dim), not by {scale!r}"
        window = config["window"]
        if window is not None and (not isinstance(window, int) or config["causal"] == "bottom-right"):
            return f"has a symmetric window around the query's own position only, not {window!r}"
        mask = request.inputs.get("mask")
        if mask is not None and mask.dtype != bool:
            return "takes a bool mask only"
        if "output_kernel" not in weights and "output_bias" in weights:
            return "has no output bias without an output projection"
        return backend_reason(cls.backend, head_dim(request), head_dim(request, "value"), kv_repeated=False)

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        config, weights = request.config, request.weights
        self.heads, self.kv_heads = config["heads"], config["kv_heads"] or config["heads"]
        # The layer always projects its output: an identity stands for the absence of a projection, exactly.
        self.output_kernel = weights.get("output_kernel", np.eye(self.merged_width(request)))
        self.instance = self.build()
        query, value, key = (self.input_named(n) for n in ("query_input", "value_input", "key_input"))
        self.instance.build(tuple(query.shape), tuple(value.shape), tuple(key.shape))
        self.load(self.instance, {**weights, "output_kernel": self.output_kernel}, **self.sizes())

    @staticmethod
    def merged_width(request: Request) -> int:
        """The width of the heads' contexts side by side."""
        return head_dim(request, "value") * int(request.config["heads"])

    def build(self) -> Any:
        """The Keras layer."""
        raise NotImplementedError

    def use_bias(self) -> bool:
        """Whether any projection has a bias: the layer has all or none."""
        return any(name.endswith("_bias") for name in self.request.weights)

    def sliding_window(self) -> int | None:
        """The layer counts a query's own position; the canonical window is the reach to either side."""
        window = self.request.config["window"]
        return None if window is None else window + 1

    def sizes(self) -> dict[str, int]:
        """The sizes that the weights' shapes do not tell."""
        return {"head": self.heads, "kvhead": self.kv_heads}

    def input_named(self, name: str) -> Any:
        """An input, or the one that stands in for it."""
        if name == "query_input" or name in self.given:
            return self.given[name]
        return self.input_named("query_input" if name == "key_input" else "key_input")

    def weights(self) -> dict[str, NDArray[Any]]:
        """The canonical weights, read back out of the layer."""
        return self.read(self.instance, **self.sizes())

    def prepare(self) -> None:
        """The mask in a shape that the layer takes: `batch query key`, or with heads where they differ in it."""
        if _MASK not in self.given:
            query, key = self.input_named("query_input"), self.input_named("key_input")
            mask = whole_mask(self.request, query.shape[0], query.shape[1], key.shape[1])
            self.given[_MASK] = None if mask is None else self.tensor(mask[:, 0] if mask.shape[1] == 1 else mask)

    def __call__(self) -> Any:
        """The output, `batch query out`."""
        self.prepare()
        return self.instance(
            self.input_named("query_input"),
            self.input_named("value_input"),
            key=self.input_named("key_input"),
            attention_mask=self.given[_MASK],
            use_causal_mask=self.request.config["causal"] == "top-left",
            training=False,
        )


class MultiHeadAttention(AttentionLayer):
    """`keras.layers.MultiHeadAttention`."""

    name = "keras.layers.MultiHeadAttention"
    parameters = (
        Parameter("query/kernel", "query_kernel", "channel (head dim) -> channel head dim"),
        Parameter("query/bias", "query_bias", "(head dim) -> head dim"),
        Parameter("key/kernel", "key_kernel", "channel (head dim) -> channel head dim"),
        Parameter("key/bias", "key_bias", "(head dim) -> head dim"),
        Parameter("value/kernel", "value_kernel", "channel (head dim) -> channel head dim"),
        Parameter("value/bias", "value_bias", "(head dim) -> head dim"),
        Parameter("attention_output/kernel", "output_kernel", "(head dim) out -> head dim out"),
        Parameter("attention_output/bias", "output_bias", "out -> out"),
    )

    @classmethod
    def reason(cls, request: Request) -> str | None:
        """Every query head has its own key head."""
        if request.config["kv_heads"] not in (None, request.config["heads"]):
            return "has as many key heads as query heads"
        return super().reason(request)

    def build(self) -> Any:
        """The Keras layer; its `key_dim` and `value_dim` are per head."""
        from keras import layers

        return layers.MultiHeadAttention(
            self.heads,
            head_dim(self.request),
            value_dim=head_dim(self.request, "value"),
            use_bias=self.use_bias(),
            sliding_window=self.sliding_window(),
            output_shape=self.output_kernel.shape[1],
            dtype=self.request.dtype,
            name="multi_head_attention",
        )


class GroupQueryAttention(AttentionLayer):
    """`keras.layers.GroupQueryAttention`."""

    name = "keras.layers.GroupQueryAttention"
    parameters = (
        Parameter("query/kernel", "query_kernel", "channel (head dim) -> channel head dim"),
        Parameter("query/bias", "query_bias", "(head dim) -> head dim"),
        Parameter("key/kernel", "key_kernel", "channel (kvhead dim) -> channel kvhead dim"),
        Parameter("key/bias", "key_bias", "(kvhead dim) -> kvhead dim"),
        Parameter("value/kernel", "value_kernel", "channel (kvhead dim) -> channel kvhead dim"),
        Parameter("value/bias", "value_bias", "(kvhead dim) -> kvhead dim"),
        Parameter("attention_output/kernel", "output_kernel", "(head dim) out -> head dim out"),
        Parameter("attention_output/bias", "output_bias", "out -> out"),
    )

    @classmethod
    def reason(cls, request: Request) -> str | None:
        """It is for fewer key heads, with values as wide as keys and an output as wide as its input."""
        if request.config["kv_heads"] in (None, request.config["heads"]):
            return "keras.layers.MultiHeadAttention is the layer for as many key heads as query heads"
        if head_dim(request, "value") != head_dim(request):
            return "its values are as wide as its keys"
        output = request.weights.get("output_kernel")
        width = output.shape[1] if output is not None else cls.merged_width(request)
        if width != request.inputs["query_input"].shape[-1]:
            return "its output is as wide as its query input"
        return super().reason(request)

    def build(self) -> Any:
        """The Keras layer."""
        from keras import layers

        return layers.GroupQueryAttention(
            head_dim(self.request),
            self.heads,
            self.kv_heads,
            use_bias=self.use_bias(),
            sliding_window=self.sliding_window(),
            dtype=self.request.dtype,
            name="group_query_attention",
        )


class AttentionFunction(KerasSubject):
    """What the two forms of Keras's attention function have in common: `attend`."""

    def lengths(self) -> tuple[int, int, int]:
        """The batch size, and how many queries and keys there are."""
        raise NotImplementedError

    def prepare(self) -> None:
        """The mask with four axes, as `mask` or, where it is added, as `bias`."""
        if _MASK in self.given:
            return
        causal = self.request.config["causal"]
        mask = whole_mask(self.request, *self.lengths())
        additive = mask is not None and mask.dtype != bool
        if causal == "top-left" and additive and self.backend == "torch":
            # PyTorch's attention refuses a mask beside its causal flag, and Keras joins the two for bool masks only.
            mask = joined(mask, causal_mask("top-left", *self.lengths()[1:]))
        whole = None if mask is None else self.tensor(mask)
        self.given[_MASK], self.given[_BIAS] = (None, whole) if additive else (whole, None)

    def attend(self, query: Any, key: Any, value: Any) -> Any:
        """`keras.ops.dot_product_attention` of tensors `batch time head dim`."""
        from keras import ops

        self.prepare()
        config, mask, bias = self.request.config, self.given[_MASK], self.given[_BIAS]
        causal = config["causal"] == "top-left" and not (bias is not None and self.backend == "torch")
        named = {name: given for name, given in (("mask", mask), ("bias", bias)) if given is not None}
        named |= {"is_causal": True} if causal else {}  # not causal is its default
        return ops.dot_product_attention(query, key, value, scale=config["scale"], **named)


class DotProductAttention(AttentionFunction):
    """`keras.ops.dot_product_attention`, whose layout is `batch time head dim`."""

    name = "keras.ops.dot_product_attention"
    layer = "scaled_dot_product_attention"
    inputs = ("query", "key", "value", "mask")
    options: ClassVar = {"scale": None, "causal": CAUSAL, "kv_heads": None}

    @classmethod
    def reason(cls, request: Request) -> str | None:
        """What one of the back ends does not have."""
        query, key, value = (request.inputs[n].shape for n in ("query", "key", "value"))
        return backend_reason(cls.backend, query[-1], value[-1], kv_repeated=key[1] == 1 != query[1])

    def __call__(self) -> Any:
        """The context, `batch head query vdim`."""
        from keras import ops

        query, key, value = (ops.transpose(self.given[n], (0, 2, 1, 3)) for n in ("query", "key", "value"))
        return ops.transpose(self.attend(query, key, value), (0, 2, 1, 3))

    def lengths(self) -> tuple[int, int, int]:
        """The batch size, and how many queries and keys there are."""
        query, key = self.given["query"], self.given["key"]
        return query.shape[0], query.shape[2], key.shape[2]


class ProjectedDotProductAttention(AttentionFunction):
    """`keras.ops.dot_product_attention` between `keras.layers.Dense` projections: what the layers cannot express."""

    name = "keras.ops.dot_product_attention"
    layer = "multi_head_attention"
    inputs = ATTENTION_INPUTS
    weight_names = ATTENTION_WEIGHTS
    options: ClassVar = {"heads": None, "kv_heads": None, "scale": None, "causal": CAUSAL}
    parameters = (Parameter("kernel", "kernel", "channel out -> channel out"), Parameter("bias", "bias", "out -> out"))

    @classmethod
    def reason(cls, request: Request) -> str | None:
        """Not where a layer of Keras's own expresses the request."""
        for own in (MultiHeadAttention, GroupQueryAttention):
            if own.refuses(request) is None:
                return f"{own.name} is the layer for this"
        if "output_kernel" not in request.weights and "output_bias" in request.weights:
            return "has no output bias without an output projection"
        heads, kv_heads = request.config["heads"], request.config["kv_heads"]
        return backend_reason(
            cls.backend, head_dim(request), head_dim(request, "value"), kv_repeated=kv_heads == 1 != heads
        )

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self.dense = {p: self.build(p) for p in PROJECTIONS if f"{p}_kernel" in request.weights}

    def build(self, projection: str) -> Any:
        """The Dense layer of one projection."""
        from keras import layers

        weights = {k: self.request.weights.get(f"{projection}_{k}") for k in ("kernel", "bias")}
        given = {k: w for k, w in weights.items() if w is not None}
        width, units = given["kernel"].shape
        dense = layers.Dense(units, use_bias="bias" in given, dtype=self.request.dtype, name=projection)
        dense.build((None, None, width))
        self.load(dense, given)
        return dense

    def weights(self) -> dict[str, NDArray[Any]]:
        """The canonical weights, read back out of the layers."""
        return {
            f"{projection}_{variable.name}": to_numpy(variable.value)
            for projection, dense in self.dense.items()
            for variable in dense.weights
        }

    def __call__(self) -> Any:
        """The output, `batch query out`."""
        from keras import ops

        query_input = self.given["query_input"]
        key_input = self.given.get("key_input", query_input)
        value_input = self.given.get("value_input", key_input)
        heads = self.request.config["heads"]
        kv_heads = self.request.config["kv_heads"] or heads

        def split(projected: Any, count: int) -> Any:
            return ops.reshape(projected, (*projected.shape[:2], count, projected.shape[2] // count))

        query = split(self.dense["query"](query_input), heads)
        key = split(self.dense["key"](key_input), kv_heads)
        value = split(self.dense["value"](value_input), kv_heads)
        context = self.attend(query, key, value)
        merged = ops.reshape(context, (*context.shape[:2], context.shape[2] * context.shape[3]))
        return self.dense["output"](merged) if "output" in self.dense else merged

    def lengths(self) -> tuple[int, int, int]:
        """The batch size, and how many queries and keys there are."""
        query = self.given["query_input"]
        return query.shape[0], query.shape[1], self.given.get("key_input", query).shape[1]


def whole_mask(request: Request, batch: int, query: int, key: int) -> NDArray[Any] | None:
    """The request's mask with four axes. Keras's causal flag is top-left; bottom-right is asked for by the mask."""
    given = request.inputs.get("mask")
    mask = None if given is None else four_axes(given, batch, key)
    bottom_right = request.config["causal"] == "bottom-right"
    return joined(mask, causal_mask("bottom-right", query, key) if bottom_right else None)


def head_dim(request: Request, projection: str = "query") -> int:
    """The width of one head of a projection."""
    heads = request.config["heads"]
    count = heads if projection == "query" else request.config["kv_heads"] or heads
    return int(request.weights[f"{projection}_kernel"].shape[1]) // int(count)


def backend_reason(backend: str, dim: int, vdim: int, kv_repeated: bool) -> str | None:
    """What `keras.ops.dot_product_attention`, on which the layers rest, does not have on one of the back ends.

    Tried with Keras 3.15.1: each of these raises an error of shapes from inside Keras.
    """
    if backend == "jax" and vdim != dim:
        return "on JAX, takes values only as wide as keys (jax.nn.dot_product_attention refuses others)"
    if backend == "tensorflow" and kv_repeated:
        return "on TensorFlow, does not repeat a single key head for several query heads (its Einsum refuses)"
    return None
