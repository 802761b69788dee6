"""PyTorch's transformer layers: torch.nn.TransformerEncoderLayer and torch.nn.TransformerDecoderLayer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformance.layout import Parameter
from conformance_adapters.attention_mask import additive, causal_mask, is_padding, joined
from conformance_adapters.torch_subject import TorchSubject

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from conformance.trace import Request

_PARTS = ("query", "key", "value")


class _Transformer(TorchSubject):
    """What both layers have in common. `attentions` maps canonical parts to the module's names."""

    attentions: ClassVar[Mapping[str, str]]

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """One width throughout, the usual scale, ReLU or GELU, and no gate."""
        config, weights = request.config, request.weights
        width = request.inputs["x"].shape[-1]
        if config["activation"] not in ("relu", "gelu"):
            return f"its activations are relu and gelu, not {config['activation']}"
        if "feed_forward.gate_kernel" in weights:
            return "its feed-forward part has no gate"
        for part in cls.attentions:
            for option in ("window", "softcap", "rotary"):
                if config.get(f"{part}.{option}") is not None:
                    return f"it has no {option}"
            scale, dim = config.get(f"{part}.scale"), width / config["heads"]
            if scale is not None and abs(scale * math.sqrt(dim) - 1) > 2.0**-52:
                return f"it scales by 1/sqrt(head_dim), not by {scale!r}"
            kernels = [weights[f"{part}.{name}_kernel"] for name in _PARTS]
            if any(kernel.shape != (width, width) for kernel in kernels) or f"{part}.output_kernel" not in weights:
                return f"its projections have one width ({width}), the last of them too"
        if config.get("cross_attention.causal") is not None:
            return "its attention to the memory is not causal"
        return None

    def options(self) -> dict[str, Any]:
        """The constructor's arguments."""
        weights, config = self.request.weights, self.config
        return {
            "d_model": weights["feed_forward.expand_kernel"].shape[0],
            "nhead": config["heads"],
            "dim_feedforward": weights["feed_forward.expand_kernel"].shape[1],
            "dropout": 0.0,
            "batch_first": True,
            "bias": any(n.endswith("bias") for n in weights),
            **self.request.given("activation", activation=config["activation"]),
            **self.request.given("epsilon", layer_norm_eps=config["epsilon"]),
            **self.request.given("norm_first", norm_first=config["norm_first"]),
        }

    def layouts(self) -> Sequence[Parameter]:
        """Packed input projections; kernels `out in`."""
        return list(self._layouts())

    def _layouts(self) -> Iterator[Parameter]:
        for part, own in self.attentions.items():
            kernels, biases = (" ".join(f"{part}.{n}_{kind}" for n in _PARTS) for kind in ("kernel", "bias"))
            yield Parameter(f"{own}.in_proj_weight", kernels, "part channel hdim -> (part hdim) channel")
            yield Parameter(f"{own}.in_proj_bias", biases, "part hdim -> (part hdim)")
            yield from _linear(f"{own}.out_proj", f"{part}.output")
        yield from _linear("linear1", "feed_forward.expand")
        yield from _linear("linear2", "feed_forward.output")
        for number in range(1, len(self.attentions) + 2):
            yield Parameter(f"norm{number}.weight", f"norm{number}.scale", "channel -> channel")
            yield Parameter(f"norm{number}.bias", f"norm{number}.bias", "channel -> channel")

    def neutral(self) -> Mapping[str, NDArray[Any]]:
        """Ones for scales that are missing, and zeros for biases that are missing beside others."""
        weights = self.request.weights
        width, hidden = weights["feed_forward.expand_kernel"].shape
        made = {f"norm{n}.scale": np.ones(width) for n in range(1, len(self.attentions) + 2)}
        if any(n.endswith("bias") for n in weights):
            named = [n for p in self.layouts() for n in p.names if n.endswith("bias")]
            made |= {n: np.zeros(hidden if n == "feed_forward.expand_bias" else width) for n in named}
        return made

    def first(self, x: torch.Tensor) -> torch.Tensor:
        """Batch first as the canonical layer has it, or time first where the module does; and back."""
        return x if self.module.self_attn.batch_first else x.transpose(0, 1)

    def masks(self, name: str, queries: int, keys: int, causal: str | None) -> dict[str, torch.Tensor]:
        """The module's two masks, `attention` and `padding`, true where a key is blocked."""
        mask, batch = self.request.inputs.get(name), len(self.request.inputs["x"])
        allowed = None if causal is None else causal_mask(causal, queries, keys)
        made: dict[str, NDArray[Any]] = {}
        if mask is not None and is_padding(mask, batch, keys):
            made["padding"] = mask
        elif mask is not None:
            heads = self.config["heads"]
            whole = np.broadcast_to(mask if mask.ndim != 3 else mask[:, None], (batch, heads, queries, keys))
            allowed = joined(mask if mask.ndim == 2 else whole.reshape(batch * heads, queries, keys), allowed)
        if allowed is not None:
            made["attention"] = allowed
        if any(m.dtype != bool for m in made.values()):  # the module wants both masks of one kind
            return {n: self.tensor(additive(m)) for n, m in made.items()}
        return {n: self.tensor(~m) for n, m in made.items()}


