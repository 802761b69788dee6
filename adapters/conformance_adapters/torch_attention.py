"""Attention in PyTorch: torch.nn.MultiheadAttention and torch.nn.functional.scaled_dot_product_attention."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformance.layout import Parameter
from conformance_adapters.attention_mask import additive, causal_mask, four_axes, is_padding, joined, lacking
from conformance_adapters.torch_subject import TorchSubject

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from conformance.trace import Request

FUNCTION = "torch.nn.functional.scaled_dot_product_attention"
_BIASES = ("query_bias", "key_bias", "value_bias", "output_bias")


class MultiheadAttention(TorchSubject):
    """torch.nn.MultiheadAttention as its users call it: `need_weights` is left at its default, True.

    Its boolean masks are true where a key is blocked. Causality has no option of its own: it is a mask.
    """

    name: ClassVar[str] = "torch.nn.MultiheadAttention"
    layer: ClassVar[str] = "multi_head_attention"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """It has one width for query, key, value and output, and always scales by 1/sqrt(head_dim)."""
        config, weights = request.config, request.weights
        channel, hdim = weights["query_kernel"].shape
        scale, dim = config.get("scale"), hdim / config["heads"]
        if reason := lacking(config, "window", "softcap", "rotary"):
            return reason
        if config.get("kv_heads") not in (None, config["heads"]):
            return f"it has as many key heads as query heads, not {config['kv_heads']}"
        if scale is not None and abs(scale * math.sqrt(dim) - 1) > 2.0**-52:
            return f"it scales by 1/sqrt(head_dim), not by {scale!r}"
        if weights["key_kernel"].shape[1] != hdim or weights["value_kernel"].shape[1] != hdim:
            return f"its values are as wide as its queries ({hdim}), not {weights['value_kernel'].shape[1]}"
        if channel != hdim:
            return f"its queries ({hdim}) are as wide as its input ({channel})"
        if "output_kernel" in weights and weights["output_kernel"].shape[1] != hdim:
            return f"its output is as wide as its input ({hdim}), not {weights['output_kernel'].shape[1]}"
        return None

    @property
    def packed(self) -> bool:
        """Whether the module holds the three input projections in one parameter: it does where their shapes agree."""
        return self.module.in_proj_weight is not None

    def make(self) -> torch.nn.Module:
        """The module, with `kdim` and `vdim` where key and value inputs have another width."""
        from torch.nn import MultiheadAttention as Module

        weights = self.request.weights
        return Module(
            weights["query_kernel"].shape[1],
            self.config["heads"],
            bias=any(n in weights for n in _BIASES),
            kdim=weights["key_kernel"].shape[0],
            vdim=weights["value_kernel"].shape[0],
            batch_first=True,
        )

    def layouts(self) -> Sequence[Parameter]:
        """Packed or separate input projections, one bias for the three, `out_proj`."""
        separate = [
            Parameter(f"{short}_proj_weight", f"{name}_kernel", "channel hdim -> hdim channel")
            for short, name in (("q", "query"), ("k", "key"), ("v", "value"))
        ]
        packed = Parameter(
            "in_proj_weight", "query_kernel key_kernel value_kernel", "part channel hdim -> (part hdim) channel"
        )
        return [
            *([packed] if self.packed else separate),
            Parameter("in_proj_bias", "query_bias key_bias value_bias", "part hdim -> (part hdim)"),
            Parameter("out_proj.weight", "output_kernel", "hdim out -> out hdim"),
            Parameter("out_proj.bias", "output_bias", "out -> out"),
        ]

    def neutral(self) -> Mapping[str, NDArray[Any]]:
        """An identity for no output projection; zeros for the biases that are missing beside others."""
        hdim = self.request.weights["query_kernel"].shape[1]
        biases = _BIASES if any(n in self.request.weights for n in _BIASES) else ()
        return {"output_kernel": np.eye(hdim), **{n: np.zeros(hdim) for n in biases}}

    def prepare(self) -> None:
        """The masks, as the module takes them."""
        self.masks = {n: self.tensor(m) for n, m in self._masks().items()}

    def _masks(self) -> dict[str, NDArray[Any]]:
        inputs, heads, causal = self.request.inputs, self.config["heads"], self.config.get("causal")
        batch, query = inputs["query_input"].shape[:2]
        key = (inputs["query_input"] if inputs.get("key_input") is None else inputs["key_input"]).shape[1]
        mask = inputs.get("mask")
        allowed = None if causal is None else causal_mask(causal, query, key)
        masks: dict[str, NDArray[Any]] = {}
        if mask is not None and is_padding(mask, batch, key):
            masks["key_padding_mask"] = mask
        elif mask is not None and mask.ndim == 2:
            allowed = joined(mask, allowed)
        elif mask is not None:
            whole = np.broadcast_to(four_axes(mask, batch, key), (batch, heads, query, key))
            allowed = joined(whole.reshape(batch * heads, query, key), allowed)
        if allowed is not None:
            masks["attn_mask"] = allowed
        if any(m.dtype != bool for m in masks.values()):  # the module wants both masks of one kind
            return {n: additive(m) for n, m in masks.items()}
        return {n: ~m for n, m in masks.items()}

    def forward(self) -> torch.Tensor:
        """`batch query out`: the first of the two things that the module returns."""
        query = self.inputs["query_input"]
        key = self.inputs.get("key_input", query)
        value = self.inputs.get("value_input", key)
        if not self.module.batch_first:  # time first is its default
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        output = self.module(query, key, value, **self.masks)[0]
        return output if self.module.batch_first else output.transpose(0, 1)


class _DotProduct(TorchSubject):
    """What both users of the function have in common: its options."""

    name: ClassVar[str] = FUNCTION

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """It has neither a window nor a soft cap."""
        return lacking(request.config, "window", "softcap", "rotary")

    def options(self, batch: int, query: int, key: int, heads: int, kv_heads: int) -> dict[str, Any]:
        """The keyword arguments of the function; what has no option of its own is a boolean mask."""
        causal, mask = self.config.get("causal"), self.request.inputs.get("mask")
        whole = None if mask is None else four_axes(mask, batch, key)
        options: dict[str, Any] = {"scale": self.config.get("scale"), "enable_gqa": kv_heads != heads}
        if causal == "top-left" and whole is None:
            return {**options, "is_causal": True}
        whole = joined(whole, None if causal is None else causal_mask(causal, query, key))
        return {**options, "attn_mask": None if whole is None else self.tensor(whole)}


class ScaledDotProductAttention(_DotProduct):
    """The function itself."""

    layer: ClassVar[str] = "scaled_dot_product_attention"

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        batch, heads, query, _ = request.inputs["query"].shape
        _, kv_heads, key, _ = request.inputs["key"].shape
        self.arguments = self.options(batch, query, key, heads, kv_heads)

    def make(self) -> torch.nn.Module:
        """No weights: nothing."""
        from torch.nn import Identity

        return Identity()

    def forward(self) -> torch.Tensor:
        """`batch head query vdim`."""
        from torch.nn.functional import scaled_dot_product_attention

        given = self.inputs
        return scaled_dot_product_attention(given["query"], given["key"], given["value"], **self.arguments)


class ProjectedDotProductAttention(_DotProduct):
    """The function between projections by torch.nn.Linear: for widths that nn.MultiheadAttention cannot have."""

    layer: ClassVar[str] = "multi_head_attention"
    _PARTS = ("query", "key", "value", "output")

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """As the function; and a bias of the output needs an output projection."""
        if "output_bias" in request.weights and "output_kernel" not in request.weights:
            return "an output bias without an output kernel"
        return super().refuses(request)

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        batch, query = request.inputs["query_input"].shape[:2]
        key = self.inputs.get("key_input", self.inputs["query_input"]).shape[1]
        self.heads = self.config["heads"]
        self.kv_heads = self.config.get("kv_heads") or self.heads
        self.arguments = self.options(batch, query, key, self.heads, self.kv_heads)

    def make(self) -> torch.nn.Module:
        """One torch.nn.Linear per kernel."""
        from torch.nn import Linear, ModuleDict

        weights = self.request.weights
        return ModuleDict(
            {
                part: Linear(*weights[f"{part}_kernel"].shape, bias=f"{part}_bias" in weights)
                for part in self._PARTS
                if f"{part}_kernel" in weights
            }
        )

    def layouts(self) -> Sequence[Parameter]:
        """`out in`, as torch.nn.Linear has it."""
        return [
            parameter
            for part in self._PARTS
            for parameter in (
                Parameter(f"{part}.weight", f"{part}_kernel", "channel out -> out channel"),
                Parameter(f"{part}.bias", f"{part}_bias", "out -> out"),
            )
        ]

    def forward(self) -> torch.Tensor:
        """`batch query out`."""
        from torch.nn.functional import scaled_dot_product_attention

        inputs, project = self.inputs, self.module
        query_input = inputs["query_input"]
        key_input = inputs.get("key_input", query_input)
        value_input = inputs.get("value_input", key_input)
        query = project["query"](query_input).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key = project["key"](key_input).unflatten(-1, (self.kv_heads, -1)).transpose(1, 2)
        value = project["value"](value_input).unflatten(-1, (self.kv_heads, -1)).transpose(1, 2)
        context = scaled_dot_product_attention(query, key, value, **self.arguments)
        merged = context.transpose(1, 2).flatten(2)
        return project["output"](merged) if "output" in project else merged


SUBJECTS = (MultiheadAttention, ProjectedDotProductAttention, ScaledDotProductAttention)
