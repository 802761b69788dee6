"""Attention in ONNX: the operator of the default domain, and ONNX Runtime's own of com.microsoft."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformance.layout import Parameter
from conformance_adapters.attention_mask import additive, causal_mask, four_axes, is_padding, joined, lacking
from conformance_adapters.onnx_subject import OnnxSubject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.trace import Request


class _Attention(OnnxSubject):
    """The operator Attention, opset 23, with what both of its users ask of it.

    It can give the scores at four points, one per node (`qk_matmul_output_mode`), so the observed model has
    one more node for each point that the request has: the kernel's own values, in the order of the flow.
    """

    name: ClassVar[str] = "onnx.Attention"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """It has neither a window nor rotary positions; its dtypes are those of the runtime's kernels."""
        return lacking(request.config, "window", "rotary")

    def attend(self, tensors: tuple[str, str, str], sizes: tuple[int, int, int], **heads: int) -> str:
        """The nodes for query, key and value; `sizes` are batch, query and key."""
        batch, query, key = sizes
        causal, mask, softcap = self.config.get("causal"), self.given.get("mask"), self.config.get("softcap")
        whole = None if mask is None else four_axes(mask, batch, key)
        if causal == "bottom-right":
            whole = joined(whole, causal_mask(causal, query, key))
        arguments = list(tensors)
        if whole is not None:
            if whole.ndim == 4:  # the kernel broadcasts over batch and head only
                whole = np.broadcast_to(whole, (*whole.shape[:2], query, key))
            arguments.append(self.graph.input("mask", whole))
        scale, top_left = self.config.get("scale"), 1 if causal == "top-left" else None
        attributes: dict[str, Any] = {"scale": scale, "softcap": softcap, "is_causal": top_left, **heads}
        masked = whole is not None or top_left is not None
        for mode, name, exists in (
            (0, "scaled", True),
            (1, "softcapped", softcap is not None),
            (2, "masked", masked),
            (3, "probabilities", True),
        ):
            if exists:
                extra = ("", "", f"qk_matmul_output.{name}")
                self.graph.add(
                    "Attention",
                    *arguments,
                    name=f"attention.{name}",
                    extra=extra,
                    probe=True,
                    qk_matmul_output_mode=mode,
                    **attributes,
                )
        return self.graph.add("Attention", *arguments, name="attention", **attributes)


class DotProductAttention(_Attention):
    """The operator with inputs of four axes."""

    layer: ClassVar[str] = "scaled_dot_product_attention"

    def build(self) -> str:
        """`batch head query vdim`."""
        query, key = self.given["query"].shape, self.given["key"].shape
        tensors = (self.input("query"), self.input("key"), self.input("value"))
        return self.attend(tensors, (query[0], query[2], key[2]))


class _Projected(OnnxSubject):
    """Projections by MatMul and Add around an attention operator whose inputs are `batch time hdim`."""

    layer: ClassVar[str] = "multi_head_attention"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """A bias of the output needs an output projection."""
        if "output_bias" in request.weights and "output_kernel" not in request.weights:
            return "an output bias without an output kernel"
        return super().refuses(request)

    def layouts(self) -> Sequence[Parameter]:
        """As they are: MatMul maps `in -> out`."""
        return [
            parameter
            for part in ("query", "key", "value", "output")
            for parameter in (
                Parameter(f"{part}_kernel", f"{part}_kernel", "channel out -> channel out"),
                Parameter(f"{part}_bias", f"{part}_bias", "out -> out"),
            )
        ]

    def projected(self, part: str, of: str) -> str:
        """The nodes of one projection."""
        product = self.graph.add("MatMul", of, f"{part}_kernel", name=f"{part}_product")
        bias = self.held(f"{part}_bias")
        return self.graph.add("Add", product, bias, name=f"{part}_projection") if bias else product

    def build(self) -> str:
        """`batch query out`."""
        query = self.input("query_input")
        key = self.input("key_input") if "key_input" in self.given else query
        value = self.input("value_input") if "value_input" in self.given else key
        tensors = (self.projected("query", query), self.projected("key", key), self.projected("value", value))
        batch, time, _ = self.given["query_input"].shape
        merged = self.operator(tensors, (batch, time, self.given.get("key_input", self.given["query_input"]).shape[1]))
        return self.projected("output", merged) if self.held("output_kernel") else merged

    def operator(self, tensors: tuple[str, str, str], sizes: tuple[int, int, int]) -> str:
        """The attention between the projections: `batch query hvdim`."""
        raise NotImplementedError


class ProjectedAttention(_Projected, _Attention):
    """The operator of the default domain, between projections."""

    def operator(self, tensors: tuple[str, str, str], sizes: tuple[int, int, int]) -> str:
        """It splits and merges the heads itself."""
        heads = self.config["heads"]
        return self.attend(tensors, sizes, q_num_heads=heads, kv_num_heads=self.config.get("kv_heads") or heads)


class MultiHeadAttention(_Projected):
    """com.microsoft.MultiHeadAttention between projections.

    A boolean mask of `batch key` is its `key_padding_mask`, which adds -10000 (its default), every other
    one its `attention_bias`, which is added as it is.
    """

    name: ClassVar[str] = "com.microsoft.MultiHeadAttention"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """It has as many key heads as query heads, and no window, soft cap or rotary positions."""
        config = request.config
        if config.get("kv_heads") not in (None, config["heads"]):
            return f"it has as many key heads as query heads, not {config['kv_heads']}"
        if request.dtype == "float64":
            return "it does not compute in float64"
        return lacking(config, "window", "softcap", "rotary") or super().refuses(request)

    def operator(self, tensors: tuple[str, str, str], sizes: tuple[int, int, int]) -> str:
        """It splits and merges the heads itself; the observed model asks for its fourth output, the scores."""
        batch, query, key = sizes
        mask, causal = self.given.get("mask"), self.config.get("causal")
        padding = bias = ""
        if mask is not None and mask.dtype == bool and is_padding(mask, batch, key):
            padding, mask = self.graph.input("key_padding_mask", mask.astype(np.int32)), None
        allowed = causal_mask(causal, query, key) if causal == "bottom-right" else None
        whole = joined(None if mask is None else four_axes(mask, batch, key), allowed)
        if whole is not None:
            bias = self.graph.input("attention_bias", self._bias(whole, query, key))
        self.graph.types["qk"] = self.graph.dtype
        return self.graph.add(
            "MultiHeadAttention",
            *tensors,
            *(("", padding, bias) if padding or bias else ()),
            name="attention",
            extra=("", "", "qk"),
            domain="com.microsoft",
            num_heads=self.config["heads"],
            scale=self.config.get("scale"),
            unidirectional=1 if causal == "top-left" else None,
        )

    @staticmethod
    def _bias(mask: NDArray[Any], query: int, key: int) -> NDArray[np.float64]:
        whole = mask.reshape((1,) * (4 - mask.ndim) + mask.shape)
        return additive(np.broadcast_to(whole, (*whole.shape[:2], query, key)))


SUBJECTS = (ProjectedAttention, MultiHeadAttention, DotProductAttention)