def _linear(own: str, name: str) -> Iterator[Parameter]:
    yield Parameter(f"{own}.weight", f"{name}_kernel", "channel out -> out channel")
    yield Parameter(f"{own}.bias", f"{name}_bias", "out -> out")


class TransformerEncoderLayer(_Transformer):
    """torch.nn.TransformerEncoderLayer, in inference mode, in which it may take its fused path."""

    name: ClassVar[str] = "torch.nn.TransformerEncoderLayer"
    layer: ClassVar[str] = "transformer_encoder_layer"
    attentions: ClassVar = {"self_attention": "self_attn"}

    def make(self) -> torch.nn.Module:
        """The module."""
        from torch.nn import TransformerEncoderLayer as Module

        return Module(**self.options())

    def forward(self) -> torch.Tensor:
        """`batch time channel`."""
        x = self.inputs["x"]
        masks = self.masks("mask", x.shape[1], x.shape[1], self.config.get("causal"))
        return self.first(
            self.module(self.first(x), src_mask=masks.get("attention"), src_key_padding_mask=masks.get("padding"))
        )


class TransformerDecoderLayer(_Transformer):
    """torch.nn.TransformerDecoderLayer."""

    name: ClassVar[str] = "torch.nn.TransformerDecoderLayer"
    layer: ClassVar[str] = "transformer_decoder_layer"
    attentions: ClassVar = {"self_attention": "self_attn", "cross_attention": "multihead_attn"}

    def make(self) -> torch.nn.Module:
        """The module."""
        from torch.nn import TransformerDecoderLayer as Module

        return Module(**self.options())

    def forward(self) -> torch.Tensor:
        """`batch time channel`."""
        x, memory = self.inputs["x"], self.inputs["memory"]
        own = self.masks("mask", x.shape[1], x.shape[1], self.config.get("causal"))
        across = self.masks("memory_mask", x.shape[1], memory.shape[1], None)
        output = self.module(
            self.first(x),
            self.first(memory),
            tgt_mask=own.get("attention"),
            memory_mask=across.get("attention"),
            tgt_key_padding_mask=own.get("padding"),
            memory_key_padding_mask=across.get("padding"),
        )
        return self.first(output)


class FeedForward(TorchSubject):
    """The three modules in a row, as everyone writes the part."""

    name: ClassVar[str] = "torch.nn.Sequential(Linear, activation, Linear)"
    layer: ClassVar[str] = "feed_forward"
    activations: ClassVar = {"relu": "ReLU", "gelu": "GELU", "silu": "SiLU", "tanh": "Tanh", "sigmoid": "Sigmoid"}

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """A gate is no row of modules."""
        if "gate_kernel" in request.weights:
            return "a row of modules has no gate"
        wanted = request.config["activation"]
        return None if wanted in cls.activations else f"PyTorch has no module for the activation {wanted!r}"

    def make(self) -> torch.nn.Module:
        """The row."""
        from torch import nn

        weights = self.request.weights
        return nn.Sequential(
            nn.Linear(*weights["expand_kernel"].shape, bias="expand_bias" in weights),
            getattr(nn, self.activations[self.config["activation"]])(),
            nn.Linear(*weights["output_kernel"].shape, bias="output_bias" in weights),
        )

    def layouts(self) -> Sequence[Parameter]:
        """Kernels `out in`."""
        return [*_linear("0", "expand"), *_linear("2", "output")]

    def forward(self) -> torch.Tensor:
        """`* out`."""
        return self.module(self.inputs["x"])


SUBJECTS = (FeedForward, TransformerEncoderLayer, TransformerDecoderLayer)
